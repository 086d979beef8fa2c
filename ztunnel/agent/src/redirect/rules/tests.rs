//! Golden rulesets, and the properties that every one of them must have.

use super::{Found, InboundCapture, ProbePorts, Ruleset, found, removal};

fn every() -> [Ruleset; 4] {
    let probes = || ProbePorts([8080, 9000].into());
    [
        Ruleset::Enrolled { inbound: InboundCapture::On, probes: probes() },
        Ruleset::Enrolled { inbound: InboundCapture::Bypassed, probes: probes() },
        Ruleset::Closed { probes: probes() },
        Ruleset::Residual,
    ]
}

fn golden(ruleset: &Ruleset) -> &'static str {
    match ruleset {
        Ruleset::Enrolled { inbound: InboundCapture::On, .. } => include_str!("testdata/enrolled.nft"),
        Ruleset::Enrolled { inbound: InboundCapture::Bypassed, .. } => include_str!("testdata/bypassed.nft"),
        Ruleset::Closed { .. } => include_str!("testdata/closed.nft"),
        Ruleset::Residual => include_str!("testdata/residual.nft"),
    }
}

#[test]
fn scripts_are_the_golden_ones() {
    for ruleset in every() {
        assert_eq!(ruleset.script(), golden(&ruleset), "{ruleset:?}");
    }
    assert_eq!(removal(), "add table inet ambit\ndelete table inet ambit\n");
}

#[test]
fn every_redirect_and_every_refusal_is_for_an_opening_syn_only() {
    for ruleset in every() {
        for line in
            ruleset.script().lines().filter(|line| line.contains("redirect") || line.contains("reject"))
        {
            assert!(line.contains("tcp flags & (fin|syn|rst|ack) == syn"), "{ruleset:?}: {line}");
        }
    }
}

#[test]
fn every_ruleset_keeps_both_nat_hooks_and_the_marks() {
    for ruleset in every() {
        let script = ruleset.script();
        assert_eq!(script.matches("ct state established accept").count(), 2, "{ruleset:?}");
        assert_eq!(script.matches("ct mark set").count(), 1, "{ruleset:?}");
        assert_eq!(script.matches("meta mark set ct mark").count(), 1, "{ruleset:?}");
        assert!(!script.contains("delete"), "a deleted chain would reset what it redirected");
    }
}

#[test]
fn only_enrolled_redirects_and_residual_hinders_nothing() {
    let redirects = |ruleset: Ruleset| ruleset.script().matches("redirect to").count();
    assert_eq!(every().map(redirects), [2, 1, 0, 0]);
    let refusals = |ruleset: Ruleset| ruleset.script().matches("reject").count();
    assert_eq!(every().map(refusals), [2, 1, 2, 0]);
}

#[test]
fn the_kind_is_read_back() {
    for ruleset in every() {
        assert_eq!(found(&ruleset.script()), ruleset.kind());
    }
    assert_eq!(found(""), Found::Nothing);
    assert_eq!(found("table inet ambit {\n}\n"), Found::Unknown);
}

#[test]
fn a_pod_without_probes_opens_nothing_to_the_kubelets_source() {
    let none = Ruleset::Enrolled { inbound: InboundCapture::On, probes: ProbePorts::default() };
    assert!(!none.script().contains("saddr"), "{}", none.script());
}
