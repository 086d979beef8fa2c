//! What a waypoint holds after pushes, good and bad.

use super::super::view;
use super::*;
use crate::xds::{Push, Sink};

fn upsert<T>(name: &str, body: T) -> Changes<T> {
    Changes {
        upserts: vec![Named { name: name.to_owned(), body }],
        unreadable: Vec::new(),
        removed: Vec::new(),
    }
}

fn removed<T>(name: &str) -> Changes<T> {
    Changes { upserts: Vec::new(), unreadable: Vec::new(), removed: vec![name.to_owned()] }
}

fn gateway() -> wire::Gateway {
    wire::Gateway { namespace: "shop".to_owned(), name: "waypoint".to_owned(), ..Default::default() }
}

fn policy() -> wire::Policy {
    wire::Policy { namespace: "shop".to_owned(), name: "p".to_owned(), ..Default::default() }
}

#[test]
fn each_kind_is_found_by_its_name_until_it_is_removed() {
    let (mut writer, view) = view();
    let service = wire::Service {
        namespace: "shop".to_owned(),
        hostname: "web.shop.svc.cluster.local".to_owned(),
        http: vec![wire::HttpRule {
            action: Some(wire::http_rule::Action::Respond(wire::DirectResponse {
                status: 200,
                body: vec![],
            })),
            ..Default::default()
        }],
        ..Default::default()
    };
    let destination = wire::Destination {
        namespace: "shop".to_owned(),
        hostname: "web.shop.svc.cluster.local".to_owned(),
        ..Default::default()
    };
    let workload = wire::Workload { uid: "c//Pod/shop/web-1".to_owned(), ..Default::default() };
    let web = "shop/web.shop.svc.cluster.local";
    for push in [
        Push::Policy(upsert("shop/p", policy())),
        Push::Workload(upsert("c//Pod/shop/web-1", workload)),
        Push::Destination(upsert(web, destination)),
        Push::Service(upsert(web, service)),
        Push::Gateway(upsert("shop/waypoint", gateway())),
    ] {
        assert_eq!(writer.apply(push.clone()), [], "{push:?}");
    }
    let held = view.load().waypoint.clone();
    let key = ServiceKey::new("shop", "web.shop.svc.cluster.local");
    assert!(held.gateway.is_some() && held.services.contains_key(&key));
    assert!(held.destinations.contains_key(&key));
    assert!(held.workloads.contains_key(&Uid("c//Pod/shop/web-1".into())));
    assert!(held.policies.contains_key(&PolicyKey::new("shop", "p")));
    for push in [
        Push::Gateway(removed("shop/waypoint")),
        Push::Service(removed(web)),
        Push::Destination(removed(web)),
        Push::Workload(removed("c//Pod/shop/web-1")),
        Push::Policy(removed("shop/p")),
    ] {
        writer.apply(push);
    }
    let held = view.load().waypoint.clone();
    assert!(held.gateway.is_none() && held.services.is_empty() && held.destinations.is_empty());
    assert!(held.workloads.is_empty() && held.policies.is_empty());
}

#[test]
fn a_policy_that_was_never_readable_is_closed_and_a_good_one_stays() {
    let (mut writer, view) = view();
    let unreadable = |name: &str| {
        Push::Policy(Changes { upserts: Vec::new(), unreadable: vec![name.to_owned()], removed: Vec::new() })
    };
    writer.apply(Push::Policy(upsert("shop/p", policy())));
    writer.apply(unreadable("shop/p"));
    writer.apply(unreadable("shop/never"));
    let closed = |name: &str| {
        view.load().waypoint.policies.get(&PolicyKey::new("shop", name)).map(|policy| policy.closed)
    };
    assert_eq!((closed("p"), closed("never")), (Some(false), Some(true)));
    writer.apply(Push::Policy(removed("shop/never")));
    assert_eq!(closed("never"), None);
}

#[test]
fn whoever_follows_the_view_is_told_of_every_push() {
    let (mut writer, view) = view();
    let mut changes = view.changes();
    assert!(!changes.has_changed().expect("there is a writer"));
    writer.apply(Push::Gateway(upsert("shop/waypoint", gateway())));
    assert!(changes.has_changed().expect("there is a writer"));
    changes.mark_unchanged();
    assert!(!changes.has_changed().expect("there is a writer"));
}
