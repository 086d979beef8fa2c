//! One traffic policy: what of it is sent, and what nothing obeys yet.

use ambit_api::wire::waypoint::traffic_policy::LoadBalancer as Wire;
use ambit_api::wire::waypoint::{OutlierDetection as WireOutlier, TrafficPolicy as WirePolicy};
use ambit_crds::code::Code;
use ambit_crds::destination_rule::{
    ClientTls, ConnectionPool, DestinationRule, H2UpgradePolicy, LoadBalancer, OutlierDetection,
    PortTrafficPolicy, SimpleBalancer, TlsMode, TrafficPolicy,
};
use ambit_crds::meta::ObjectRef;

use super::super::draft::{Draft, Remark};
use super::super::millis;

/// What is off or on where outlierDetection says nothing else.
const CONSECUTIVE: u32 = 5;
const INTERVAL_MS: u32 = 10_000;
const EJECTION_MS: u32 = 30_000;
const MAX_EJECTION_PERCENT: u32 = 10;

/// The blocks of a policy, each replaced as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocks<'a> {
    balancer: Option<&'a LoadBalancer>,
    pool: Option<&'a ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTls>,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(one: &'a TrafficPolicy) -> Self {
        Self {
            balancer: one.load_balancer.as_ref(),
            pool: one.connection_pool.as_ref(),
            outlier: one.outlier_detection.as_ref(),
            tls: one.tls.as_ref(),
        }
    }

    pub(super) fn of_port(one: &'a PortTrafficPolicy) -> Self {
        Self {
            balancer: one.load_balancer.as_ref(),
            pool: one.connection_pool.as_ref(),
            outlier: one.outlier_detection.as_ref(),
            tls: one.tls.as_ref(),
        }
    }

    /// These, and where there is none those below.
    pub(super) fn over(&self, below: &Self) -> Self {
        Self {
            balancer: self.balancer.or(below.balancer),
            pool: self.pool.or(below.pool),
            outlier: self.outlier.or(below.outlier),
            tls: self.tls.or(below.tls),
        }
    }
}

/// What is sent of a policy.
pub(super) fn wire(blocks: &Blocks<'_>) -> WirePolicy {
    let mut wire = WirePolicy {
        load_balancer: blocks.balancer.map_or(Wire::LeastRequest, balancer).into(),
        outlier: blocks.outlier.map(outlier),
        ..WirePolicy::default()
    };
    if let Some(ConnectionPool { tcp, http }) = blocks.pool {
        wire.max_connections = tcp.max_connections.unwrap_or_default();
        wire.connect_timeout_ms = millis(tcp.connect_timeout);
        wire.max_pending_requests = http.http1_max_pending_requests.unwrap_or_default();
        wire.max_requests = http.http2_max_requests.unwrap_or_default();
        wire.max_requests_per_connection = http.max_requests_per_connection.unwrap_or_default();
        wire.max_retries = http.max_retries.unwrap_or_default();
        wire.idle_timeout_ms = millis(http.idle_timeout);
        wire.max_concurrent_streams = http.max_concurrent_streams.unwrap_or_default();
        wire.upgrade_to_h2 = http.h2_upgrade_policy == H2UpgradePolicy::Upgrade;
    }
    wire
}

fn balancer(one: &LoadBalancer) -> Wire {
    // A hash is not looked at yet; a request without its key may go anywhere.
    if one.consistent_hash.is_some() {
        return Wire::Random;
    }
    match one.simple.unwrap_or_default() {
        SimpleBalancer::RoundRobin => Wire::RoundRobin,
        SimpleBalancer::Random => Wire::Random,
        SimpleBalancer::Unspecified
        | SimpleBalancer::LeastConn
        | SimpleBalancer::LeastRequest
        | SimpleBalancer::Passthrough => Wire::LeastRequest,
    }
}

