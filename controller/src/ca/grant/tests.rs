//! Who may have what, as a table.

use super::super::tokens::BoundPod;
use super::*;
use crate::ca::pods::PodFact;

fn account(text: &str) -> Account {
    text.parse().expect("an account")
}

fn pods() -> Pods {
    let mut pods = Pods::default();
    for (namespace, name, service_account, node, phase) in [
        ("ambit-system", "ztunnel-a", "ztunnel", "node-a", Phase::Live),
        ("ambit-system", "ztunnel-ended", "ztunnel", "node-a", Phase::Terminal),
        ("ambit-system", "other-account", "else", "node-a", Phase::Live),
        ("ambit-system", "unscheduled", "ztunnel", "", Phase::Live),
        ("shop", "web-1", "web", "node-a", Phase::Live),
        ("shop", "cart-1", "cart", "node-b", Phase::Live),
        ("shop", "done-1", "done", "node-a", Phase::Terminal),
    ] {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let (service_account, node) = (service_account.to_owned(), node.to_owned());
        pods.insert(PodFact { uid: format!("u-{name}"), namespace, name, service_account, node, phase });
    }
    pods
}

fn caller(who: &str, pod: &str, uid: &str, node: Option<&str>) -> Caller {
    let pod = BoundPod { name: pod.to_owned(), uid: uid.to_owned() };
    Caller {
        account: account(who),
        pod,
        node: node.map(str::to_owned),
        expires: std::time::SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn only_the_living_pod_of_a_trusted_account_on_its_own_node_is_a_node_proxy() {
    let (pods, domain) = (pods(), TrustDomain::default());
    let trusted = [account("ambit-system/ztunnel"), account("ambit-system/else2")];
    let rules = Rules { trusted: &trusted, trust_domain: &domain, pods: &pods };
    let zt = "ambit-system/ztunnel";
    let table = [
        (caller(zt, "ztunnel-a", "u-ztunnel-a", Some("node-a")), None, "ok"),
        (caller(zt, "ztunnel-a", "u-ztunnel-a", None), None, "ok"),
        (caller(zt, "ztunnel-a", "u-ztunnel-a", None), Some("node-a"), "ok"),
        (caller("shop/web", "web-1", "u-web-1", Some("node-a")), None, "application_token"),
        (caller("shop/ztunnel", "web-1", "u-web-1", Some("node-a")), None, "application_token"),
        (caller(zt, "gone", "u-gone", None), None, "pod_gone"),
        (caller(zt, "ztunnel-a", "u-before", None), None, "pod_replaced"),
        (caller(zt, "ztunnel-ended", "u-ztunnel-ended", None), None, "pod_ended"),
        (caller(zt, "other-account", "u-other-account", None), None, "other_account"),
        (caller(zt, "ztunnel-a", "u-ztunnel-a", Some("node-b")), None, "other_node"),
        (caller(zt, "ztunnel-a", "u-ztunnel-a", None), Some("node-b"), "other_node"),
        (caller(zt, "unscheduled", "u-unscheduled", Some("")), None, "other_node"),
    ];
    for (caller, claimed, expected) in table {
        let found = node_proxy(&caller, claimed, rules);
        assert_eq!(
            found.as_ref().map_or_else(Refused::label, |_| "ok"),
            expected,
            "{caller:?} {claimed:?}: {found:?}"
        );
    }
}

#[test]
fn a_node_proxy_gets_the_identities_of_live_pods_on_its_node_and_no_others() {
    let (pods, domain) = (pods(), TrustDomain::default());
    let trusted = [account("ambit-system/ztunnel")];
    let rules = Rules { trusted: &trusted, trust_domain: &domain, pods: &pods };
    let proxy = NodeProxy { node: "node-a".to_owned(), pod: "ambit-system/ztunnel-a".to_owned() };
    for (asked, expected) in [
        (Some("spiffe://cluster.local/ns/shop/sa/web"), "ok"),
        (Some("spiffe://cluster.local/ns/shop/sa/cart"), "not_on_node"),
        (Some("spiffe://cluster.local/ns/shop/sa/done"), "not_on_node"),
        (Some("spiffe://cluster.local/ns/other/sa/web"), "not_on_node"),
        (Some("spiffe://other.domain/ns/shop/sa/web"), "trust_domain"),
        (None, "nothing_asked"),
    ] {
        let asked: Option<Identity> = asked.map(|text| text.parse().expect("an identity"));
        let found = certificate(&proxy, asked.as_ref(), rules);
        assert_eq!(found.as_ref().map_or_else(Refused::label, |_| "ok"), expected, "{asked:?}: {found:?}");
    }
    let nowhere = NodeProxy { node: String::new(), pod: "ambit-system/unscheduled".to_owned() };
    let asked = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("an identity");
    assert_eq!(certificate(&nowhere, Some(&asked), rules).expect_err("no node").label(), "not_on_node");
}

#[test]
fn the_grant_ends_with_the_last_pod_and_follows_a_pod_that_changes() {
    let mut pods = pods();
    assert_eq!(pods.running("node-a", "shop", "web"), 1);
    let mut web = pods.get("shop", "web-1").expect("there").clone();
    web.node = "node-b".to_owned();
    pods.insert(web);
    assert_eq!((pods.running("node-a", "shop", "web"), pods.running("node-b", "shop", "web")), (0, 1));
    pods.remove("shop", "web-1");
    pods.remove("shop", "web-1");
    assert_eq!(pods.running("node-b", "shop", "web"), 0);
}
