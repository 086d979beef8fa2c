//! Whether a failed attempt is made again, when, and within what.
//!
//! A [`Plan`] is one request's: it counts attempts, knows who was tried, and judges the end of each attempt. What an
//! attempt sends again comes from [`replay`].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::route::{Retry, RetryOn};
use ambit_api::workload::Uid;
use http::{HeaderMap, HeaderName, StatusCode};
use rand::Rng;
use tokio::time::Instant;

pub mod replay;
#[cfg(test)]
mod tests;

use crate::filter::respond::GrpcStatus;
use crate::limits::{Kind, Limits, Slot};

/// The longest wait between attempts is so many times the shortest.
const LONGEST_WAIT: u32 = 10;

/// Tells an endpoint which attempt it sees, from 1.
pub const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Says that the answer comes from a rate limit, which a retry would only strain further.
const RATE_LIMITED: &str = "x-envoy-ratelimited";

/// How an attempt ended before a byte of an answer went to the client.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// The head of an answer arrived.
    Answered {
        /// Its status.
        status: StatusCode,
        /// Its headers; with the gRPC status if there is no body.
        headers: &'a HeaderMap,
    },
    /// There was no connection.
    NoConnection,
    /// The peer said that it has not looked at the request (REFUSED_STREAM, GOAWAY).
    Refused,
    /// The connection or stream broke.
    Reset {
        /// Whether any of the request had been sent.
        sent: Sent,
    },
    /// The time for one attempt passed.
    TryTimedOut,
    /// The endpoint's policies forbid it. Final, whatever the route says.
    Denied,
    /// There is no endpoint, or nothing that could be said to one. Final: the next attempt would find the same.
    Nowhere,
    /// A limit of ours was reached. Final: a retry would only add to the load.
    Overflow,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing of it was sent.
    Nothing,
    /// Its head, or more.
    Some,
}

/// What to do after an attempt.
#[derive(Debug)]
pub enum Verdict {
    /// Make another attempt after this long, unless [`Plan::is_over`] by then.
    Again(Duration),
    /// Pass on what there is.
    Stop(Why),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not an end the route wants retried.
    NotAsked,
    /// As many attempts were made as the route allows: flag `URX`.
    Exhausted,
    /// Too many retries to this cluster are under way: flag `UO`.
    Overflow,
    /// The body is no longer at hand.
    BodyGone,
    /// The time for the whole request is over.
    TimeOver,
}

/// What a cluster's retries may hold.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    /// The cluster's counts.
    pub limits: &'a Arc<Limits>,
    /// Retries at once; `None`: no limit.
    pub most: Option<NonZeroU32>,
}

/// The attempts of one request.
#[derive(Debug)]
pub struct Plan {
    retry: Option<Arc<Retry>>,
    made: u32,
    tried: Vec<Uid>,
    deadline: Option<Instant>,
    /// Counted against the cluster's retries while a retry is under way.
    slot: Option<Slot>,
}

impl Plan {
    /// For a request that begins at `now` and may take `timeout` with all its retries.
    pub fn new(retry: Option<Arc<Retry>>, timeout: Option<Duration>, now: Instant) -> Self {
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        Self { retry, made: 0, tried: Vec::new(), deadline, slot: None }
    }

    /// An attempt begins. Gives its number for [`ATTEMPT_COUNT`].
    pub fn begin(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    /// The attempt goes to this endpoint.
    pub fn sent_to(&mut self, endpoint: &Uid) {
        if self.retry.as_ref().is_some_and(|retry| retry.avoid_tried) {
            self.tried.push(endpoint.clone());
        }
    }

    /// Endpoints to avoid.
    pub fn tried(&self) -> &[Uid] {
        &self.tried
    }

    /// Whether an attempt may follow the one under way (or the first): only then must the body be kept.
    pub fn may_retry(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| self.made.max(1) <= retry.attempts)
    }

    /// When the whole request has to be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the time for the whole request has passed.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// When an attempt that begins at `now` has to be answered; not later than the whole.
    pub fn try_deadline(&self, now: Instant) -> Option<Instant> {
        let per_try = self.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        let per_try = per_try.and_then(|timeout| now.checked_add(timeout));
        [per_try, self.deadline].into_iter().flatten().min()
    }

