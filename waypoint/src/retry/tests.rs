//! Which ends are retried, how often, after how long, and what stops it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::route::{Retry, RetryOn};
use ambit_api::workload::Uid;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::{Budget, End, Plan, Sent, Verdict, Why};
use crate::limits::{Kind, Limits};

const EVERY: [RetryOn; 15] = [
    RetryOn::ServerError,
    RetryOn::GatewayError,
    RetryOn::Reset,
    RetryOn::ResetBeforeRequest,
    RetryOn::ConnectFailure,
    RetryOn::RefusedStream,
    RetryOn::Retriable4xx,
    RetryOn::RetriableStatusCodes,
    RetryOn::RetriableHeaders,
    RetryOn::RateLimited,
    RetryOn::Cancelled,
    RetryOn::DeadlineExceeded,
    RetryOn::Internal,
    RetryOn::ResourceExhausted,
    RetryOn::Unavailable,
];

fn retry(attempts: u32, on: &[RetryOn]) -> Retry {
    Retry {
        attempts,
        per_try_timeout: None,
        on: on.to_vec(),
        statuses: vec![418],
        backoff: Duration::from_millis(25),
        avoid_tried: true,
        headers: vec![HeaderName::from_static("x-again")],
    }
}

fn plan(retry: Retry) -> Plan {
    Plan::new(Some(Arc::new(retry)), None, Instant::now())
}

fn judge(plan: &mut Plan, end: &End<'_>, at_hand: bool) -> Verdict {
    let limits = Arc::default();
    plan.judge(end, at_hand, Budget { limits: &limits, most: None }, &mut SmallRng::seed_from_u64(7))
}

/// The conditions under which such an end is retried.
fn asked(end: &End<'_>) -> Vec<RetryOn> {
    let retried = |condition: &RetryOn| {
        let mut plan = plan(retry(1, &[*condition]));
        plan.begin();
        matches!(judge(&mut plan, end, true), Verdict::Again(_))
    };
    EVERY.into_iter().filter(retried).collect()
}

fn answered(status: u16, headers: &HeaderMap) -> Vec<RetryOn> {
    asked(&End::Answered { status: StatusCode::from_u16(status).unwrap(), headers })
}

fn one_header(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
}

fn why(verdict: &Verdict) -> Option<Why> {
    match verdict {
        Verdict::Again(_) => None,
        Verdict::Stop(why) => Some(*why),
    }
}

#[test]
fn each_condition_asks_for_its_own_statuses() {
    use RetryOn::{GatewayError, Retriable4xx, RetriableStatusCodes, ServerError};
    let none = HeaderMap::new();
    let table: [(u16, &[RetryOn]); 9] = [
        (200, &[]),
        (404, &[]),
        (409, &[Retriable4xx]),
        (418, &[RetriableStatusCodes]),
        (429, &[]),
        (500, &[ServerError]),
        (501, &[ServerError]),
        (502, &[ServerError, GatewayError]),
        (504, &[ServerError, GatewayError]),
    ];
    for (status, conditions) in table {
        assert_eq!(answered(status, &none), conditions, "{status}");
    }
}

#[test]
fn each_condition_asks_for_its_own_headers() {
    for (code, condition) in [
        ("1", RetryOn::Cancelled),
        ("4", RetryOn::DeadlineExceeded),
        ("8", RetryOn::ResourceExhausted),
        ("13", RetryOn::Internal),
        ("14", RetryOn::Unavailable),
    ] {
        assert_eq!(answered(200, &one_header("grpc-status", code)), [condition], "{code}");
    }
    assert_eq!(answered(200, &one_header("grpc-status", "0")), []);
    assert_eq!(answered(200, &one_header("x-again", "")), [RetryOn::RetriableHeaders]);
    assert_eq!(answered(503, &one_header("x-envoy-ratelimited", "true")), [RetryOn::RateLimited]);
}

