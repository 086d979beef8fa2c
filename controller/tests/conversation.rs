//! Our xDS and CA clients against our controller's port, over real TLS on loopback.

mod conversation {
    pub(crate) mod harness;
}

use std::time::Duration;

use ambit_discovery::credentials::{CaClient, Credentials, State};
use ambit_discovery::xds::Push;
use conversation::harness::{
    Controller, Issuer, Node, TokenSpec, certificate, eventually, identity, policy, proxy, waypoint, workload,
};

/// What a push brought, in one line per kind.
fn names(push: &Push) -> (Vec<&str>, Vec<&str>) {
    match push {
        Push::Address { upserts, removed } => {
            (upserts.iter().map(|one| &*one.name).collect(), removed.iter().map(|name| &**name).collect())
        }
        Push::Authorization { upserts, removed, .. } => {
            (upserts.iter().map(|one| &*one.name).collect(), removed.iter().map(|name| &**name).collect())
        }
        _ => panic!("not subscribed"),
    }
}

#[tokio::test]
async fn a_change_sends_one_resource_policies_before_workloads_and_removals_last() {
    let controller = Controller::start("one-resource").await;
    controller.publish([policy("shop/p", 1)], (0..500).map(|n| workload(&format!("w{n:03}"), 1)));
    let mut proxy = proxy(&controller, &[]);
    let first = proxy.push().await;
    assert!(matches!(first, Push::Authorization { .. }), "policies first: {:?}", names(&first));
    assert_eq!(names(&proxy.push().await).0.len(), 500);
    eventually("ready", || proxy.readiness.is_ready()).await;

    let changed = (0..500).map(|n| workload(&format!("w{n:03}"), if n == 7 { 2 } else { 1 }));
    controller.publish([policy("shop/p", 1)], changed);
    assert_eq!(names(&proxy.push().await), (vec!["w007"], vec![]));

    controller.publish([policy("shop/q", 1)], [workload("w007", 3)]);
    let (added, policies) = (proxy.push().await, proxy.push().await);
    assert_eq!(names(&added), (vec!["shop/q"], vec![]), "new policy before its workloads");
    assert_eq!((names(&policies).0, names(&policies).1.len()), (vec!["w007"], 499));
    assert_eq!(names(&proxy.push().await), (vec![], vec!["shop/p"]), "the old policy goes last");
    let generation = controller.generation();
    eventually("acknowledged", || {
        controller.proxies.all().first().is_some_and(|one| one.generation_acked == Some(generation))
    })
    .await;
}

#[tokio::test]
async fn a_reconnect_sends_only_what_changed_meanwhile_and_the_root_is_kept() {
    let mut controller = Controller::start("reconnect").await;
    controller
        .publish([policy("a/p", 1)], [workload("stays", 1), workload("changes", 1), workload("goes", 1)]);
    let mut proxy = proxy(&controller, &[]);
    proxy.push().await;
    assert_eq!(names(&proxy.push().await).0.len(), 3);
    let root = controller.roots();
    controller.stop().await;
    controller
        .publish([policy("a/p", 1)], [workload("stays", 1), workload("changes", 2), workload("comes", 1)]);
    controller.restart().await;
    assert_eq!(controller.roots(), root, "the same root after a restart");
    assert_eq!(names(&proxy.push().await), (vec![], vec![]), "the policy is known");
    assert_eq!(names(&proxy.push().await), (vec!["changes", "comes"], vec!["goes"]));
}

