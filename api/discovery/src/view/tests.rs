//! Tables for the view: indexes, staging, policy sets, watches.

use ambit_api::identity::TrustDomain;
use ambit_api::wire;
use ambit_api::workload::{Network, NetworkAddress};

use super::{Found, LocalPod, View, Writer, view};
use crate::xds::{Named, Push, Sink};

pub(crate) fn workload(namespace: &str, name: &str, ip: [u8; 4]) -> wire::workload::Workload {
    wire::workload::Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}"),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        service_account: "default".to_owned(),
        addresses: vec![ip.to_vec()],
        tunnel_protocol: wire::workload::TunnelProtocol::Hbone.into(),
        ..Default::default()
    }
}

pub(crate) fn service(namespace: &str, name: &str, vip: [u8; 4]) -> wire::workload::Service {
    wire::workload::Service {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        hostname: format!("{name}.{namespace}.svc.cluster.local"),
        addresses: vec![wire::workload::NetworkAddress { address: vip.to_vec(), ..Default::default() }],
        ports: vec![wire::workload::Port { service_port: 80, target_port: 8080, ..Default::default() }],
        canonical: true,
        ..Default::default()
    }
}

/// Makes `workload` an endpoint of a service on port 80.
pub(crate) fn member(mut workload: wire::workload::Workload, service: &str) -> wire::workload::Workload {
    let ports = vec![wire::workload::Port { service_port: 80, target_port: 8080, ..Default::default() }];
    workload.services.insert(service.to_owned(), wire::workload::PortList { ports });
    workload
}

