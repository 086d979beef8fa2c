//! The whole decision of a request, which policy applies to a port of a subset, and that any bytes are taken or rejected.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;

use super::{Destination, Gateway, InvalidResource, Policy, Service, Workload};
use crate::wire::waypoint as wire;

#[test]
fn the_closest_traffic_policy_is_in_force() {
    let policy = |max_requests| Some(wire::TrafficPolicy { max_requests, ..Default::default() });
    let port = |max| wire::PortPolicy { port: 80, policy: policy(max) };
    let subset = |name: &str, policy, ports| wire::Subset {
        name: name.to_owned(),
        policy,
        ports,
        ..Default::default()
    };
    let wire = wire::Destination {
        namespace: "shop".to_owned(),
        hostname: "web".to_owned(),
        policy: policy(1),
        ports: vec![port(2)],
        subsets: vec![
            subset("own", policy(3), vec![]),
            subset("both", policy(4), vec![port(5)]),
            subset("none", None, vec![]),
        ],
    };
    let destination = Destination::try_from(wire).expect("is valid");
    let rows = [
        (None, 81, 1),
        (None, 80, 2),
        (Some("own"), 80, 3),
        (Some("both"), 81, 4),
        (Some("both"), 80, 5),
        (Some("none"), 80, 2),
        (Some("none"), 81, 1),
    ];
    for (subset, port, most) in rows {
        let found = destination.policy_for(subset, port).max_requests.map(u32::from);
        assert_eq!(found, Some(most), "{subset:?} {port}");
    }
}

#[test]
fn a_bad_field_is_named() {
    let fault = |found: Result<Service, InvalidResource>| found.expect_err("is bad").to_string();
    let bad = wire::Text { kind: Some(wire::text::Kind::Regex("(".to_owned())) };
    let matches = vec![wire::HttpMatch { method: Some(bad), ..Default::default() }];
    let action = Some(wire::http_rule::Action::Forward(wire::Forward::default()));
    let http = vec![wire::HttpRule { matches, action, ..Default::default() }];
    let (namespace, hostname) = ("shop".to_owned(), "web".to_owned());
    let service = wire::Service { namespace, hostname, http, ..Default::default() };
    let text = fault(Service::try_from(service.clone()));
    assert!(text.starts_with("shop/web: http[0].matches[0].method: \"(\" is not a usable pattern"), "{text}");
    let http = vec![wire::HttpRule::default()];
    let text = fault(Service::try_from(wire::Service { http, ..service }));
    assert_eq!(text, "shop/web: http[0].action: is missing or empty");
}

#[test]
fn a_subset_holds_endpoints_with_all_its_labels() {
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let subset =
        super::Subset { labels: labels(&[("v", "1"), ("a", "b")]), policy: None, ports: BTreeMap::new() };
    assert!(subset.holds(&labels(&[("v", "1"), ("a", "b"), ("c", "d")])));
    assert!(!subset.holds(&labels(&[("v", "1")])));
    assert!(!subset.holds(&labels(&[("v", "2"), ("a", "b")])));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = wire::Gateway::decode(&*bytes).map(Gateway::try_from);
        let _ = wire::Service::decode(&*bytes).map(Service::try_from);
        let _ = wire::Destination::decode(&*bytes).map(Destination::try_from);
        let _ = wire::Workload::decode(&*bytes).map(Workload::try_from);
        let _ = wire::Policy::decode(&*bytes).map(Policy::try_from);
    }
}
