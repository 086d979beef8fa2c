//! How often faults befall requests, and what clients see of them. Shares within five standard deviations, fixed seed.

use std::time::Duration;

use ambit_api::route::{Abort, AbortShare, Delay, Fault};
use http::StatusCode;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{Injected, answer, draw};
use crate::filter::respond::Speaks;

const DELAY: Duration = Duration::from_secs(5);
const ABORT: Abort = Abort::Http(StatusCode::IM_A_TEAPOT);

fn drawn(delay_share: u32, abort_share: u32) -> Vec<Injected> {
    let mut rng = SmallRng::seed_from_u64(7);
    let fault = Fault {
        delay: Some(Delay { time: DELAY, share: delay_share }),
        abort: Some(AbortShare { answer: ABORT, share: abort_share }),
    };
    (0..10_000).map(|_| draw(&fault, &mut rng)).collect()
}

/// How many of 10 000, and five standard deviations around it.
fn near(count: usize, share: f64) -> bool {
    let expected = 10_000.0 * share;
    (count as f64 - expected).abs() <= 5.0 * (expected * (1.0 - share)).sqrt()
}

#[test]
fn delays_and_aborts_fall_independently() {
    let drawn = drawn(100_000, 50_000);
    let count = |wanted: fn(&Injected) -> bool| drawn.iter().filter(|injected| wanted(injected)).count();
    assert!(near(count(|injected| injected.delay == Some(DELAY)), 0.1));
    assert!(near(count(|injected| injected.abort == Some(ABORT)), 0.05));
    assert!(near(count(|injected| injected.delay.is_some() && injected.abort.is_some()), 0.005));
}

#[test]
fn none_and_all_are_exact() {
    assert!(drawn(0, 0).iter().all(|injected| *injected == Injected::default()));
    assert!(drawn(1_000_000, 1_000_000).iter().all(|all| all.delay.is_some() && all.abort.is_some()));
}

#[test]
fn clients_get_an_abort_in_their_own_protocol() {
    for (abort, speaks, status, grpc) in [
        (ABORT, Speaks::Http, 418, None),
        (ABORT, Speaks::Grpc, 200, Some("2")),
        (Abort::Grpc(14), Speaks::Http, 503, None),
        (Abort::Grpc(14), Speaks::Grpc, 200, Some("14")),
    ] {
        let answer = answer(abort, speaks);
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().get("grpc-status").map(|code| code.to_str().unwrap()), grpc);
    }
}
