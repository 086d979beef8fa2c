//! The mesh configuration: ConfigMap `ambit` in `ambit-system`, key `mesh`, with the fields of Istio's MeshConfig.

mod provider;
mod unused;

use ambit_api::identity::TrustDomain;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::meta::ObjectMeta;
use crate::virtual_service::Retry;

pub use provider::{
    DefaultConfig, DefaultProviders, ExtensionProvider, FileAccessLog, LogFormat, OpenTelemetry, OtlpGrpc,
    OtlpHttp, ProviderKind, TracingConfig, Zipkin,
};

/// Namespace of the ConfigMap.
pub const NAMESPACE: &str = "ambit-system";
/// Name of the ConfigMap.
pub const NAME: &str = "ambit";
/// Key in the ConfigMap's data.
pub const KEY: &str = "mesh";

/// The mesh configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: MeshConfigSpec,
}

/// What the mesh configuration says; unset fields have Istio's defaults. Fields that nothing obeys yet are kept as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MeshConfigSpec {
    /// Where policies without a selector apply to the whole mesh.
    pub root_namespace: String,
    /// Trust domain of the mesh's identities.
    #[serde(deserialize_with = "trust_domain")]
    pub trust_domain: TrustDomain,
    /// Names that policies may use for the trust domain.
    #[serde(deserialize_with = "trust_domains")]
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// Where policies are enforced.
    pub policy: PolicyConfig,
    /// Namespaces the mesh looks at.
    pub discovery_selectors: Vec<Value>,
    /// External authorizers, tracers, log sinks.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Which of those are used by default.
    pub default_providers: DefaultProviders,
    /// Access log file; empty for no log. `/dev/stdout` is the proxy's own output.
    pub access_log_file: String,
    /// Access log format: Envoy's operators for text, a JSON object for JSON; empty for the default.
    pub access_log_format: String,
    /// Access log encoding.
    pub access_log_encoding: AccessLogEncoding,
    /// How paths are normalised before they are compared.
    pub path_normalization: PathNormalizationConfig,
    /// Retries where a route says nothing.
    #[serde(rename = "defaultHttpRetryPolicy")]
    pub default_http_retry_policy: Option<Retry>,
    /// Proxies' defaults.
    pub default_config: DefaultConfig,
    /// What happens to unknown destinations.
    pub outbound_traffic_policy: Value,
    /// Tracing on or off.
    pub enable_tracing: bool,
    /// How long a proxy waits for the first byte.
    pub protocol_detection_timeout: Value,
    /// How long a connect may take.
    pub connect_timeout: Value,
    /// TLS parameters of the mesh.
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Value,
    /// Other TLS defaults.
    pub tls_defaults: Value,
    /// TCP keepalive.
    pub tcp_keepalive: Value,
    /// Load balancing by locality.
    pub locality_lb_setting: Value,
    /// Visibility of services.
    pub default_service_export_to: Value,
    /// Visibility of VirtualServices.
    pub default_virtual_service_export_to: Value,
    /// Visibility of DestinationRules.
    pub default_destination_rule_export_to: Value,
    /// Settings of single services.
    pub service_settings: Value,
    /// Whether metrics of the application are merged.
    pub enable_prometheus_merge: Value,
    /// Automatic mutual TLS of sidecars.
    pub enable_auto_mtls: Value,
    /// Sidecars' automatic protocol choice.
    pub h2_upgrade_policy: Value,
    /// Ingress controller mode.
    pub ingress_controller_mode: Value,
    /// Ingress class.
    pub ingress_class: Value,
    /// Ingress service.
    pub ingress_service: Value,
    /// Ingress selector.
    pub ingress_selector: Value,
    /// Certificate authorities.
    pub ca_certificates: Value,
    /// Service scope.
    pub service_scope_configs: Value,
    /// How DNS names are refreshed.
    pub dns_refresh_rate: Value,
}

/// Where policies are enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Ambit's rules, or Istio's.
    pub placement: PolicyPlacement,
}

/// Whose rules decide where a policy is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyPlacement {
    /// Ambit's.
    #[default]
    Ambit,
    /// Istio's.
    Istio,
}

/// How access logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessLogEncoding {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object in a line.
    Json,
}

/// How paths are normalised before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathNormalizationConfig {
    /// Which way.
    pub normalization: PathNormalization,
}

/// A way to normalise paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// As BASE.
    #[default]
    Default,
    /// Not at all.
    None,
    /// Dot segments and backslashes.
    Base,
    /// BASE, and runs of slashes become one.
    MergeSlashes,
    /// MERGE_SLASHES after %2F and %5C were decoded.
    DecodeAndMergeSlashes,
}

impl Default for MeshConfigSpec {
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".to_owned(),
            trust_domain: TrustDomain::default(),
            trust_domain_aliases: Vec::new(),
            policy: PolicyConfig::default(),
            discovery_selectors: Vec::new(),
            extension_providers: Vec::new(),
            default_providers: DefaultProviders::default(),
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::default(),
            path_normalization: PathNormalizationConfig::default(),
            default_http_retry_policy: None,
            default_config: DefaultConfig::default(),
            outbound_traffic_policy: Value::Null,
            enable_tracing: false,
            protocol_detection_timeout: Value::Null,
            connect_timeout: Value::Null,
            mesh_mtls: Value::Null,
            tls_defaults: Value::Null,
            tcp_keepalive: Value::Null,
            locality_lb_setting: Value::Null,
            default_service_export_to: Value::Null,
            default_virtual_service_export_to: Value::Null,
            default_destination_rule_export_to: Value::Null,
            service_settings: Value::Null,
            enable_prometheus_merge: Value::Null,
            enable_auto_mtls: Value::Null,
            h2_upgrade_policy: Value::Null,
            ingress_controller_mode: Value::Null,
            ingress_class: Value::Null,
            ingress_service: Value::Null,
            ingress_selector: Value::Null,
            ca_certificates: Value::Null,
            service_scope_configs: Value::Null,
            dns_refresh_rate: Value::Null,
        }
    }
}

fn trust_domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TrustDomain, D::Error> {
    Ok(Alias::deserialize(deserializer)?.0)
}

fn trust_domains<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TrustDomain>, D::Error> {
    Ok(Vec::<Alias>::deserialize(deserializer)?.into_iter().map(|alias| alias.0).collect())
}

struct Alias(TrustDomain);

impl<'de> Deserialize<'de> for Alias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = TrustDomain::new(&text);
        parsed.map(Self).map_err(|_| {
            serde::de::Error::custom(format!(
                "{text:?} is not a trust domain; write for example cluster.local"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
