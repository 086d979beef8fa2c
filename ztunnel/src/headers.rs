//! The headers of a CONNECT (l4-protocols §2.3): telemetry only, never a ground for a decision.

use ambit_api::service::Service;
use ambit_api::workload::{Workload, WorkloadType};
use ambit_transport::addr::ClientAddr;
use http::{HeaderMap, HeaderValue};
use rand::Rng;

/// What we tell the far proxy about the source and, where one was dialled, the Service.
pub fn connect(source: &Workload, client: ClientAddr, service: Option<&Service>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    let mut put = |name: &'static str, text: String| {
        // A value that is no header (a name with control characters) is left out: it is only telemetry.
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    put("baggage", baggage(source));
    let host = service.map(|service| format!(";host={}", service.key.hostname));
    put("forwarded", format!("for=\"{client}\"{}", host.unwrap_or_default()));
    put("traceparent", traceparent());
    headers
}

/// The workload as W3C baggage; empty values are left out.
pub fn baggage(workload: &Workload) -> String {
    let kind = match workload.workload_type {
        WorkloadType::Deployment => "k8s.deployment.name",
        WorkloadType::CronJob => "k8s.cronjob.name",
        WorkloadType::Pod => "k8s.pod.name",
        WorkloadType::Job => "k8s.job.name",
    };
    let pairs = [
        ("k8s.cluster.name", &workload.cluster),
        ("k8s.namespace.name", &workload.namespace),
        (kind, &workload.workload_name),
        ("service.name", &workload.canonical_name),
        ("service.version", &workload.canonical_revision),
        ("cloud.region", &workload.locality.region),
        ("cloud.availability_zone", &workload.locality.zone),
    ];
    let filled = pairs.iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn traceparent() -> String {
    let mut rng = rand::rng();
    // Never all zero: that means "no trace".
    format!("00-{:032x}-{:016x}-00", rng.random::<u128>() | 1, rng.random::<u64>() | 1)
}