#[tokio::test]
async fn a_bad_resource_is_refused_alone_and_blocks_nothing() {
    let controller = Controller::start("bad-resource").await;
    controller.publish([policy("a/bad", 1), policy("a/good", 1)], [workload("one", 1)]);
    let mut proxy = proxy(&controller, &["a/bad"]);
    assert_eq!(names(&proxy.push().await).0, ["a/bad", "a/good"]);
    assert_eq!(names(&proxy.push().await).0, ["one"]);
    eventually("ready in spite of the bad one", || proxy.readiness.is_ready()).await;
    controller.publish([policy("a/bad", 1), policy("a/good", 2)], [workload("one", 2)]);
    assert_eq!(names(&proxy.push().await).0, ["a/good"], "the bad one is not sent again unchanged");
    assert_eq!(names(&proxy.push().await).0, ["one"]);
    let all = controller.proxies.all();
    let nack = all[0].nacks.front().expect("remembered");
    assert_eq!((nack.r#type.as_str(), nack.message.as_str()), ("Authorization", "a/bad: bad"));
}

#[tokio::test]
async fn no_configuration_and_no_certificate_without_a_good_token() {
    let controller = Controller::start("tokens").await;
    controller.publish([policy("a/p", 1)], [workload("one", 1)]);
    let (issuer, stranger) = (&controller.issuer, Issuer::new("k1"));
    let good = TokenSpec::ztunnel("node-a");
    let table = [
        ("control", Some(issuer.sign(&good)), None),
        ("missing", None, Some("token is required")),
        ("garbage", Some("x.y.z".to_owned()), Some("malformed")),
        ("expired", Some(issuer.sign(&TokenSpec { expires_in: -60, ..good.clone() })), Some("expired")),
        (
            "not yet valid",
            Some(issuer.sign(&TokenSpec { starts_in: 600, ..good.clone() })),
            Some("not valid yet"),
        ),
        ("audience", Some(issuer.sign(&TokenSpec { audience: "other", ..good.clone() })), Some("audience")),
        ("issuer", Some(issuer.sign(&TokenSpec { issuer: "https://other", ..good.clone() })), Some("issuer")),
        ("forged", Some(stranger.sign(&good)), Some("known key")),
        ("no pod", Some(issuer.sign(&TokenSpec { pod: None, ..good.clone() })), Some("not bound to a pod")),
        ("old pod", Some(issuer.sign(&TokenSpec { uid: "before", ..good.clone() })), Some("does not exist")),
        (
            "other node",
            Some(issuer.sign(&TokenSpec { node: "node-b", ..good.clone() })),
            Some("does not fit"),
        ),
        ("application", Some(issuer.sign(&TokenSpec::application())), Some("no trusted node account")),
    ];
    for (name, token, refused) in table {
        let target = controller.target(token);
        let stream = conversation::harness::first_answer(&target).await;
        let certificate = conversation::harness::certificate(&target, &identity("shop", "web")).await;
        match refused {
            None => assert!(stream.is_ok() && certificate.is_ok(), "{name}: {stream:?} {certificate:?}"),
            Some(why) => {
                for error in [stream.expect_err(name), certificate.expect_err(name)] {
                    assert!(error.contains("Unauthenticated") && error.contains(why), "{name}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_its_pod() {
    let controller = Controller::start("revoked").await;
    controller.publish([policy("a/p", 1)], [workload("one", 1)]);
    // Clocks may differ by ten seconds: this one is good for two more.
    let ending = TokenSpec { expires_in: -8, ..TokenSpec::ztunnel("node-a") };
    let target = controller.target(Some(controller.issuer.sign(&ending)));
    let end = conversation::harness::last_answer(&target, || ()).await;
    assert!(end.contains("Unauthenticated") && end.contains("expired"), "{end}");

    let target = controller.target(Some(controller.issuer.sign(&TokenSpec::ztunnel("node-a"))));
    let end = conversation::harness::last_answer(&target, || controller.without_ztunnel()).await;
    assert!(end.contains("Unauthenticated") && end.contains("does not exist"), "{end}");
}

#[tokio::test]
async fn a_node_that_claims_to_be_another_gets_no_configuration() {
    let controller = Controller::start("other-node").await;
    controller.publish([policy("a/p", 1)], [workload("one", 1)]);
    let target = controller.target(Some(controller.issuer.sign(&TokenSpec::ztunnel("node-a"))));
    let error =
        conversation::harness::first_answer_as(&target, Node::Named("node-b")).await.expect_err("refused");
    assert!(error.contains("does not fit"), "{error}");
    assert!(
        conversation::harness::first_answer_as(&target, Node::Named("node-a")).await.is_ok(),
        "the control"
    );
}

#[tokio::test]
async fn certificates_only_for_pods_on_the_caller_s_node() {
    let controller = Controller::start("certificates").await;
    let target = controller.target(Some(controller.issuer.sign(&TokenSpec::ztunnel("node-a"))));
    let credentials = Credentials::new(conversation::harness::accepted());
    let ca = CaClient::new(target, Duration::from_secs(3_600)).expect("a client");
    let run = credentials.clone().run(ca, std::future::pending());
    let here = credentials.watch(&identity("shop", "web"));
    let elsewhere = ["cart", "ended", "nobody"].map(|name| credentials.watch(&identity("shop", name)));
    let foreign = credentials.watch(&"spiffe://other.domain/ns/shop/sa/web".parse().expect("an identity"));
    let check = async {
        let State::Ready(held) = conversation::harness::settled(here).await else {
            panic!("refused our own pod's")
        };
        let validity =
            held.certificate.not_after.duration_since(held.certificate.not_before).expect("positive");
        assert!((3_600..=3_800).contains(&validity.as_secs()), "{validity:?}");
        for state in elsewhere.into_iter().chain([foreign]) {
            let State::Failed { reason, .. } = conversation::harness::settled(state).await else {
                panic!("issued")
            };
            assert!(reason.contains("may not be issued to this node"), "{reason}");
        }
    };
    tokio::select! { () = run => panic!("ended"), () = check => {} }
}

#[tokio::test]
async fn a_waypoint_gets_configuration_and_its_own_certificate_until_its_gateway_is_gone() {
    let controller = Controller::start("waypoint").await;
    controller.publish([policy("a/p", 1)], [workload("one", 1)]);
    let target = controller.target(Some(controller.issuer.sign(&TokenSpec::waypoint())));
    let own = identity("shop", "wp");
    let refused = certificate(&target, &own).await.expect_err("not accepted yet");
    assert!(refused.contains("no trusted node account"), "{refused}");

    controller.accept_waypoint();
    let mut waypoint = waypoint(&controller);
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(match waypoint.push().await {
            Push::Authorization { .. } => "Authorization",
            Push::Policy(_) => "Policy",
            Push::Workload(_) => "Workload",
            Push::Address { upserts, .. } if upserts.len() == 1 => "Address",
            Push::Address { .. } => "not all addresses",
            Push::Destination(_) => "Destination",
            Push::Service(_) => "Service",
            Push::Gateway(_) => "Gateway",
        });
    }
    assert_eq!(told, ["Policy", "Workload", "Address", "Destination", "Service", "Gateway"]);
    eventually("ready", || waypoint.readiness.is_ready()).await;
    let generation = controller.generation();
    eventually("acknowledged", || {
        let all = controller.proxies.all();
        all.iter()
            .any(|one| one.waypoint.as_deref() == Some("shop/wp") && one.generation_acked == Some(generation))
    })
    .await;
    assert_eq!(certificate(&target, &own).await, Ok(()));
    let refused = certificate(&target, &identity("shop", "web")).await.expect_err("somebody else's");
    assert!(refused.contains("its own identity alone"), "{refused}");
    let ztunnel = controller.target(Some(controller.issuer.sign(&TokenSpec::ztunnel("node-a"))));
    let refused = certificate(&ztunnel, &own).await.expect_err("by impersonation");
    assert!(refused.contains("may not be issued to this node"), "{refused}");

    controller.without_gateways();
    eventually("sent away", || controller.proxies.all().is_empty()).await;
    let refused = certificate(&target, &own).await.expect_err("a renewal");
    assert!(refused.contains("no trusted node account"), "{refused}");
}
