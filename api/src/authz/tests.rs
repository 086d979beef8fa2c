//! The tables of l4-protocols §6.1 and §6.2, and the evaluation against a second, naive one.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Attributes, Denied, DryRun, PolicySet, decide, dry_run, recheck};
use crate::arbitrary;
use crate::identity::Identity;
use crate::matching;
use crate::policy::{
    Clause, Match, Policy, PolicyAction, PolicyKey, PolicyScope, Rule, ServiceAccountMatch, StringMatch,
};
use crate::reason::Reason;

use PolicyAction::{Allow, Deny};

fn attributes(peer: Option<&str>) -> Attributes {
    Attributes {
        peer: peer.map(|peer| peer.parse::<Identity>().expect("an identity")),
        source: "10.0.0.5".parse().expect("an address"),
        destination: "10.0.1.9:80".parse().expect("an address"),
    }
}

fn mtls() -> Attributes {
    attributes(Some("spiffe://td/ns/shop/sa/web"))
}

fn plaintext() -> Attributes {
    attributes(None)
}

fn exact(text: &str) -> Vec<StringMatch> {
    vec![StringMatch::Exact(text.to_owned())]
}

fn account(namespace: &str, service_account: &str) -> Vec<ServiceAccountMatch> {
    let (namespace, service_account) = (namespace.to_owned(), service_account.to_owned());
    vec![ServiceAccountMatch { namespace, service_account }]
}

fn nets(prefix: &str) -> Vec<ipnet::IpNet> {
    vec![prefix.parse().expect("a prefix")]
}

fn rule(matches: Vec<Match>) -> Rule {
    Rule { clauses: vec![Clause { matches }] }
}

fn policy(name: &str, action: PolicyAction, rules: Vec<Rule>) -> Arc<Policy> {
    let key = PolicyKey::new("shop", name);
    Arc::new(Policy { key, scope: PolicyScope::Namespace, action, rules, dry_run: false })
}

fn set(policies: impl IntoIterator<Item = Arc<Policy>>) -> PolicySet {
    PolicySet { policies: policies.into_iter().collect(), ..PolicySet::default() }
}

fn with(set: impl FnOnce(&mut Match)) -> Match {
    let mut found = Match::default();
    set(&mut found);
    found
}

fn both(one: impl FnOnce(&mut Match), other: impl FnOnce(&mut Match)) -> Match {
    let mut found = with(one);
    other(&mut found);
    found
}

fn hits(found: Match, attributes: &Attributes) -> bool {
    decide(&set([policy("p", Allow, vec![rule(vec![found])])]), attributes).is_ok()
}

/// A port that no connection here uses: makes a match that is not empty and never holds.
fn never() -> Match {
    Match { destination_ports: vec![1], ..Match::default() }
}

fn always() -> Match {
    Match { destination_ports: vec![80], ..Match::default() }
}

/// Checks rows of (match, whether mTLS from shop/web matches, whether plaintext does).
fn check(rows: impl IntoIterator<Item = (Match, bool, bool)>) {
    for (found, by_mtls, by_plaintext) in rows {
        assert_eq!(hits(found.clone(), &mtls()), by_mtls, "mTLS: {found:?}");
        assert_eq!(hits(found.clone(), &plaintext()), by_plaintext, "plaintext: {found:?}");
    }
}

#[test]
fn fields_of_the_peer_match_what_they_name() {
    check([
        (with(|m| m.principals = exact("td/ns/shop/sa/web")), true, false),
        (with(|m| m.principals = exact("spiffe://td/ns/shop/sa/web")), false, false),
        (with(|m| m.principals = exact("td/ns/shop/sa/other")), false, false),
        (with(|m| m.not_principals = exact("td/ns/shop/sa/web")), false, true),
        (with(|m| m.not_principals = exact("td/ns/shop/sa/other")), true, true),
        (with(|m| m.namespaces = exact("shop")), true, false),
        (with(|m| m.namespaces = exact("sho")), false, false),
        (with(|m| m.not_namespaces = exact("shop")), false, true),
        (with(|m| m.not_namespaces = exact("other")), true, true),
        (with(|m| m.service_accounts = account("shop", "web")), true, false),
        (with(|m| m.service_accounts = account("other", "web")), false, false),
        (with(|m| m.service_accounts = account("shop", "we")), false, false),
        (with(|m| m.not_service_accounts = account("shop", "web")), false, true),
        (with(|m| m.not_service_accounts = account("shop", "we")), true, true),
    ]);
}