    /// Judges the end of an attempt. `at_hand`: the whole body can be sent again. After [`Verdict::Again`] the next
    /// attempt counts against the budget until it is judged or the plan is dropped.
    pub fn judge(&mut self, end: &End<'_>, at_hand: bool, budget: Budget<'_>, rng: &mut impl Rng) -> Verdict {
        self.slot = None;
        let Some(retry) = self.retry.clone().filter(|retry| retry.attempts > 0 && asks(retry, end)) else {
            return Verdict::Stop(Why::NotAsked);
        };
        if self.is_over() {
            return Verdict::Stop(Why::TimeOver);
        }
        if self.made > retry.attempts {
            return Verdict::Stop(Why::Exhausted);
        }
        if !at_hand {
            return Verdict::Stop(Why::BodyGone);
        }
        let Ok(slot) = budget.limits.take(Kind::Retries, budget.most) else {
            return Verdict::Stop(Why::Overflow);
        };
        self.slot = Some(slot);
        let wait = wait(retry.backoff, self.made, rng);
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Verdict::Again(left.map_or(wait, |left| wait.min(left)))
    }
}

/// Whether the route wants such an end retried.
fn asks(retry: &Retry, end: &End<'_>) -> bool {
    let on = |condition| retry.on.contains(&condition);
    // A connection that fails is counted as the 5xx it would become.
    let failed = on(RetryOn::Reset) || on(RetryOn::ServerError) || on(RetryOn::GatewayError);
    match end {
        End::Denied | End::Nowhere | End::Overflow => false,
        End::Answered { status, headers } => asks_answer(retry, *status, headers),
        End::NoConnection => failed || on(RetryOn::ResetBeforeRequest) || on(RetryOn::ConnectFailure),
        End::Refused => failed || on(RetryOn::RefusedStream),
        End::Reset { sent: Sent::Nothing } => failed || on(RetryOn::ResetBeforeRequest),
        End::Reset { sent: Sent::Some } | End::TryTimedOut => failed,
    }
}

fn asks_answer(retry: &Retry, status: StatusCode, headers: &HeaderMap) -> bool {
    if headers.contains_key(RATE_LIMITED) && !retry.on.contains(&RetryOn::RateLimited) {
        return false;
    }
    let grpc = GrpcStatus::in_headers(headers);
    retry.on.iter().any(|condition| match condition {
        RetryOn::ServerError => status.is_server_error(),
        RetryOn::GatewayError => matches!(status.as_u16(), 502..=504),
        RetryOn::Retriable4xx => status == StatusCode::CONFLICT,
        RetryOn::RetriableStatusCodes => retry.statuses.contains(&status.as_u16()),
        RetryOn::RetriableHeaders => retry.headers.iter().any(|name| headers.contains_key(name)),
        RetryOn::RateLimited => headers.contains_key(RATE_LIMITED),
        RetryOn::Cancelled => grpc == Some(GrpcStatus::CANCELLED),
        RetryOn::DeadlineExceeded => grpc == Some(GrpcStatus::DEADLINE_EXCEEDED),
        RetryOn::Internal => grpc == Some(GrpcStatus::INTERNAL),
        RetryOn::ResourceExhausted => grpc == Some(GrpcStatus::RESOURCE_EXHAUSTED),
        RetryOn::Unavailable => grpc == Some(GrpcStatus::UNAVAILABLE),
        RetryOn::Reset | RetryOn::ResetBeforeRequest | RetryOn::ConnectFailure | RetryOn::RefusedStream => {
            false
        }
    })
}

/// How long to wait before the attempt after `made`: anything up to a span that doubles each time, so that clients that
/// failed together do not return together.
fn wait(base: Duration, made: u32, rng: &mut impl Rng) -> Duration {
    let steps = 1_u32.checked_shl(made).unwrap_or(u32::MAX).saturating_sub(1).max(1);
    let span = base.saturating_mul(steps.min(LONGEST_WAIT));
    span.mul_f64(rng.random_range(0.0..1.0))
}