fn outlier(one: &OutlierDetection) -> WireOutlier {
    let split = one.split_external_local_origin_errors.unwrap_or(false);
    // Where the superseded consecutiveErrors is written, gateway errors count and nothing else does.
    let old = one.consecutive_errors.filter(|count| *count > 0);
    let answers = if old.is_some() { 0 } else { CONSECUTIVE };
    WireOutlier {
        consecutive_5xx: one.consecutive_5xx_errors.unwrap_or(answers),
        consecutive_gateway: one.consecutive_gateway_errors.or(old).unwrap_or_default(),
        consecutive_local: match split {
            true => one.consecutive_local_origin_failures.unwrap_or(CONSECUTIVE),
            false => 0,
        },
        split_local: split,
        interval_ms: one.interval.map_or(INTERVAL_MS, |time| millis(Some(time))),
        base_ejection_ms: one.base_ejection_time.map_or(EJECTION_MS, |time| millis(Some(time))),
        max_ejection_percent: one.max_ejection_percent.unwrap_or(MAX_EJECTION_PERCENT),
        min_health_percent: one.min_health_percent.unwrap_or_default(),
    }
}

/// Says what of a DestinationRule is obeyed otherwise than written, or not yet.
pub(crate) fn remarks(object: &ObjectRef, one: &DestinationRule, draft: &mut Draft) {
    let mut policies: Vec<(String, &TrafficPolicy)> = Vec::new();
    policies.extend(one.spec.traffic_policy.iter().map(|policy| ("trafficPolicy".to_owned(), policy)));
    for (at, subset) in one.spec.subsets.iter().enumerate() {
        let own = subset.traffic_policy.iter();
        policies.extend(own.map(|policy| (format!("subsets[{at}].trafficPolicy"), policy)));
    }
    for (path, policy) in policies {
        let whole = [
            ("tunnel", policy.tunnel.is_some()),
            ("proxyProtocol", policy.proxy_protocol.is_some()),
            ("retryBudget", policy.retry_budget.is_some()),
        ];
        for (field, _) in whole.into_iter().filter(|(_, used)| *used) {
            draft.not_yet(object, format!("{path}.{field}"));
        }
        remark_blocks(object, &path, &Blocks::of(policy), draft);
        for (at, port) in policy.port_level_settings.iter().enumerate() {
            let path = format!("{path}.portLevelSettings[{at}]");
            remark_blocks(object, &path, &Blocks::of_port(port), draft);
        }
    }
}

fn remark_blocks(object: &ObjectRef, path: &str, blocks: &Blocks<'_>, draft: &mut Draft) {
    let mut not_yet = |field: &str, used: bool| {
        if used {
            draft.not_yet(object, format!("{path}.{field}"));
        }
    };
    if let Some(one) = blocks.balancer {
        not_yet("loadBalancer.consistentHash", one.consistent_hash.is_some());
        not_yet("loadBalancer.localityLbSetting", one.locality_lb_setting.is_some());
        not_yet("loadBalancer.warmup", one.warmup.is_some() || one.warmup_duration_secs.is_some());
    }
    if let Some(ConnectionPool { tcp, http }) = blocks.pool {
        not_yet("connectionPool.tcp.tcpKeepalive", tcp.tcp_keepalive.is_some());
        not_yet("connectionPool.tcp.maxConnectionDuration", tcp.max_connection_duration.is_some());
        not_yet("connectionPool.tcp.idleTimeout", tcp.idle_timeout.is_some());
        not_yet("connectionPool.http.useClientProtocol", http.use_client_protocol == Some(true));
        not_yet("connectionPool.http.http2KeepAlive", http.http2_keep_alive.is_some());
    }
    let mode = blocks.tls.map(|tls| tls.mode);
    not_yet("tls", matches!(mode, Some(TlsMode::Simple | TlsMode::Mutual)));
    if matches!(mode, Some(TlsMode::Disable | TlsMode::IstioMutual)) {
        let text = "between pods of the mesh mutual TLS is always spoken, so the mode changes nothing";
        draft.remark(object, Remark::new(Code::FieldMeansLess, format!("{path}.tls"), text));
    }
    match blocks.balancer.and_then(|one| one.simple) {
        Some(SimpleBalancer::LeastConn) => {
            let text = "LEAST_CONN is the superseded name of LEAST_REQUEST and means that";
            draft.remark(object, Remark::new(Code::FieldMeansLess, format!("{path}.loadBalancer"), text));
        }
        Some(SimpleBalancer::Passthrough) => {
            let text = "a waypoint chooses the endpoint, so PASSTHROUGH means LEAST_REQUEST";
            draft.remark(object, Remark::new(Code::FieldMeansLess, format!("{path}.loadBalancer"), text));
        }
        _ => {}
    }
}
