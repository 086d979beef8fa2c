//! What is wrong with a DestinationRule beyond the shape of its fields.

use std::collections::BTreeSet;

use super::{
    ClientTls, ConnectionPool, DestinationRuleSpec, LoadBalancer, LocalitySetting, OutlierDetection, Subset,
    TlsMode, TrafficPolicy,
};
use crate::check::{
    At, Check, Wrong, at_least_a_millisecond, each, export_to, host, label_name, labels, percent,
};

impl Check for DestinationRuleSpec {
    fn check(&self) -> Result<(), Wrong> {
        if self.host.is_empty() {
            return Err(Wrong::new("no service is named; write its name").under("host"));
        }
        if self.host != "*" && self.host.parse::<std::net::IpAddr>().is_err() {
            host(&self.host).at("host")?;
        }
        if let Some(policy) = &self.traffic_policy {
            traffic_policy(policy).at("trafficPolicy")?;
        }
        let mut seen = BTreeSet::new();
        if let Some(place) = self.subsets.iter().position(|subset| !seen.insert(&subset.name)) {
            let sentence = format!("{:?} is there twice; rename one", self.subsets[place].name);
            return Err(Wrong::new(sentence).under(&format!("subsets[{place}].name")));
        }
        each("subsets", &self.subsets, subset)?;
        each("exportTo", &self.export_to, |to| export_to(to))?;
        labels(&self.workload_selector.match_labels).at("workloadSelector.matchLabels")
    }
}

fn subset(subset: &Subset) -> Result<(), Wrong> {
    label_name(&subset.name).at("name")?;
    labels(&subset.labels).at("labels")?;
    subset.traffic_policy.as_ref().map_or(Ok(()), traffic_policy).at("trafficPolicy")
}

fn traffic_policy(policy: &TrafficPolicy) -> Result<(), Wrong> {
    let blocks = (&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection, &policy.tls);
    check_blocks(blocks)?;
    each("portLevelSettings", &policy.port_level_settings, |one| {
        if one.port.is_none() {
            return Err(Wrong::new("it does not say which port it is for; write port.number").under("port"));
        }
        check_blocks((&one.load_balancer, &one.connection_pool, &one.outlier_detection, &one.tls))
    })?;
    if let Some(tunnel) = &policy.tunnel {
        if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
            return Err(Wrong::new("unknown protocol; write CONNECT or POST").under("tunnel.protocol"));
        }
        if tunnel.target_host.parse::<std::net::IpAddr>().is_err() {
            host(&tunnel.target_host).at("tunnel.targetHost")?;
        }
    }
    Ok(())
}

type Blocks<'a> = (
    &'a Option<LoadBalancer>,
    &'a Option<ConnectionPool>,
    &'a Option<OutlierDetection>,
    &'a Option<ClientTls>,
);

fn check_blocks((balancer, pool, outliers, tls): Blocks<'_>) -> Result<(), Wrong> {
    balancer.as_ref().map_or(Ok(()), load_balancer).at("loadBalancer")?;
    pool.as_ref().map_or(Ok(()), connection_pool).at("connectionPool")?;
    outliers.as_ref().map_or(Ok(()), outlier_detection).at("outlierDetection")?;
    tls.as_ref().map_or(Ok(()), client_tls).at("tls")
}

fn load_balancer(balancer: &LoadBalancer) -> Result<(), Wrong> {
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        return Err(
            Wrong::new("both simple and consistentHash are set; keep one of them").under("consistentHash")
        );
    }
    at_least_a_millisecond(balancer.warmup_duration_secs).at("warmupDurationSecs")?;
    if let Some(warmup) = &balancer.warmup {
        if warmup.duration.is_none() {
            return Err(Wrong::new("it does not say how long; write duration").under("warmup.duration"));
        }
        at_least_a_millisecond(warmup.duration).at("warmup.duration")?;
    }
    balancer.locality_lb_setting.as_ref().map_or(Ok(()), locality).at("localityLbSetting")
}

fn locality(setting: &LocalitySetting) -> Result<(), Wrong> {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        return Err(Wrong::new("both distribute and failover are set; keep one of them").under("failover"));
    }
    each("distribute", &setting.distribute, |one| {
        let sum: u64 = one.to.values().copied().map(u64::from).sum();
        if sum == 100 {
            return Ok(());
        }
        Err(Wrong::new(format!("the shares sum to {sum}; make them 100")).under("to"))
    })?;
    each("failover", &setting.failover, |one| {
        if one.from == one.to {
            return Err(Wrong::new("a region cannot stand in for itself; name another one").under("to"));
        }
        Ok(())
    })
}

fn connection_pool(pool: &ConnectionPool) -> Result<(), Wrong> {
    let (tcp, http) = (&pool.tcp, &pool.http);
    at_least_a_millisecond(tcp.connect_timeout).at("tcp.connectTimeout")?;
    at_least_a_millisecond(tcp.max_connection_duration).at("tcp.maxConnectionDuration")?;
    at_least_a_millisecond(http.idle_timeout).at("http.idleTimeout")?;
    if http.use_client_protocol == Some(true) && http.h2_upgrade_policy == super::H2UpgradePolicy::Upgrade {
        let sentence = "both useClientProtocol and h2UpgradePolicy UPGRADE are set; keep one of them";
        return Err(Wrong::new(sentence).under("http.useClientProtocol"));
    }
    Ok(())
}

fn outlier_detection(outliers: &OutlierDetection) -> Result<(), Wrong> {
    at_least_a_millisecond(outliers.interval).at("interval")?;
    at_least_a_millisecond(outliers.base_ejection_time).at("baseEjectionTime")?;
    percent(outliers.max_ejection_percent).at("maxEjectionPercent")?;
    percent(outliers.min_health_percent).at("minHealthPercent")?;
    if outliers.consecutive_local_origin_failures.is_some_and(|count| count > 0)
        && outliers.split_external_local_origin_errors != Some(true)
    {
        let sentence = "it counts only with splitExternalLocalOriginErrors; set that to true, or remove it";
        return Err(Wrong::new(sentence).under("consecutiveLocalOriginFailures"));
    }
    each("outlierDetectionHttpErrorCodes", &outliers.outlier_detection_http_error_codes, |code| {
        if (100..600).contains(code) {
            return Ok(());
        }
        Err(Wrong::new(format!("{code} is no status; write one from 100 to 599")))
    })
}

fn client_tls(tls: &ClientTls) -> Result<(), Wrong> {
    let files = !tls.client_certificate.is_empty() || !tls.private_key.is_empty();
    let both = !tls.client_certificate.is_empty() && !tls.private_key.is_empty();
    match tls.mode {
        TlsMode::Mutual if tls.credential_name.is_empty() && !both => Err(Wrong::new(
            "MUTUAL needs a certificate; write clientCertificate and privateKey, or credentialName",
        )
        .under("mode")),
        TlsMode::IstioMutual
            if files || !tls.ca_certificates.is_empty() || !tls.credential_name.is_empty() =>
        {
            Err(Wrong::new("ISTIO_MUTUAL uses the mesh's own certificates; remove the others").under("mode"))
        }
        _ => Ok(()),
    }
}