#[test]
fn each_condition_asks_for_its_own_failures() {
    use RetryOn::{ConnectFailure, GatewayError, RefusedStream, Reset, ResetBeforeRequest, ServerError};
    let table: [(End<'_>, &[RetryOn]); 8] = [
        (End::NoConnection, &[ServerError, GatewayError, Reset, ResetBeforeRequest, ConnectFailure]),
        (End::Refused, &[ServerError, GatewayError, Reset, RefusedStream]),
        (End::Reset { sent: Sent::Nothing }, &[ServerError, GatewayError, Reset, ResetBeforeRequest]),
        (End::Reset { sent: Sent::Some }, &[ServerError, GatewayError, Reset]),
        (End::TryTimedOut, &[ServerError, GatewayError, Reset]),
        (End::Denied, &[]),
        (End::Nowhere, &[]),
        (End::Overflow, &[]),
    ];
    for (end, conditions) in table {
        assert_eq!(asked(&end), conditions, "{end:?}");
    }
}

#[test]
fn the_default_conditions_never_repeat_what_an_application_may_have_seen() {
    let on = [
        RetryOn::ConnectFailure,
        RetryOn::RefusedStream,
        RetryOn::Unavailable,
        RetryOn::Cancelled,
        RetryOn::RetriableStatusCodes,
    ];
    for (end, again) in [
        (End::NoConnection, true),
        (End::Refused, true),
        (End::Reset { sent: Sent::Some }, false),
        (End::TryTimedOut, false),
        (End::Answered { status: StatusCode::SERVICE_UNAVAILABLE, headers: &HeaderMap::new() }, false),
    ] {
        let mut plan = plan(retry(2, &on));
        plan.begin();
        assert_eq!(matches!(judge(&mut plan, &end, true), Verdict::Again(_)), again, "{end:?}");
    }
}

#[test]
fn attempts_are_those_beyond_the_first() {
    let mut plan = plan(retry(2, &EVERY));
    let mut stopped = vec![];
    for number in 1..=3 {
        assert!(plan.may_retry());
        assert_eq!(plan.begin(), number);
        stopped.push(why(&judge(&mut plan, &End::NoConnection, true)));
    }
    assert_eq!(stopped, [None, None, Some(Why::Exhausted)]);
    assert!(!plan.may_retry());
    for without in [None, Some(Arc::new(retry(0, &EVERY)))] {
        let mut plan = Plan::new(without, None, Instant::now());
        assert!(!plan.may_retry(), "nothing needs to be kept");
        plan.begin();
        assert_eq!(why(&judge(&mut plan, &End::NoConnection, true)), Some(Why::NotAsked));
    }
}

#[test]
fn without_its_body_a_request_is_not_repeated() {
    let mut plan = plan(retry(2, &EVERY));
    plan.begin();
    assert_eq!(why(&judge(&mut plan, &End::NoConnection, false)), Some(Why::BodyGone));
}

#[test]
fn retries_at_once_are_limited_for_the_whole_cluster() {
    let limits = Arc::<Limits>::default();
    let budget = Budget { limits: &limits, most: NonZeroU32::new(1) };
    let mut rng = SmallRng::seed_from_u64(7);
    let [mut one, mut other] = [plan(retry(2, &EVERY)), plan(retry(2, &EVERY))];
    one.begin();
    other.begin();
    assert!(matches!(one.judge(&End::NoConnection, true, budget, &mut rng), Verdict::Again(_)));
    assert_eq!(why(&other.judge(&End::NoConnection, true, budget, &mut rng)), Some(Why::Overflow));
    // Its own slot does not stand in the way of the next retry of the same request.
    one.begin();
    assert!(matches!(one.judge(&End::NoConnection, true, budget, &mut rng), Verdict::Again(_)));
    drop(one);
    assert_eq!(limits.held(Kind::Retries), 0);
}

#[test]
fn waits_grow_up_to_ten_times_the_base_and_are_spread() {
    let mut rng = SmallRng::seed_from_u64(7);
    for (made, span) in [(1, 25), (2, 75), (3, 175), (4, 250), (5, 250), (40, 250)] {
        let waits: Vec<_> =
            (0..1_000).map(|_| super::wait(Duration::from_millis(25), made, &mut rng)).collect();
        let span = Duration::from_millis(span);
        assert!(waits.iter().all(|wait| *wait < span), "{made}");
        // Each tenth of the span gets its share of 100, within five standard deviations (9.5).
        for tenth in 0..10 {
            let within = |wait: &&Duration| (span * tenth / 10..span * (tenth + 1) / 10).contains(*wait);
            assert!(waits.iter().filter(within).count().abs_diff(100) <= 48, "{made}: {tenth}");
        }
    }
}

#[test]
fn a_try_ends_no_later_than_the_whole() {
    let now = Instant::now();
    let seconds = Duration::from_secs;
    for (per_try, whole, at, ends) in [
        (None, None, 0, None),
        (Some(2), None, 5, Some(7)),
        (None, Some(3), 1, Some(3)),
        (Some(2), Some(3), 0, Some(2)),
        (Some(2), Some(3), 2, Some(3)),
    ] {
        let retry = Retry { per_try_timeout: per_try.map(seconds), ..retry(1, &[]) };
        let plan = Plan::new(Some(Arc::new(retry)), whole.map(seconds), now);
        assert_eq!(plan.try_deadline(now + seconds(at)), ends.map(|ends| now + seconds(ends)));
        assert_eq!(plan.deadline(), whole.map(|whole| now + seconds(whole)));
    }
}

#[test]
fn tried_endpoints_are_remembered_if_they_are_to_be_avoided() {
    let uid = Uid("a".into());
    for (avoid_tried, tried) in [(true, 1), (false, 0)] {
        let mut plan = plan(Retry { avoid_tried, ..retry(1, &[]) });
        plan.sent_to(&uid);
        assert_eq!(plan.tried().len(), tried);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_when_the_time_is_over() {
    let mut plan =
        Plan::new(Some(Arc::new(retry(9, &EVERY))), Some(Duration::from_millis(30)), Instant::now());
    plan.begin();
    tokio::time::advance(Duration::from_millis(29)).await;
    let Verdict::Again(wait) = judge(&mut plan, &End::NoConnection, true) else { panic!("there is time") };
    assert!(wait <= Duration::from_millis(1), "{wait:?}");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(plan.is_over());
    assert_eq!(why(&judge(&mut plan, &End::TryTimedOut, true)), Some(Why::TimeOver));
}