#[test]
fn fields_of_the_addresses_match_what_they_name_and_fields_add_up() {
    check([
        (with(|m| m.source_ips = nets("10.0.0.0/24")), true, true),
        (with(|m| m.source_ips = nets("10.0.1.0/24")), false, false),
        (with(|m| m.source_ips = nets("::/0")), false, false),
        (with(|m| m.not_source_ips = nets("10.0.0.5/32")), false, false),
        (with(|m| m.not_source_ips = nets("10.0.1.0/24")), true, true),
        (with(|m| m.destination_ips = nets("10.0.1.9/32")), true, true),
        (with(|m| m.destination_ips = nets("10.0.0.0/24")), false, false),
        (with(|m| m.not_destination_ips = nets("0.0.0.0/0")), false, false),
        (with(|m| m.not_destination_ips = nets("10.0.0.0/24")), true, true),
        (with(|m| m.destination_ports = vec![443, 80]), true, true),
        (with(|m| m.destination_ports = vec![443]), false, false),
        (with(|m| m.not_destination_ports = vec![80]), false, false),
        (with(|m| m.not_destination_ports = vec![443]), true, true),
        // A positive and a negative value of one kind, and two kinds, must all hold.
        (both(|m| m.namespaces = exact("shop"), |m| m.not_namespaces = exact("shop")), false, false),
        (both(|m| m.namespaces = exact("shop"), |m| m.destination_ports = vec![443]), false, false),
        (both(|m| m.namespaces = exact("shop"), |m| m.destination_ports = vec![80]), true, false),
    ]);
}

#[test]
fn strings_are_compared_as_written() {
    let principal = "td/ns/shop/sa/web";
    let (exact, prefix, suffix) = (StringMatch::Exact, StringMatch::Prefix, StringMatch::Suffix);
    let rows = [
        (exact(principal.to_owned()), true, false),
        (exact("TD/ns/shop/sa/web".to_owned()), false, false),
        (exact(String::new()), false, false),
        (prefix("td/".to_owned()), true, false),
        (prefix("d/".to_owned()), false, false),
        (prefix(principal.to_owned()), true, false),
        (prefix("spiffe://td/".to_owned()), false, false),
        (suffix("/sa/web".to_owned()), true, false),
        (suffix("/sa/we".to_owned()), false, false),
        (suffix(format!("x{principal}")), false, false),
        (StringMatch::Presence, true, false),
    ];
    for (wanted, by_mtls, by_plaintext) in rows {
        let found = Match { principals: vec![wanted.clone()], ..Match::default() };
        assert_eq!(hits(found.clone(), &mtls()), by_mtls, "mTLS: {wanted:?}");
        assert_eq!(hits(found, &plaintext()), by_plaintext, "plaintext: {wanted:?}");
    }
    let nobody = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
    assert!(hits(nobody.clone(), &plaintext()), "the form of STRICT: matches whoever shows no identity");
    assert!(!hits(nobody, &mtls()));
    let somewhere = Match { namespaces: vec![StringMatch::Presence], ..Match::default() };
    assert!(hits(somewhere.clone(), &mtls()));
    assert!(!hits(somewhere, &plaintext()));
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
    let mut attributes = plaintext();
    attributes.source = "::ffff:10.0.0.5".parse().expect("an address");
    attributes.destination = "[::ffff:10.0.1.9]:80".parse().expect("an address");
    assert!(hits(Match { source_ips: nets("10.0.0.5/32"), ..Match::default() }, &attributes));
    assert!(hits(Match { destination_ips: nets("10.0.1.9/32"), ..Match::default() }, &attributes));
}

