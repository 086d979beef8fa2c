//! Policies between wire and model: what is taken, what rejects the whole policy, and that nothing is lost.

use proptest::prelude::*;

use super::{Clause, Match, Policy, PolicyAction, PolicyScope, Rule, StringMatch};
use crate::arbitrary;
use crate::wire::security as wire;

fn of(action: wire::Action, found: wire::Match) -> wire::Authorization {
    let clause = wire::Clause { matches: vec![found] };
    wire::Authorization {
        name: "p".to_owned(),
        namespace: "ns".to_owned(),
        scope: wire::Scope::Namespace.into(),
        action: action.into(),
        rules: vec![wire::Rule::default(), wire::Rule { clauses: vec![clause] }],
        dry_run: false,
        extensions: Vec::new(),
    }
}

fn prefix(address: &[u8], length: u32) -> wire::Address {
    wire::Address { address: address.to_vec(), length }
}

fn fault(wire: wire::Authorization) -> String {
    Policy::try_from(wire).expect_err("must be rejected").to_string()
}

fn with(set: impl FnOnce(&mut wire::Match)) -> wire::Match {
    let mut found = wire::Match::default();
    set(&mut found);
    found
}

fn account(namespace: &str, service_account: &str) -> Vec<wire::ServiceAccountMatch> {
    let (namespace, service_account) = (namespace.to_owned(), service_account.to_owned());
    vec![wire::ServiceAccountMatch { namespace, service_account }]
}

#[test]
fn what_cannot_be_read_rejects_the_policy() {
    let net = |address: &[u8], length| vec![prefix(address, length)];
    let unset = || vec![wire::StringMatch { match_type: None }];
    let four = [10, 0, 0, 1];
    let rows = [
        ("source_ips: 3 bytes", with(|m| m.source_ips = net(&[1, 2, 3], 8))),
        ("source_ips: 0 bytes", with(|m| m.source_ips = net(&[], 0))),
        ("not_source_ips: /33", with(|m| m.not_source_ips = net(&four, 33))),
        ("destination_ips: /300", with(|m| m.destination_ips = net(&four, 300))),
        ("not_destination_ips: /129", with(|m| m.not_destination_ips = net(&[0; 16], 129))),
        ("destination_ports: 65536", with(|m| m.destination_ports = vec![80, 65536])),
        ("not_destination_ports: 70000", with(|m| m.not_destination_ports = vec![70000])),
        ("principals: is missing", with(|m| m.principals = unset())),
        ("not_principals: is missing", with(|m| m.not_principals = unset())),
        ("namespaces: is missing", with(|m| m.namespaces = unset())),
        ("not_namespaces: is missing", with(|m| m.not_namespaces = unset())),
        ("service_accounts: is missing", with(|m| m.service_accounts = account("", "sa"))),
        ("not_service_accounts: is missing", with(|m| m.not_service_accounts = account("ns", ""))),
    ];
    for (expected, found) in rows {
        let text = fault(of(wire::Action::Deny, found));
        let expected = format!("policy ns/p: rules[1].{expected}");
        assert!(text.starts_with(&expected), "{text}, expected {expected}");
    }
}

#[test]
fn unknown_enumeration_values_and_a_missing_name_reject_the_policy() {
    let good = of(wire::Action::Allow, wire::Match::default());
    let rows = [
        ("scope: value 9 is not known", wire::Authorization { scope: 9, ..good.clone() }),
        ("action: value 2 is not known", wire::Authorization { action: 2, ..good.clone() }),
        ("name: is missing", wire::Authorization { name: String::new(), ..good }),
    ];
    for (expected, wire) in rows {
        let text = fault(wire);
        assert!(text.contains(expected), "{text}, expected {expected}");
    }
}

#[test]
fn empty_lists_and_matches_are_taken_as_they_are() {
    let wire = wire::Authorization {
        rules: vec![
            wire::Rule::default(),
            wire::Rule { clauses: vec![wire::Clause::default()] },
            wire::Rule { clauses: vec![wire::Clause { matches: vec![wire::Match::default()] }] },
        ],
        ..of(wire::Action::Deny, wire::Match::default())
    };
    let expected = vec![
        Rule::default(),
        Rule { clauses: vec![Clause::default()] },
        Rule { clauses: vec![Clause { matches: vec![Match::default()] }] },
    ];
    assert_eq!(Policy::try_from(wire).expect("is valid").rules, expected);
}

#[test]
fn mapped_prefixes_mean_the_ipv4_prefix() {
    let mapped = |length| prefix(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0], length);
    let rows = [(104, "10.0.0.0/8"), (128, "10.0.0.0/32"), (96, "10.0.0.0/0"), (95, "::ffff:10.0.0.0/95")];
    for (length, expected) in rows {
        let found = wire::Match { source_ips: vec![mapped(length)], ..Default::default() };
        let policy = Policy::try_from(of(wire::Action::Allow, found)).expect("is valid");
        assert_eq!(policy.rules[1].clauses[0].matches[0].source_ips[0].to_string(), expected);
    }
}

#[test]
fn an_extension_of_a_match_never_opens_anything() {
    let extension = vec![wire::Extension { name: "theirs".to_owned(), config: None }];
    let with_port =
        wire::Match { destination_ports: vec![80], extensions: extension.clone(), ..Default::default() };
    let first = |wire| Policy::try_from(wire).map(|policy| policy.rules[1].clauses[0].matches[0].clone());

    let allow = first(of(wire::Action::Allow, with_port.clone())).expect("is valid");
    assert_eq!(allow, Match::default(), "an ALLOW that cannot be evaluated never matches");
    let deny = first(of(wire::Action::Deny, with_port)).expect("is valid");
    assert_eq!(deny.destination_ports, [80], "a DENY loses the constraint and denies more");
    let only = wire::Match { extensions: extension, ..Default::default() };
    assert!(fault(of(wire::Action::Deny, only)).contains("extensions"));
}

#[test]
fn every_string_match_arrives_as_itself() {
    use wire::string_match::MatchType;
    let rows = [
        (MatchType::Exact("x".to_owned()), StringMatch::Exact("x".to_owned())),
        (MatchType::Prefix("x".to_owned()), StringMatch::Prefix("x".to_owned())),
        (MatchType::Suffix("x".to_owned()), StringMatch::Suffix("x".to_owned())),
        (MatchType::Presence(()), StringMatch::Presence),
    ];
    for (sent, expected) in rows {
        let found = wire::Match {
            principals: vec![wire::StringMatch { match_type: Some(sent) }],
            ..Default::default()
        };
        let policy = Policy::try_from(of(wire::Action::Allow, found)).expect("is valid");
        assert_eq!(policy.rules[1].clauses[0].matches[0].principals, [expected]);
        assert_eq!((policy.scope, policy.action), (PolicyScope::Namespace, PolicyAction::Allow));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way(policy in arbitrary::policy()) {
        // Over the wire's bytes, not only its types: a wrong field number would show here.
        let bytes = prost::Message::encode_to_vec(&wire::Authorization::from(&policy));
        let decoded: wire::Authorization = prost::Message::decode(&bytes[..]).expect("decodes");
        let back = Policy::try_from(decoded).expect("is valid");
        prop_assert_eq!(policy, back);
    }

    #[test]
    fn any_bytes_are_taken_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(decoded) = <wire::Authorization as prost::Message>::decode(&bytes[..]) {
            let _ = Policy::try_from(decoded);
        }
    }
}
