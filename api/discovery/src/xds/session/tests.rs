//! The client's state machine, as a table of conversations.

use ambit_api::wire::security::Authorization;
use ambit_api::wire::workload::{Address, Workload, address};
use prost_types::Any;

use super::super::Role;
use super::*;

fn session() -> Session {
    Session::new(Node {
        role: Role::Ztunnel,
        instance_ip: None,
        pod_name: "ztunnel-a".to_owned(),
        pod_namespace: "ambit-system".to_owned(),
        node_name: "node-a".to_owned(),
        version: "0.1.0".to_owned(),
        metadata: BTreeMap::new(),
    })
}

fn workload(name: &str) -> Vec<u8> {
    let workload = Workload { uid: name.to_owned(), ..Default::default() };
    Address { r#type: Some(address::Type::Workload(workload)) }.encode_to_vec()
}

fn resource(kind: Kind, name: &str, version: &str, body: Vec<u8>) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(Any { type_url: kind.type_url().to_owned(), value: body }),
        ..Default::default()
    }
}

fn response(kind: Kind, nonce: &str, resources: Vec<Resource>, removed: &[&str]) -> Input {
    Input::Received(Box::new(DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }))
}

fn sent(effects: &[Effect]) -> Vec<&DeltaDiscoveryRequest> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::Send(request) = effect { Some(&**request) } else { None })
        .collect()
}

fn rejection(name: &str) -> Rejection {
    Rejection { name: name.to_owned(), reason: "bad".to_owned() }
}

#[test]
fn subscribes_to_everything_policies_first_and_says_who_it_is() {
    let effects = session().step(Input::Connected);
    let requests = sent(&effects);
    let types: Vec<_> = requests.iter().map(|request| request.type_url.as_str()).collect();
    assert_eq!(types, [Kind::Authorization.type_url(), Kind::Address.type_url()]);
    for request in requests {
        assert!(request.resource_names_subscribe.is_empty() && request.initial_resource_versions.is_empty());
        let node = request.node.as_ref().expect("the first request carries the node");
        assert_eq!(node.id, "ztunnel~1.1.1.1~ztunnel-a.ambit-system~ambit-system.svc.cluster.local");
        let fields = &node.metadata.as_ref().expect("metadata").fields;
        for key in ["NAME", "NAMESPACE", "NODE_NAME", "AMBIT_VERSION", "INSTANCE_IPS"] {
            assert!(fields.contains_key(key), "{key}");
        }
    }
}

#[test]
fn acknowledges_with_the_nonce_and_settles_once_both_kinds_arrived() {
    let mut session = session();
    let effects = session.step(response(
        Kind::Address,
        "n1",
        vec![resource(Kind::Address, "a", "1", workload("a"))],
        &[],
    ));
    assert!(matches!(&effects[..], [Effect::Apply(Push::Address { upserts, .. })] if upserts[0].name == "a"));
    let effects = session.step(Input::Applied(vec![]));
    assert_eq!(effects.len(), 1, "one kind is not enough: {effects:?}");
    assert_eq!((sent(&effects)[0].response_nonce.as_str(), &sent(&effects)[0].error_detail), ("n1", &None));
    session.step(response(Kind::Authorization, "n2", vec![], &[]));
    assert!(session.step(Input::Applied(vec![])).contains(&Effect::Settled));
    session.step(response(Kind::Authorization, "n3", vec![], &[]));
    assert!(!session.step(Input::Applied(vec![])).contains(&Effect::Settled), "only once");
}

