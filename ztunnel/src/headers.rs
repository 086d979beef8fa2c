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

#[cfg(test)]
mod tests {
    use ambit_api::wire;

    use super::*;

    fn workload(change: impl FnOnce(&mut wire::workload::Workload)) -> Workload {
        let mut body = wire::workload::Workload {
            uid: "Kubernetes//Pod/shop/web-1".to_owned(),
            namespace: "shop".to_owned(),
            workload_name: "web".to_owned(),
            workload_type: wire::workload::WorkloadType::Deployment.into(),
            ..Default::default()
        };
        change(&mut body);
        Workload::try_from(body).unwrap()
    }

    #[test]
    fn baggage_names_the_workload_by_its_kind_and_leaves_out_what_is_empty() {
        use wire::workload::WorkloadType as Kind;
        let cases = [
            (Kind::Deployment, "k8s.deployment.name"),
            (Kind::Cronjob, "k8s.cronjob.name"),
            (Kind::Pod, "k8s.pod.name"),
            (Kind::Job, "k8s.job.name"),
        ];
        for (kind, name) in cases {
            let workload = workload(|body| body.workload_type = kind.into());
            assert_eq!(
                baggage(&workload),
                format!("k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,{name}=web")
            );
        }
    }

    #[test]
    fn a_value_that_is_no_header_is_left_out_alone() {
        let source = workload(|body| body.workload_name = "web\nhost: evil".to_owned());
        let client = ClientAddr::from("10.0.0.1:4711".parse::<std::net::SocketAddr>().unwrap());
        let headers = connect(&source, client, None);
        assert!(headers.get("baggage").is_none());
        assert_eq!(headers["forwarded"], "for=\"10.0.0.1:4711\"");
        let trace = headers["traceparent"].to_str().unwrap();
        let parts: Vec<_> = trace.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{trace}");
    }
}