#[test]
fn the_nesting_edge_table() {
    let clause = |matches| Clause { matches };
    let rows = [
        ("no rules", vec![], false),
        ("a rule with no clauses", vec![Rule::default()], true),
        ("a clause with no matches", vec![rule(vec![])], true),
        ("a match with no fields", vec![rule(vec![Match::default()])], false),
        ("an empty match beside one that holds", vec![rule(vec![Match::default(), always()])], true),
        ("an empty match beside one that does not", vec![rule(vec![Match::default(), never()])], false),
        ("any rule", vec![rule(vec![never()]), rule(vec![always()])], true),
        ("no rule", vec![rule(vec![never()]), rule(vec![never()])], false),
        ("any match", vec![rule(vec![never(), always()])], true),
        ("all clauses", vec![Rule { clauses: vec![clause(vec![always()]), clause(vec![always()])] }], true),
        (
            "not all clauses",
            vec![Rule { clauses: vec![clause(vec![always()]), clause(vec![never()])] }],
            false,
        ),
        (
            "an empty clause decides nothing",
            vec![Rule { clauses: vec![clause(vec![]), clause(vec![never()])] }],
            false,
        ),
    ];
    for (name, rules, matches) in rows {
        let allow = decide(&set([policy("p", Allow, rules.clone())]), &mtls());
        assert_eq!(allow.is_ok(), matches, "ALLOW: {name}");
        let deny = decide(&set([policy("p", Deny, rules)]), &mtls());
        assert_eq!(deny.is_err(), matches, "DENY: {name}");
    }
}

#[test]
fn deny_comes_first_then_missing_then_allow() {
    let (allow, deny) = (policy("a", Allow, vec![Rule::default()]), policy("d", Deny, vec![Rule::default()]));
    let (no_allow, no_deny) = (policy("na", Allow, vec![]), policy("nd", Deny, vec![]));
    let gone = PolicyKey::new("shop", "gone");
    let missing = |mut set: PolicySet| {
        set.missing.push(gone.clone());
        set
    };
    let unusable = |mut set: PolicySet| {
        set.unusable.push(PolicyKey::new("shop", "bad"));
        set
    };
    let allow_all = allow.clone();
    let by = |name: &str| Ok(Some(PolicyKey::new("shop", name)));
    let refused = |reason, name: &str| Err((reason, Some(PolicyKey::new("shop", name))));
    let (denied, unknown) = (Reason::PolicyDenied, Reason::PolicyUnknown);
    let rows = [
        (set([]), Ok(None)),
        (set([no_deny.clone()]), Ok(None)),
        (set([allow.clone()]), by("a")),
        (set([no_allow.clone()]), refused(denied, "na")),
        (set([no_allow.clone(), allow.clone()]), by("a")),
        (set([allow.clone(), deny.clone()]), refused(denied, "d")),
        (missing(set([allow.clone()])), refused(unknown, "gone")),
        (missing(set([allow, deny])), refused(denied, "d")),
        (missing(set([])), refused(unknown, "gone")),
        (unusable(set([allow_all.clone()])), refused(unknown, "bad")),
        (unusable(missing(set([allow_all]))), refused(unknown, "bad")),
    ];
    for (set, expected) in rows {
        let got = decide(&set, &mtls());
        let got = got.map(|permit| permit.by().cloned()).map_err(|denied| (denied.reason, denied.policy));
        assert_eq!(got, expected, "{set:?}");
    }
}

#[test]
fn a_change_cuts_open_connections_and_so_does_an_unusable_policy_but_a_missing_one_does_not() {
    let (allow, deny) = (policy("a", Allow, vec![Rule::default()]), policy("d", Deny, vec![Rule::default()]));
    let no_allow = policy("na", Allow, vec![]);
    let missing = |mut set: PolicySet| {
        set.missing.push(PolicyKey::new("shop", "gone"));
        set
    };
    let unusable = |mut set: PolicySet| {
        set.unusable.push(PolicyKey::new("shop", "bad"));
        set
    };
    let rows = [
        (set([]), None),
        (unusable(set([])), Some("bad")),
        (unusable(set([allow.clone()])), Some("bad")),
        (unusable(missing(set([allow.clone()]))), Some("bad")),
        (set([allow.clone()]), None),
        (set([no_allow.clone()]), Some("na")),
        (set([allow, deny.clone()]), Some("d")),
        (missing(set([])), None),
        (missing(set([no_allow])), None),
        (missing(set([deny])), Some("d")),
    ];
    for (set, cut_by) in rows {
        let got = recheck(&set, &mtls()).err();
        assert_eq!(
            got.as_ref().map(|denied| denied.reason),
            cut_by.map(|_| Reason::PolicyChanged),
            "{set:?}"
        );
        assert_eq!(got.and_then(|denied| denied.policy), cut_by.map(|name| PolicyKey::new("shop", name)));
    }
}