pub(crate) fn addresses(items: Vec<wire::workload::address::Type>) -> Push {
    let upserts = items
        .into_iter()
        .map(|item| {
            let name = match &item {
                wire::workload::address::Type::Workload(workload) => workload.uid.clone(),
                wire::workload::address::Type::Service(service) => {
                    format!("{}/{}", service.namespace, service.hostname)
                }
            };
            Named { name, body: wire::workload::Address { r#type: Some(item) } }
        })
        .collect();
    Push::Address { upserts, removed: Vec::new() }
}

pub(crate) fn pod(workload: wire::workload::Workload) -> wire::workload::address::Type {
    wire::workload::address::Type::Workload(workload)
}

pub(crate) fn svc(service: wire::workload::Service) -> wire::workload::address::Type {
    wire::workload::address::Type::Service(service)
}

fn policy(key: &str, scope: wire::security::Scope) -> Named<wire::security::Authorization> {
    let (namespace, name) = key.split_once('/').expect("namespace/name");
    let body = wire::security::Authorization {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        scope: scope.into(),
        ..Default::default()
    };
    Named { name: key.to_owned(), body }
}

fn policies(upserts: Vec<Named<wire::security::Authorization>>) -> Push {
    Push::Authorization { upserts, unreadable: Vec::new(), removed: Vec::new() }
}

fn without_policy(name: &str) -> Push {
    Push::Authorization { upserts: Vec::new(), unreadable: Vec::new(), removed: vec![name.to_owned()] }
}

fn removed(names: &[&str]) -> Push {
    Push::Address { upserts: Vec::new(), removed: names.iter().map(ToString::to_string).collect() }
}

fn found(view: &View, ip: [u8; 4], namespace: &str) -> String {
    let address = NetworkAddress::new(Network::default(), ip.into());
    match view.load().find(&address, namespace) {
        Some(Found::Workload(workload)) => workload.name.clone(),
        Some(Found::Service(entry)) => entry.service.key.to_string(),
        None => "nothing".to_owned(),
    }
}

fn endpoints(view: &View, namespace: &str, hostname: &str) -> usize {
    let key = ambit_api::service::ServiceKey::new(namespace, hostname);
    view.load().service(&key).map_or(0, |entry| entry.endpoints.endpoints().len())
}

fn local(name: &str) -> LocalPod {
    LocalPod { namespace: "shop".into(), name: name.into(), service_account: "default".into() }
}

fn with(pushes: Vec<Push>) -> (Writer, View) {
    let (mut writer, view) = view();
    for push in pushes {
        assert!(writer.apply(push).is_empty(), "nothing is rejected");
    }
    (writer, view)
}

const WEB: &str = "web.shop.svc.cluster.local";

#[test]
fn addresses_find_workloads_before_services_and_follow_removal() {
    let (mut writer, view) = with(vec![addresses(vec![
        pod(workload("shop", "a", [10, 0, 0, 1])),
        svc(service("shop", "web", [10, 96, 0, 1])),
    ])]);
    assert_eq!(found(&view, [10, 0, 0, 1], "shop"), "a");
    assert_eq!(found(&view, [10, 96, 0, 1], "other"), format!("shop/{WEB}"));
    assert_eq!(found(&view, [10, 9, 9, 9], "shop"), "nothing");
    writer.apply(removed(&["Kubernetes//Pod/shop/a", &format!("shop/{WEB}")]));
    assert_eq!(found(&view, [10, 0, 0, 1], "shop"), "nothing");
    assert_eq!(found(&view, [10, 96, 0, 1], "shop"), "nothing");
    assert!(view.load().workloads.is_empty());
}

#[test]
fn an_address_used_again_belongs_to_the_preferred_workload_whatever_the_order() {
    let mut outside = workload("shop", "old", [10, 0, 0, 1]);
    outside.tunnel_protocol = wire::workload::TunnelProtocol::None.into();
    let inside = workload("shop", "new", [10, 0, 0, 1]);
    for order in [[outside.clone(), inside.clone()], [inside, outside]] {
        let (mut writer, view) = with(order.map(|workload| addresses(vec![pod(workload)])).into());
        assert_eq!(found(&view, [10, 0, 0, 1], "shop"), "new");
        writer.apply(removed(&["Kubernetes//Pod/shop/new"]));
        assert_eq!(found(&view, [10, 0, 0, 1], "shop"), "old");
    }
}

#[test]
fn a_host_network_pod_does_not_own_its_node_s_address() {
    let mut host = workload("shop", "host", [172, 16, 0, 1]);
    host.network_mode = wire::workload::NetworkMode::HostNetwork.into();
    let (_writer, view) = with(vec![addresses(vec![pod(host)])]);
    assert_eq!(found(&view, [172, 16, 0, 1], "shop"), "nothing");
}

#[test]
fn endpoints_wait_for_their_service_and_leave_it() {
    let endpoint = member(workload("shop", "a", [10, 0, 0, 1]), &format!("shop/{WEB}"));
    let (mut writer, view) = with(vec![addresses(vec![pod(endpoint)])]);
    assert_eq!(endpoints(&view, "shop", WEB), 0);
    writer.apply(addresses(vec![svc(service("shop", "web", [10, 96, 0, 1]))]));
    assert_eq!(endpoints(&view, "shop", WEB), 1, "staged until the service came");
    writer.apply(addresses(vec![pod(workload("shop", "a", [10, 0, 0, 1]))]));
    assert_eq!(endpoints(&view, "shop", WEB), 0, "no longer a member");
    let again = member(workload("shop", "a", [10, 0, 0, 1]), &format!("shop/{WEB}"));
    writer.apply(addresses(vec![pod(again)]));
    writer.apply(removed(&["Kubernetes//Pod/shop/a"]));
    assert_eq!(endpoints(&view, "shop", WEB), 0, "gone");
}

#[test]
fn a_shared_address_means_the_client_s_own_namespace_then_the_canonical_service() {
    let mut copy = service("other", "web", [10, 96, 0, 1]);
    copy.canonical = false;
    let (_writer, view) = with(vec![addresses(vec![svc(service("shop", "web", [10, 96, 0, 1])), svc(copy)])]);
    assert!(found(&view, [10, 96, 0, 1], "other").starts_with("other/"));
    assert!(found(&view, [10, 96, 0, 1], "third").starts_with("shop/"));
}

#[test]
fn a_private_service_is_found_from_its_own_namespace_only() {
    let mut private = service("shop", "web", [10, 96, 0, 1]);
    private.visibility = wire::workload::Visibility::Namespace.into();
    let (_writer, view) = with(vec![addresses(vec![svc(private)])]);
    assert!(found(&view, [10, 96, 0, 1], "shop").starts_with("shop/"));
    assert_eq!(found(&view, [10, 96, 0, 1], "other"), "nothing");
}

#[test]
fn the_longest_prefix_wins() {
    let mut wide = service("shop", "wide", [10, 96, 0, 0]);
    wide.addresses[0].length = Some(16);
    let mut narrow = service("shop", "narrow", [10, 96, 1, 0]);
    narrow.addresses[0].length = Some(24);
    let (_writer, view) = with(vec![addresses(vec![svc(wide), svc(narrow)])]);
    assert_eq!(found(&view, [10, 96, 1, 7], "shop"), "shop/narrow.shop.svc.cluster.local");
    assert_eq!(found(&view, [10, 96, 2, 7], "shop"), "shop/wide.shop.svc.cluster.local");
}

#[test]
fn one_bad_resource_rejects_itself_only() {
    let (mut writer, view) = view();
    let mut bad = workload("shop", "bad", [10, 0, 0, 2]);
    bad.addresses = vec![vec![1, 2, 3]];
    let rejected = writer.apply(addresses(vec![pod(bad), pod(workload("shop", "good", [10, 0, 0, 1]))]));
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, "Kubernetes//Pod/shop/bad");
    assert_eq!(found(&view, [10, 0, 0, 1], "shop"), "good");
}

#[test]
fn a_policy_we_cannot_read_closes_what_it_covers_until_it_goes() {
    use wire::security::Scope;
    let cases = [
        // scope, closes this namespace, closes another
        (Scope::Global as i32, true, true),
        (Scope::Namespace as i32, true, false),
        (Scope::WorkloadSelector as i32, false, false),
        (77, true, true),
    ];
    for (scope, here, there) in cases {
        let (mut writer, view) = with(vec![
            addresses(vec![
                pod(workload("shop", "a", [10, 0, 0, 1])),
                pod(workload("b", "b", [10, 0, 0, 2])),
            ]),
            policies(Vec::new()),
        ]);
        let mut bad = policy("shop/bad", Scope::Namespace);
        bad.body.scope = scope;
        bad.body.action = 99;
        assert_eq!(writer.apply(policies(vec![bad])).len(), 1);
        let other = LocalPod { namespace: "b".into(), name: "b".into(), service_account: "default".into() };
        let closed = |pod: &LocalPod| !view.load().local(pod).policies.unusable.is_empty();
        assert_eq!((closed(&local("a")), closed(&other)), (here, there), "scope {scope}");
        writer.apply(without_policy("shop/bad"));
        assert!(!closed(&local("a")) && !closed(&other), "scope {scope}: open again");
    }
}

#[test]
fn a_named_policy_we_cannot_read_is_unusable_and_not_on_its_way() {
    let mut listed = workload("shop", "a", [10, 0, 0, 1]);
    listed.authorization_policies = vec!["shop/bad".to_owned(), "shop/absent".to_owned()];
    let mut bad = policy("shop/bad", wire::security::Scope::WorkloadSelector);
    bad.body.action = 99;
    let (mut writer, view) = with(vec![addresses(vec![pod(listed)])]);
    assert_eq!(writer.apply(policies(vec![bad])).len(), 1);
    let set = view.load().local(&local("a")).policies;
    let key = |name| ambit_api::policy::PolicyKey::new("shop", name);
    assert_eq!((set.unusable, set.missing), (vec![key("bad")], vec![key("absent")]));
}

#[test]
fn a_policy_that_cannot_be_decoded_closes_everything_until_it_goes() {
    for name in ["shop/garbled", "no-namespace"] {
        let first = addresses(vec![pod(workload("b", "b", [10, 0, 0, 2]))]);
        let (mut writer, view) = with(vec![first, policies(Vec::new())]);
        let other = LocalPod { namespace: "b".into(), name: "b".into(), service_account: "default".into() };
        let closed = || !view.load().local(&other).policies.unusable.is_empty();
        let unreadable = vec![name.to_owned()];
        writer.apply(Push::Authorization { upserts: Vec::new(), unreadable, removed: Vec::new() });
        assert!(closed(), "{name}");
        writer.apply(without_policy(name));
        assert!(!closed(), "{name}: open again");
    }
}

#[test]
fn the_last_good_version_of_a_policy_outlives_a_bad_one() {
    use wire::security::Scope;
    let (mut writer, view) = with(vec![policies(vec![policy("shop/p", Scope::Namespace)])]);
    let mut bad = policy("shop/p", Scope::Namespace);
    bad.body.action = 99;
    assert_eq!(writer.apply(policies(vec![bad])).len(), 1);
    let key = ambit_api::policy::PolicyKey::new("shop", "p");
    assert!(view.load().policy(&key).is_some());
    assert_eq!(view.load().policies.iter().count(), 1);
}

#[test]
fn a_workload_s_set_holds_its_scopes_and_names_what_is_missing() {
    use wire::security::Scope;
    let mut listed = workload("shop", "a", [10, 0, 0, 1]);
    listed.authorization_policies = vec!["shop/selector".to_owned(), "shop/absent".to_owned()];
    let (_writer, view) = with(vec![
        addresses(vec![pod(listed)]),
        policies(vec![
            policy("root/global", Scope::Global),
            policy("shop/own", Scope::Namespace),
            policy("other/foreign", Scope::Namespace),
            policy("shop/selector", Scope::WorkloadSelector),
            policy("shop/unlisted", Scope::WorkloadSelector),
        ]),
    ]);
    let set = view.load().local(&local("a")).policies;
    let mut names: Vec<_> = set.policies.iter().map(|policy| policy.key.to_string()).collect();
    names.sort();
    assert_eq!(names, ["root/global", "shop/own", "shop/selector"]);
    assert_eq!(set.missing, [ambit_api::policy::PolicyKey::new("shop", "absent")]);
}

#[test]
fn a_watch_wakes_for_its_own_pod_only_and_knows_when_both_kinds_have_come() {
    let (mut writer, view) = view();
    let mut watch = view.watch(&local("a"));
    assert!(!watch.borrow_and_update().known);
    writer.apply(addresses(vec![pod(workload("shop", "a", [10, 0, 0, 1]))]));
    assert!(watch.has_changed().expect("open"));
    assert!(!watch.borrow_and_update().known, "policies have not come");
    writer.apply(policies(Vec::new()));
    assert!(watch.borrow_and_update().known);
    writer.apply(addresses(vec![pod(workload("shop", "b", [10, 0, 0, 2]))]));
    assert!(!watch.has_changed().expect("open"), "another pod's change");
    writer.apply(policies(vec![policy("shop/p", wire::security::Scope::Namespace)]));
    assert_eq!(watch.borrow_and_update().policies.policies.len(), 1);
}

#[test]
fn a_pod_of_another_service_account_is_not_this_pod() {
    let (_writer, view) = with(vec![addresses(vec![pod(workload("shop", "a", [10, 0, 0, 1]))])]);
    let stranger = LocalPod { service_account: "other".into(), ..local("a") };
    assert!(view.load().local(&stranger).workload.is_none());
    let own = view.load().local(&local("a")).workload.expect("known");
    assert_eq!(own.trust_domain, TrustDomain::default());
}
