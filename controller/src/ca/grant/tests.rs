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
        let uid = format!("u-{name}");
        pods.insert(PodFact { uid, namespace, name, service_account, node, waypoint: None, phase });
    }
    for (name, service_account, waypoint) in [
        ("wp-1", "wp", Some("wp")),
        ("unlabelled", "wp", None),
        ("of-another", "wp", Some("wp2")),
        ("forged", "web", Some("wp")),
        ("wp2-1", "wp2", Some("wp2")),
    ] {
        pods.insert(PodFact {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: format!("u-{name}"),
            service_account: service_account.to_owned(),
            node: "node-a".to_owned(),
            waypoint: waypoint.map(str::to_owned),
            phase: Phase::Live,
        });
    }
    pods
}

/// shop/wp is accepted; shop/wp2 is not.
fn waypoints() -> Waypoints {
    [(account("shop/wp"), Arc::from("shop/wp"))].into()
}

fn made() -> Made {
    [account("shop/wp")].into()
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
    let waypoints = waypoints();
    let made = made();
    let rules =
        Rules { trusted: &trusted, waypoints: &waypoints, made: &made, trust_domain: &domain, pods: &pods };
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
        let found = proxy(&caller, claimed, rules);
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
    let waypoints = waypoints();
    let made = made();
    let rules =
        Rules { trusted: &trusted, waypoints: &waypoints, made: &made, trust_domain: &domain, pods: &pods };
    let node =
        |node: &str| Proxy::Node(NodeProxy { node: node.to_owned(), pod: "ambit-system/z".to_owned() });
    let proxy = node("node-a");
    for (asked, expected) in [
        (Some("spiffe://cluster.local/ns/shop/sa/web"), "ok"),
        (Some("spiffe://cluster.local/ns/shop/sa/cart"), "not_on_node"),
        (Some("spiffe://cluster.local/ns/shop/sa/done"), "not_on_node"),
        (Some("spiffe://cluster.local/ns/other/sa/web"), "not_on_node"),
        // Replicas of wp run here, and other pods with its account; whoever is labelled as a replica is no pod of the node.
        (Some("spiffe://cluster.local/ns/shop/sa/wp"), "impersonation"),
        (Some("spiffe://cluster.local/ns/shop/sa/wp2"), "not_on_node"),
        (Some("spiffe://other.domain/ns/shop/sa/web"), "trust_domain"),
        (None, "nothing_asked"),
    ] {
        let asked: Option<Identity> = asked.map(|text| text.parse().expect("an identity"));
        let found = certificate(&proxy, asked.as_ref(), rules);
        assert_eq!(found.as_ref().map_or_else(Refused::label, |_| "ok"), expected, "{asked:?}: {found:?}");
    }
    let nowhere = node("");
    let asked = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("an identity");
    assert_eq!(certificate(&nowhere, Some(&asked), rules).expect_err("no node").label(), "not_on_node");
}

#[test]
fn a_waypoint_is_a_replica_of_an_accepted_gateway_by_its_own_token() {
    let (pods, domain, trusted) = (pods(), TrustDomain::default(), [account("ambit-system/ztunnel")]);
    let (accepted, made) = (waypoints(), made());
    let none = Waypoints::new();
    let early: Waypoints = [(account("shop/wp2"), Arc::from("shop/wp2"))].into();
    for (who, pod, uid, node, waypoints, expected) in [
        ("shop/wp", "wp-1", "u-wp-1", "node-a", &accepted, "ok"),
        ("shop/wp", "wp-1", "u-wp-1", "node-b", &accepted, "other_node"),
        ("shop/wp", "wp-1", "u-before", "node-a", &accepted, "pod_replaced"),
        ("shop/wp", "gone", "u-gone", "node-a", &accepted, "pod_gone"),
        ("shop/wp", "unlabelled", "u-unlabelled", "node-a", &accepted, "no_replica"),
        ("shop/wp", "of-another", "u-of-another", "node-a", &accepted, "no_replica"),
        // A pod forges the labels: its account is another's.
        ("shop/wp", "forged", "u-forged", "node-a", &accepted, "other_account"),
        ("shop/web", "forged", "u-forged", "node-a", &accepted, "application_token"),
        ("other/wp", "wp-1", "u-wp-1", "node-a", &accepted, "application_token"),
        // Its Gateway is not accepted, or is gone.
        ("shop/wp2", "wp2-1", "u-wp2-1", "node-a", &accepted, "application_token"),
        ("shop/wp", "wp-1", "u-wp-1", "node-a", &none, "application_token"),
        // Its Gateway is accepted, and somebody else's account still has the name.
        ("shop/wp2", "wp2-1", "u-wp2-1", "node-a", &early, "account_not_made"),
    ] {
        let rules = Rules { trusted: &trusted, waypoints, made: &made, trust_domain: &domain, pods: &pods };
        let found = proxy(&caller(who, pod, uid, Some(node)), None, rules);
        assert_eq!(found.as_ref().map_or_else(Refused::label, |_| "ok"), expected, "{who} {pod}: {found:?}");
        if let Ok(found) = found {
            assert_eq!(found.audience(), Audience::Waypoint("shop/wp".into()));
        }
    }
}

#[test]
fn a_waypoint_gets_its_own_identity_alone() {
    let (pods, domain, waypoints) = (pods(), TrustDomain::default(), waypoints());
    let made = made();
    let rules =
        Rules { trusted: &[], waypoints: &waypoints, made: &made, trust_domain: &domain, pods: &pods };
    let waypoint = proxy(&caller("shop/wp", "wp-1", "u-wp-1", None), None, rules).expect("a replica");
    for (asked, expected) in [
        ("spiffe://cluster.local/ns/shop/sa/wp", "ok"),
        ("spiffe://cluster.local/ns/shop/sa/wp2", "other_identity"),
        ("spiffe://cluster.local/ns/shop/sa/web", "other_identity"),
        ("spiffe://cluster.local/ns/other/sa/wp", "other_identity"),
        ("spiffe://other.domain/ns/shop/sa/wp", "trust_domain"),
    ] {
        let asked: Identity = asked.parse().expect("an identity");
        let found = certificate(&waypoint, Some(&asked), rules);
        assert_eq!(found.as_ref().map_or_else(Refused::label, |_| "ok"), expected, "{asked}: {found:?}");
    }
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