#[test]
fn dry_run_policies_are_told_and_not_enforced() {
    let dry = |name: &str, action, rules| {
        Arc::new(Policy { dry_run: true, ..Policy::clone(&policy(name, action, rules)) })
    };
    let set = set([
        dry("deny", Deny, vec![Rule::default()]),
        dry("allow", Allow, vec![]),
        policy("real", Allow, vec![Rule::default()]),
    ]);
    let told = |name: &str, matched| DryRun { policy: PolicyKey::new("shop", name), matched };
    assert_eq!(dry_run(&set, &mtls()), [told("deny", true), told("allow", false)]);
    assert_eq!(
        decide(&set, &mtls()).map(|permit| permit.by().cloned()),
        Ok(Some(PolicyKey::new("shop", "real")))
    );
    let only_dry = PolicySet { policies: set.policies[..2].to_vec(), ..PolicySet::default() };
    assert_eq!(decide(&only_dry, &mtls()).map(|permit| permit.by().cloned()), Ok(None));
}

#[test]
fn a_denial_names_the_nearest_rule_and_what_failed_in_it() {
    let stranger = |m: &mut Match| m.principals = exact("td/ns/x/sa/x");
    let far = rule(vec![both(stranger, |m| m.destination_ports = vec![1])]);
    let near = rule(vec![both(stranger, |m| m.destination_ports = vec![80])]);
    let half = both(|m| m.destination_ports = vec![80], |m| m.not_destination_ports = vec![80]);
    let clause = |matches| Clause { matches };
    let nearer = Rule {
        clauses: vec![clause(vec![with(|m| m.namespaces = exact("shop"))]), clause(vec![never(), half])],
    };
    let line =
        |policies: Vec<Arc<Policy>>| decide(&set(policies), &mtls()).expect_err("no ALLOW matches").explain();
    let allow = |name, rules: &[&Rule]| policy(name, Allow, rules.iter().copied().cloned().collect());
    let empty = rule(vec![Match::default()]);
    let other = rule(vec![never()]);
    let rows = [
        (vec![allow("p", &[&far])], "policy=shop/p rule=0 attribute=principals"),
        (vec![allow("p", &[&far]), allow("q", &[&far, &near])], "policy=shop/q rule=1 attribute=principals"),
        (vec![allow("p", &[&far, &near, &nearer])], "policy=shop/p rule=2 attribute=notPorts"),
        // Equally near: the first by name, then by place, in whatever order the policies arrived.
        (vec![allow("q", &[&far]), allow("p", &[&far, &far])], "policy=shop/p rule=0 attribute=principals"),
        (vec![allow("a", &[]), allow("p", &[&far])], "policy=shop/p rule=0 attribute=principals"),
        (vec![allow("a", &[])], "policy=shop/a"),
        (vec![allow("a", &[&empty])], "policy=shop/a rule=0"),
        (vec![policy("d", Deny, vec![other, Rule::default()])], "policy=shop/d rule=1"),
    ];
    for (policies, expected) in rows {
        assert_eq!(line(policies), format!("layer=l4 reason=policy_denied {expected}"));
    }
}

#[test]
fn a_missing_policy_is_named() {
    let gone = PolicySet { missing: vec![PolicyKey::new("shop", "gone")], ..PolicySet::default() };
    let denied: Denied = decide(&gone, &mtls()).expect_err("it is missing");
    assert_eq!(denied.to_string(), "layer=l4 reason=policy_unknown policy=shop/gone");
}

