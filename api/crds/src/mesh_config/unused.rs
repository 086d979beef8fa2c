//! What the mesh configuration says to no effect, and what is wrong with it beyond the shape of its fields.

use serde_json::Value;

use super::{MeshConfigSpec, ProviderKind};
use crate::check::{At, Check, Wrong, each};
use crate::virtual_service::check::rule::check_retry;

impl MeshConfigSpec {
    /// Fields that are set, known, and obeyed by nothing.
    pub fn unused(&self) -> Vec<String> {
        let plain = [
            ("outboundTrafficPolicy", &self.outbound_traffic_policy),
            ("protocolDetectionTimeout", &self.protocol_detection_timeout),
            ("connectTimeout", &self.connect_timeout),
            ("meshMTLS", &self.mesh_mtls),
            ("tlsDefaults", &self.tls_defaults),
            ("tcpKeepalive", &self.tcp_keepalive),
            ("localityLbSetting", &self.locality_lb_setting),
            ("defaultServiceExportTo", &self.default_service_export_to),
            ("defaultVirtualServiceExportTo", &self.default_virtual_service_export_to),
            ("defaultDestinationRuleExportTo", &self.default_destination_rule_export_to),
            ("serviceSettings", &self.service_settings),
            ("enablePrometheusMerge", &self.enable_prometheus_merge),
            ("enableAutoMtls", &self.enable_auto_mtls),
            ("h2UpgradePolicy", &self.h2_upgrade_policy),
            ("ingressControllerMode", &self.ingress_controller_mode),
            ("ingressClass", &self.ingress_class),
            ("ingressService", &self.ingress_service),
            ("ingressSelector", &self.ingress_selector),
            ("caCertificates", &self.ca_certificates),
            ("serviceScopeConfigs", &self.service_scope_configs),
            ("dnsRefreshRate", &self.dns_refresh_rate),
        ];
        let set = plain.into_iter().filter(|(_, value)| !matches!(value, Value::Null));
        let mut fields: Vec<String> = set.map(|(field, _)| field.to_owned()).collect();
        if !self.discovery_selectors.is_empty() {
            fields.push("discoverySelectors".to_owned());
        }
        for (place, provider) in self.extension_providers.iter().enumerate() {
            if let ProviderKind::Other(kind) = &provider.kind {
                fields.push(format!("extensionProviders[{place}].{kind}"));
            }
        }
        let config = &self.default_config;
        fields.extend(config.others.keys().map(|key| format!("defaultConfig.{key}")));
        fields.extend(config.tracing.others.keys().map(|key| format!("defaultConfig.tracing.{key}")));
        fields
    }
}

impl Check for MeshConfigSpec {
    fn check(&self) -> Result<(), Wrong> {
        if let Some(retry) = &self.default_http_retry_policy {
            check_retry(retry).at("defaultHttpRetryPolicy")?;
        }
        let mut names = std::collections::BTreeSet::new();
        each("extensionProviders", &self.extension_providers, |one| {
            if one.name.is_empty() {
                return Err(Wrong::new("it is empty; write the provider's name").under("name"));
            }
            if !names.insert(one.name.as_str()) {
                return Err(Wrong::new(format!("{:?} is there twice; rename one", one.name)).under("name"));
            }
            Ok(())
        })
    }
}
