//! One span: what a request that is over tells a collector, whatever the collector speaks.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ambit_api::labels::UNKNOWN;
use http::header::USER_AGENT;

use super::REQUEST_ID;
use super::context::Context;
use crate::report::Event;

/// Longest path in a tag, as Istio's proxies have it by default.
const PATH: usize = 256;

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its place in the trace.
    pub context: Context,
    /// The operation.
    pub name: String,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Who asked.
    pub peer: SocketAddr,
    /// Whether it failed on our side or behind us.
    pub failed: bool,
    /// What else there is to say.
    pub tags: Vec<(&'static str, String)>,
}

/// Who records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of our Gateway, which is our canonical service.
    pub service: String,
    /// Our namespace.
    pub namespace: String,
    /// Our pod.
    pub pod: String,
    /// Our cluster.
    pub cluster: String,
    /// Our trust domain, by which Istio names a mesh.
    pub mesh: String,
}

impl Origin {
    /// The name of the service in traces.
    pub fn name(&self) -> String {
        format!("{}.{}", self.service, self.namespace)
    }

    /// The name of the proxy.
    pub fn node(&self) -> String {
        let Self { pod, namespace, .. } = self;
        format!("waypoint~{pod}.{namespace}")
    }
}

impl Span {
    /// Of a request.
    pub fn of(event: &Event<'_>, context: Context, origin: &Origin) -> Self {
        let record = event.record;
        let dialled = record.arrival.dialled.port();
        let host = record.head.as_ref().map_or("", |head| head.host());
        Self {
            context,
            name: format!("{host}:{dialled}/*"),
            began: event.began(),
            duration: event.duration,
            peer: record.arrival.client,
            failed: event.outcome.status >= 500 || event.outcome.status == 0,
            tags: tags(event, origin),
        }
    }
}

fn tags(event: &Event<'_>, origin: &Origin) -> Vec<(&'static str, String)> {
    let record = event.record;
    let mut tags = vec![
        ("component", "proxy".to_owned()),
        ("node_id", origin.node()),
        ("peer.address", record.arrival.client.ip().to_string()),
        ("http.status_code", event.outcome.status.to_string()),
        ("response_flags", event.outcome.flags.to_string()),
        ("request_size", record.received.bytes().to_string()),
        ("response_size", record.sent.to_string()),
        ("istio.canonical_service", origin.service.clone()),
        ("istio.canonical_revision", "latest".to_owned()),
        ("istio.mesh_id", origin.mesh.clone()),
        ("istio.namespace", origin.namespace.clone()),
        ("istio.cluster_id", origin.cluster.clone()),
    ];
    if let Some(head) = &record.head {
        let path: String = head.target.as_str().chars().take(PATH).collect();
        tags.push(("http.method", head.method.to_string()));
        tags.push(("http.url", format!("http://{}{path}", head.authority)));
        tags.push(("http.protocol", format!("{:?}", head.version)));
        for (tag, name) in [("user_agent", USER_AGENT), ("guid:x-request-id", REQUEST_ID)] {
            let value =
                head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            tags.extend(value.map(|value| (tag, value)));
        }
    }
    if let Some(status) = event.outcome.grpc_status {
        tags.push(("grpc.status_code", status.to_string()));
    }
    let mut cluster = String::new();
    if event.cluster(&mut cluster).is_ok() {
        tags.push(("upstream_cluster.name", cluster.clone()));
        tags.push(("upstream_cluster", cluster));
    }
    if let Some(upstream) = record.upstream {
        tags.push(("upstream_address", upstream.to_string()));
    }
    let (source, destination) = (&event.ends.source, &event.ends.destination);
    let ends = [
        ("istio.source_workload", source.workload()),
        ("istio.source_namespace", source.namespace()),
        ("istio.source_canonical_service", source.canonical_service()),
        ("istio.destination_workload", destination.workload()),
        ("istio.destination_namespace", destination.namespace()),
        ("istio.destination_canonical_service", destination.canonical_service()),
    ];
    tags.extend(
        ends.into_iter().filter(|(_, value)| *value != UNKNOWN).map(|(tag, value)| (tag, value.to_owned())),
    );
    tags
}