#[test]
fn a_workload_is_judged_by_its_own_policies() {
    let scoped = |namespace: &str, name: &str, scope| {
        let key = PolicyKey::new(namespace, name);
        Arc::new(Policy { key, scope, action: Allow, rules: vec![], dry_run: false })
    };
    let known = [
        scoped("root", "mesh", PolicyScope::Global),
        scoped("shop", "all", PolicyScope::Namespace),
        scoped("other", "all", PolicyScope::Namespace),
        scoped("shop", "listed", PolicyScope::WorkloadSelector),
        scoped("shop", "unlisted", PolicyScope::WorkloadSelector),
    ];
    let mut workload = crate::workload::tests::pod();
    workload.namespace = "shop".to_owned();
    let listed = ["listed", "gone", "listed"];
    workload.policies = listed.iter().map(|name| PolicyKey::new("shop", name)).collect();
    // Naming another namespace's policy does not make it apply, nor is it missing.
    workload.policies.push(PolicyKey::new("other", "all"));
    let set = PolicySet::for_workload(&workload, &known);
    assert_eq!(set.policies, [known[0].clone(), known[1].clone(), known[3].clone()]);
    assert_eq!(set.missing, [PolicyKey::new("shop", "gone")]);
}

/// The evaluation once more, written straight from the reference and without a thought for cost.
fn naive(set: &PolicySet, attributes: &Attributes) -> bool {
    fn kind<T>(yes: &[T], no: &[T], hit: impl Fn(&T) -> bool) -> bool {
        (yes.is_empty() || yes.iter().any(&hit)) && !no.iter().any(&hit)
    }
    let text = |wanted: &StringMatch, value: &str| match wanted {
        StringMatch::Exact(text) => value == text,
        StringMatch::Prefix(text) => value.starts_with(text.as_str()),
        StringMatch::Suffix(text) => value.ends_with(text.as_str()),
        StringMatch::Presence => !value.is_empty(),
    };
    let peer = attributes.peer.as_ref();
    let namespace = peer.map_or("", |peer| peer.namespace());
    let found = |m: &Match| {
        *m != Match::default()
            && kind(&m.destination_ips, &m.not_destination_ips, |net| {
                net.contains(&attributes.destination.ip())
            })
            && kind(&m.source_ips, &m.not_source_ips, |net| net.contains(&attributes.source))
            && kind(&m.destination_ports, &m.not_destination_ports, |port| *port == attributes.port())
            && kind(&m.service_accounts, &m.not_service_accounts, |account| {
                peer.is_some_and(|peer| {
                    (&*account.namespace, &*account.service_account)
                        == (peer.namespace(), peer.service_account())
                })
            })
            && kind(&m.principals, &m.not_principals, |wanted| {
                peer.is_some_and(|peer| text(wanted, &peer.uri()["spiffe://".len()..]))
            })
            && kind(&m.namespaces, &m.not_namespaces, |wanted| text(wanted, namespace))
    };
    let clause = |clause: &Clause| clause.matches.is_empty() || clause.matches.iter().any(found);
    let hit = |policy: &&Arc<Policy>| policy.rules.iter().any(|rule| rule.clauses.iter().all(clause));
    let enforced =
        |action| set.policies.iter().filter(move |policy| policy.action == action && !policy.dry_run);
    let denied =
        enforced(Deny).any(|policy| hit(&policy)) || !set.missing.is_empty() || !set.unusable.is_empty();
    !denied && (enforced(Allow).next().is_none() || enforced(Allow).any(|policy| hit(&policy)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decide_agrees_with_the_naive_evaluation(set in arbitrary::policy_set(), at in arbitrary::attributes()) {
        prop_assert_eq!(decide(&set, &at).is_ok(), naive(&set, &at));
    }

    #[test]
    fn a_denial_by_allow_names_a_rule_that_does_not_match(set in arbitrary::policy_set(), at in arbitrary::attributes()) {
        for policy in &set.policies {
            for rule in &policy.rules {
                let alone = Policy { rules: vec![rule.clone()], ..Policy::clone(policy) };
                let fits = matching::fit(rule, &at).missed == 0;
                prop_assert_eq!(fits, matching::matching_rule(&alone, &at).is_some());
            }
        }
        if let Err(denied) = decide(&set, &at) {
            prop_assert!(denied.policy.is_some());
            prop_assert!(!denied.explain().is_empty());
        }
    }

    #[test]
    fn what_decide_lets_in_recheck_leaves_open(set in arbitrary::policy_set(), at in arbitrary::attributes()) {
        if decide(&set, &at).is_ok() {
            prop_assert_eq!(recheck(&set, &at), Ok(()));
        }
    }
}
