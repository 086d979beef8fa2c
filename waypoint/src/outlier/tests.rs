//! When an endpoint is ejected, for how long, and how many may be.

use std::time::Duration;

use ambit_api::waypoint::Outlier;
use proptest::prelude::*;

use super::{Cause, Marks, Moment, Outcome, eject};

const FAIL: Outcome = Outcome::Answered(500);
const FINE: Outcome = Outcome::Answered(200);

fn rules() -> Outlier {
    Outlier {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        consecutive_local: 0,
        split_local: false,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent: 50,
        min_health_percent: 0,
    }
}

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

/// What is reached by these outcomes, one after the other.
fn causes(rules: &Outlier, outcomes: &[Outcome]) -> Vec<Option<Cause>> {
    let marks = Marks::default();
    outcomes.iter().map(|outcome| marks.count(rules, *outcome)).collect()
}

#[test]
fn only_failures_in_a_row_count() {
    let five = Some(Cause::Consecutive5xx);
    assert_eq!(causes(&rules(), &[FAIL, FAIL, FAIL]), [None, None, five]);
    assert_eq!(causes(&rules(), &[FAIL, FAIL, FINE, FAIL, FAIL]), [None; 5]);
    assert_eq!(causes(&rules(), &[FAIL, FAIL, Outcome::Answered(404), FAIL, FAIL]), [None; 5]);
    let counted = causes(&rules(), &[FAIL; 7]);
    assert_eq!(counted, [None, None, five, None, None, five, None], "a count begins anew");
    let off = Outlier { consecutive_5xx: 0, ..rules() };
    assert_eq!(causes(&off, &[FAIL; 20]), [None; 20]);
}

#[test]
fn gateway_errors_have_a_count_of_their_own() {
    let rules = Outlier { consecutive_5xx: 0, consecutive_gateway: 2, ..rules() };
    let gateway = Some(Cause::ConsecutiveGateway);
    for (status, reached) in [(502, gateway), (503, gateway), (504, gateway), (500, None), (501, None)] {
        let outcome = Outcome::Answered(status);
        assert_eq!(causes(&rules, &[outcome, outcome]), [None, reached], "{status}");
    }
    assert_eq!(causes(&rules, &[Outcome::Answered(503), FAIL, Outcome::Answered(503)]), [None; 3]);
}

#[test]
fn failures_to_connect_are_gateway_errors_unless_split_off() {
    let together = Outlier { consecutive_gateway: 2, consecutive_local: 2, ..rules() };
    for outcome in [Outcome::Unreachable, Outcome::TimedOut] {
        assert_eq!(causes(&together, &[outcome, outcome]), [None, Some(Cause::ConsecutiveGateway)]);
    }
    let apart = Outlier { split_local: true, ..together };
    let local = Some(Cause::ConsecutiveLocal);
    assert_eq!(causes(&apart, &[Outcome::Unreachable, Outcome::TimedOut]), [None, local]);
    assert_eq!(causes(&apart, &[Outcome::Unreachable, FAIL, Outcome::Unreachable]), [None; 3], "it answered");
    let off = Outlier { consecutive_local: 0, ..apart };
    assert_eq!(causes(&off, &[Outcome::Unreachable; 9]), [None; 9]);
}

#[test]
fn an_endpoint_rests_longer_each_time_up_to_five_minutes() {
    let marks = Marks::default();
    let mut now = 1;
    for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
        let rest = eject(&marks, [&marks].into_iter(), &rules(), at(now)).unwrap();
        assert_eq!(rest.as_secs(), seconds);
        assert!(marks.is_ejected(at(now + seconds - 1)));
        now += seconds;
        assert!(!marks.is_ejected(at(now)));
    }
    let patient = Outlier { base_ejection: Duration::from_secs(400), ..rules() };
    let rest = eject(&Marks::default(), [&marks].into_iter(), &patient, at(now));
    assert_eq!(rest, Some(Duration::from_secs(400)));
}

#[test]
fn time_in_service_makes_up_for_earlier_ejections() {
    let marks = Marks::default();
    let next = |now| eject(&marks, [&marks].into_iter(), &rules(), at(now)).unwrap().as_secs();
    assert_eq!(next(0), 30);
    assert_eq!(next(30), 60);
    // One interval of ten seconds since 90 forgives one of two.
    assert_eq!(next(100), 60);
    // Back at 160; an hour forgives everything.
    assert_eq!(next(3760), 30);
}

#[test]
fn one_who_rests_is_not_ejected_again() {
    let marks = Marks::default();
    assert!(eject(&marks, [&marks].into_iter(), &rules(), at(0)).is_some());
    assert!(eject(&marks, [&marks].into_iter(), &rules(), at(29)).is_none());
}

proptest! {
    /// Whatever fails: never more rest than the share permits, or one.
    #[test]
    fn enough_endpoints_stay(total in 1..30_usize, percent in 0..=100_u32, failing in prop::collection::vec(0..30_usize, 1..60)) {
        let rules = Outlier { max_ejection_percent: percent, ..rules() };
        let marks: Vec<Marks> = (0..total).map(|_| Marks::default()).collect();
        let most = (total * percent as usize / 100).max(1);
        for (second, index) in failing.iter().enumerate() {
            let now = at(second as u64);
            let resting = || marks.iter().filter(|marks| marks.is_ejected(now)).count();
            let before = resting();
            let one = &marks[index % total];
            let rested = one.is_ejected(now);
            let ejected = eject(one, marks.iter(), &rules, now).is_some();
            prop_assert!(resting() <= most);
            prop_assert_eq!(ejected, !rested && before < most);
        }
    }
}

#[test]
fn workers_share_one_count() {
    let marks = Marks::default();
    let rules = Outlier { consecutive_5xx: 4_000, ..rules() };
    let reached: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1_000).filter(|_| marks.count(&rules, FAIL).is_some()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(reached, 1);
}