#[test]
fn a_bad_resource_is_named_and_alone_refused_and_does_not_keep_us_from_settling() {
    let mut session = session();
    let policy = Authorization { name: "p".to_owned(), ..Default::default() }.encode_to_vec();
    session.step(response(
        Kind::Authorization,
        "n1",
        vec![resource(Kind::Authorization, "x/p", "1", policy)],
        &[],
    ));
    session.step(Input::Applied(vec![]));
    let resources = vec![
        resource(Kind::Address, "good", "1", workload("good")),
        resource(Kind::Address, "garbled", "1", vec![0xff, 0xff]),
        resource(Kind::Authorization, "foreign", "1", vec![]),
        resource(Kind::Address, "refused", "1", workload("refused")),
    ];
    let effects = session.step(response(Kind::Address, "n2", resources, &[]));
    let Effect::Apply(Push::Address { upserts, .. }) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(upserts.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["good", "refused"]);
    let effects = session.step(Input::Applied(vec![rejection("refused")]));
    let error = sent(&effects)[0].error_detail.clone().expect("a NACK");
    for name in ["refused: bad", "garbled: ", "foreign: its type is"] {
        assert!(error.message.contains(name), "{name} in {}", error.message);
    }
    assert!(!error.message.contains("good"));
    assert!(effects.contains(&Effect::Settled), "{effects:?}");
    let known = sent(&session.step(Input::Connected))[1].initial_resource_versions.clone();
    let known: Vec<_> = known.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    let expected = [("foreign", ""), ("garbled", ""), ("good", "1"), ("refused", "")];
    assert_eq!(known, expected, "what was refused is named, so that its end is told, and has no version");
}

#[test]
fn a_reconnect_claims_what_is_held_less_what_was_removed() {
    let mut session = session();
    let both = ["a", "b"].map(|name| resource(Kind::Address, name, "7", workload(name)));
    session.step(response(Kind::Address, "n1", both.to_vec(), &[]));
    session.step(Input::Applied(vec![]));
    session.step(response(Kind::Address, "n2", vec![], &["a"]));
    session.step(Input::Applied(vec![]));
    let effects = session.step(Input::Connected);
    let claimed = &sent(&effects)[1].initial_resource_versions;
    assert_eq!(*claimed, BTreeMap::from([("b".to_owned(), "7".to_owned())]));
    // A known resource whose new version is refused is not claimed either: the controller must send it again.
    session.step(response(Kind::Address, "n3", vec![resource(Kind::Address, "b", "8", workload("b"))], &[]));
    session.step(Input::Applied(vec![rejection("b")]));
    assert_eq!(session.known(Kind::Address), 0);
}

#[test]
fn a_policy_that_cannot_be_decoded_is_told_by_name() {
    let mut session = session();
    let garbled = vec![resource(Kind::Authorization, "shop/garbled", "1", vec![0xff, 0xff])];
    let effects = session.step(response(Kind::Authorization, "n1", garbled, &[]));
    let expected = Push::Authorization {
        upserts: Vec::new(),
        unreadable: vec!["shop/garbled".to_owned()],
        removed: Vec::new(),
    };
    assert_eq!(effects, [Effect::Apply(expected)]);
}

#[test]
fn a_connection_lost_between_push_and_answer_claims_nothing_of_it() {
    let mut session = session();
    session.step(response(Kind::Address, "n1", vec![resource(Kind::Address, "a", "1", workload("a"))], &[]));
    session.step(Input::Connected);
    assert_eq!(session.step(Input::Applied(vec![])), []);
    assert_eq!(session.known(Kind::Address), 0);
}

#[test]
fn a_type_we_did_not_ask_for_is_refused() {
    let effects = session().step(Input::Received(Box::new(DeltaDiscoveryResponse {
        type_url: "type.googleapis.com/other".to_owned(),
        nonce: "n".to_owned(),
        ..Default::default()
    })));
    assert!(sent(&effects)[0].error_detail.is_some(), "{effects:?}");
}

#[test]
fn a_nack_of_thousands_stays_short() {
    let many: Vec<_> = (0..10_000).map(|n| rejection(&format!("resource-{n}"))).collect();
    let text = describe(&many);
    assert!(text.len() < MAX_NACK_BYTES + 64, "{}", text.len());
    assert!(text.ends_with("more"), "{text}");
}
