//! Faults put in on purpose: wait, then answer in the place of the service.

use std::time::Duration;

use ambit_api::route::{Abort, Fault};
use bytes::Bytes;
use http::Response;
use rand::Rng;

use super::falls_on;
use super::respond::{self, GrpcStatus, Speaks};

#[cfg(test)]
mod tests;

/// What our answer says.
const TEXT: &str = "fault filter abort";

/// What befalls one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Wait so long: flag `DI`.
    pub delay: Option<Duration>,
    /// Then answer this: flag `FI`.
    pub abort: Option<Abort>,
}

/// Draws a request's faults; delay and abort fall independently of each other.
pub fn draw(fault: &Fault, rng: &mut impl Rng) -> Injected {
    let delay = fault.delay.filter(|delay| falls_on(delay.share, rng)).map(|delay| delay.time);
    let abort = fault.abort.filter(|abort| falls_on(abort.share, rng)).map(|abort| abort.answer);
    Injected { delay, abort }
}

/// The answer of an abort.
pub fn answer(abort: Abort, speaks: Speaks) -> Response<Bytes> {
    match abort {
        Abort::Http(status) => respond::answer(status, TEXT, speaks),
        Abort::Grpc(code) => respond::grpc_answer(GrpcStatus(code), TEXT, speaks),
    }
}
