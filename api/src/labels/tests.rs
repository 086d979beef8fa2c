//! The label sets of the `istio_tcp_*` metrics, in full.

use std::sync::Arc;

use super::{Dialled, Flags, Labels, Outcome, Party, Reporter, RequestProtocol, Security};
use crate::identity::Identity;
use crate::reason::Reason;
use crate::service::Service;
use crate::wire::workload as wire;
use crate::workload::{Locality, tests::pod};

fn text(labels: &Labels) -> Vec<String> {
    labels.pairs().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn a_known_connection_has_every_label() {
    let mut client = pod();
    client.namespace = "shop".to_owned();
    client.workload_name = "web".to_owned();
    client.canonical_name = "web".to_owned();
    client.canonical_revision = "v2".to_owned();
    client.locality = Locality { region: "r1".to_owned(), zone: "z1".to_owned(), ..Locality::default() };
    let identity: Identity = "spiffe://td/ns/shop/sa/web".parse().expect("an identity");
    let service = Service::try_from(wire::Service {
        name: "db".to_owned(),
        namespace: "data".to_owned(),
        hostname: "db.data.svc.cluster.local".to_owned(),
        ..Default::default()
    });
    let labels = Labels {
        reporter: Reporter::Destination,
        source: Arc::new(Party::new(&client, Some(&identity))),
        destination: Arc::new(Party::unknown(None)),
        service: Some(Arc::new(Dialled::new(&service.expect("is valid")))),
        security: Security::MutualTls,
        ended: Some(Reason::PolicyDenied),
    };
    let expected = [
        "reporter=destination",
        "source_workload=web",
        "source_canonical_service=web",
        "source_canonical_revision=v2",
        "source_workload_namespace=shop",
        "source_principal=spiffe://td/ns/shop/sa/web",
        "source_app=web",
        "source_version=v2",
        "source_cluster=Kubernetes",
        "source_region=r1",
        "source_zone=z1",
        "destination_workload=unknown",
        "destination_canonical_service=unknown",
        "destination_canonical_revision=unknown",
        "destination_workload_namespace=unknown",
        "destination_principal=unknown",
        "destination_app=unknown",
        "destination_version=unknown",
        "destination_cluster=unknown",
        "destination_service=db.data.svc.cluster.local",
        "destination_service_name=db",
        "destination_service_namespace=data",
        "request_protocol=tcp",
        "response_flags=DENY",
        "connection_security_policy=mutual_tls",
    ];
    assert_eq!(text(&labels), expected);
}

#[test]
fn an_unknown_connection_says_so() {
    let identity: Identity = "spiffe://td/ns/shop/sa/web".parse().expect("an identity");
    let labels = Labels {
        reporter: Reporter::Source,
        source: Arc::new(Party::unknown(Some(&identity))),
        destination: Arc::new(Party::new(&pod(), None)),
        service: None,
        security: Security::Unknown,
        ended: None,
    };
    let text = text(&labels);
    for expected in [
        "reporter=source",
        "source_workload=unknown",
        "source_principal=spiffe://td/ns/shop/sa/web",
        "source_workload_namespace=shop",
        "destination_workload=unknown",
        "destination_cluster=Kubernetes",
        "destination_service=unknown",
        "destination_service_name=unknown",
        "destination_service_namespace=unknown",
        "response_flags=-",
        "connection_security_policy=unknown",
    ] {
        assert!(text.iter().any(|label| label == expected), "{expected} is not in {text:?}");
    }
    assert!(!text.iter().any(|label| label.contains("region") || label.contains("zone")), "{text:?}");
}

#[test]
fn a_request_has_every_label_and_no_place() {
    let mut client = pod();
    client.workload_name = "web".to_owned();
    client.locality = Locality { region: "r1".to_owned(), zone: "z1".to_owned(), ..Locality::default() };
    let labels = Labels {
        reporter: Reporter::Waypoint,
        source: Arc::new(Party::new(&client, None)),
        destination: Arc::new(Party::unknown(None)),
        service: None,
        security: Security::MutualTls,
        ended: None,
    };
    let outcome =
        Outcome { protocol: RequestProtocol::Http, status: 200, grpc_status: None, flags: Flags::default() };
    let pairs: Vec<_> = labels.request_pairs(&outcome).collect();
    let mut names: Vec<_> = pairs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let expected = [
        "connection_security_policy",
        "destination_app",
        "destination_canonical_revision",
        "destination_canonical_service",
        "destination_cluster",
        "destination_principal",
        "destination_service",
        "destination_service_name",
        "destination_service_namespace",
        "destination_version",
        "destination_workload",
        "destination_workload_namespace",
        "grpc_response_status",
        "reporter",
        "request_protocol",
        "response_code",
        "response_flags",
        "source_app",
        "source_canonical_revision",
        "source_canonical_service",
        "source_cluster",
        "source_principal",
        "source_version",
        "source_workload",
        "source_workload_namespace",
    ];
    assert_eq!(names, expected);
    let value = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| &**value);
    assert_eq!(value("source_workload"), Some("web"));
    assert_eq!(value("response_flags"), Some("-"));
    // As Istio's proxies have it: the label is there, and empty but for gRPC.
    assert_eq!(value("grpc_response_status"), Some(""));
}

#[test]
fn flags_are_envoys_and_joined() {
    let reason = Some(Reason::PolicyDenied);
    let cases = [
        (Flags::default(), "-"),
        (Flags { reason, ..Flags::default() }, "UAEX"),
        (Flags { reason, delayed: true, ..Flags::default() }, "UAEX,DI"),
        (Flags { delayed: true, aborted: true, ..Flags::default() }, "DI,FI"),
        (Flags { reason: Some(Reason::Reset), exhausted: true, ..Flags::default() }, "UC,URX"),
        (Flags { abandoned: true, ..Flags::default() }, "DC"),
    ];
    for (flags, text) in cases {
        assert_eq!(flags.to_string(), text, "{flags:?}");
    }
}
