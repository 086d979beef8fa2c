//! Why a request gets an answer of ours in the place of a service's, and which.

use std::sync::Arc;

use ambit_api::authz::Denied;
use ambit_api::normalise::BadRequest;
use ambit_api::reason::Reason;
use ambit_api::waypoint::decide;
use bytes::Bytes;
use http::{Response, StatusCode};

use crate::body::Answer;
use crate::filter::respond::{self, Speaks};
use crate::limits::Overflow;
use crate::record::{Record, Tail};
use crate::upstream::ReachFailed;

/// Why a request was not sent, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It can be read in several ways, or in none.
    #[error("{0}")]
    Bad(#[from] BadRequest),
    /// It is no HTTP.
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    /// What we are to do has not arrived, or is being withdrawn.
    #[error("our configuration has not arrived")]
    Unready,
    /// A policy.
    #[error("{0}")]
    Denied(#[from] Denied),
    /// A policy that came into force while the request was under way.
    #[error("a policy change forbids it")]
    Forbidden,
    /// No rule takes it.
    #[error("no route matches")]
    NoRoute,
    /// No backend of its rule has any weight.
    #[error("the route has no backend")]
    NoBackend,
    /// Its backend cannot be used.
    #[error("the backend cannot be used: {why}")]
    Broken {
        /// What the route says to answer.
        status: StatusCode,
        /// Why.
        why: Arc<str>,
    },
    /// The backend names a service or subset that is not known.
    #[error("service or subset {0} does not exist")]
    Unknown(String),
    /// No endpoint is in service.
    #[error("no healthy endpoint")]
    NoEndpoint,
    /// A limit.
    #[error("{0}")]
    Overflow(#[from] Overflow),
    /// Our memory.
    #[error("this proxy's memory is nearly used up")]
    Overloaded,
    /// No connection.
    #[error("{0}")]
    Unreachable(ReachFailed),
    /// The connection broke before an answer.
    #[error("no answer: {0}")]
    Reset(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// What a rewrite makes of the request cannot be written as HTTP.
    #[error("the rewritten request cannot be written")]
    Unspeakable,
}

impl From<decide::Refused> for Refusal {
    fn from(refused: decide::Refused) -> Self {
        match refused {
            decide::Refused::Denied(denied) => Self::Denied(denied),
            decide::Refused::NoRoute => Self::NoRoute,
        }
    }
}

impl From<ReachFailed> for Refusal {
    fn from(failed: ReachFailed) -> Self {
        match failed {
            ReachFailed::Overflow(overflow) => Self::Overflow(overflow),
            failed @ ReachFailed::Dial(_) => Self::Unreachable(failed),
        }
    }
}

impl Refusal {
    /// The reason, as metrics and logs carry it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Bad(_) | Self::Unreadable(_) => Reason::BadRequest,
            Self::Unready => Reason::WorkloadUnknown,
            Self::Denied(denied) => denied.reason,
            Self::Forbidden => Reason::PolicyChanged,
            Self::NoRoute => Reason::NoRoute,
            Self::NoBackend | Self::Broken { .. } | Self::Unknown(_) | Self::Unspeakable => {
                Reason::BackendBroken
            }
            Self::NoEndpoint => Reason::NoHealthyEndpoint,
            Self::Overflow(_) | Self::Overloaded => Reason::Overloaded,
            Self::Unreachable(ReachFailed::Dial(failed)) => failed.reason(),
            Self::Unreachable(ReachFailed::Overflow(_)) => Reason::Overloaded,
            Self::Reset(_) => Reason::Reset,
            Self::TimedOut => Reason::RequestTimedOut,
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Broken { status, .. } => *status,
            _ => StatusCode::from_u16(self.reason().http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// What the client is told. Nothing about our insides: the log and `ambit explain` say those.
    fn text(&self) -> &'static str {
        match self {
            Self::Bad(_) | Self::Unreadable(_) => "Bad Request",
            Self::Denied(_) | Self::Forbidden => "RBAC: access denied",
            Self::NoRoute | Self::NoBackend | Self::Broken { .. } | Self::Unspeakable => "",
            Self::Unready | Self::Unknown(_) => "not configured",
            Self::NoEndpoint => "no healthy upstream",
            Self::Overflow(_) => "upstream connect error: overflow",
            Self::Overloaded => "overloaded",
            Self::Unreachable(_) => "upstream connect error: connection failure",
            Self::Reset(_) => "upstream connect error: connection termination",
            Self::TimedOut => "upstream request timeout",
        }
    }

    /// The answer.
    pub fn answer(&self, speaks: Speaks) -> Response<Bytes> {
        respond::answer(self.status(), self.text(), speaks)
    }

    /// The answer in the place of an endpoint's, with the record it closes.
    pub fn instead(&self, mut record: Record) -> Response<Answer> {
        record.refused(self);
        let answer = self.answer(record.speaks);
        record.answer(answer.status(), answer.headers());
        answer.map(|bytes| Answer::local(bytes, Some(Tail::new(record, None, None))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_grpc_get_a_grpc_status_and_others_the_statuses_of_the_field() {
        let cases = [
            (Refusal::NoRoute, 404, "12"),
            (Refusal::NoEndpoint, 503, "14"),
            (Refusal::TimedOut, 504, "14"),
            (Refusal::NoBackend, 500, "2"),
        ];
        for (refusal, status, grpc) in cases {
            assert_eq!(refusal.answer(Speaks::Http).status(), status);
            let answer = refusal.answer(Speaks::Grpc);
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[respond::GRPC_STATUS], grpc);
            assert!(answer.body().is_empty(), "trailers only");
        }
    }
}
