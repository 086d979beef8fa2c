//! One record per request: filled by the stages, closed once, when the answer has ended or the client has gone.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ambit_api::reason::Reason;
use ambit_api::route::HttpRule;
use ambit_api::service::ServiceKey;
use ambit_api::workload::Workload;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::Frame;
use tokio::time::Instant;
use tracing::info;

use crate::arrive::Arrival;
use crate::balance::Pick;
use crate::filter::respond::GrpcStatus;
use crate::judge::Verdicts;
use crate::limits::Slot;
use crate::message::Head;
use crate::refuse::Refusal;
use crate::upstream::Lease;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it was passed on.
    Whole,
    /// The endpoint broke off.
    Reset,
    /// A change of policy cut it.
    Forbidden,
    /// The time for the whole request was over.
    TimedOut,
    /// The client did not wait.
    ClientGone,
}

/// What is known of one request so far.
pub struct Record {
    /// The connection it came on.
    pub arrival: Rc<Arrival>,
    /// The request as received and normalised; `None` if it was no proper one.
    pub head: Option<Rc<Head>>,
    /// When it began.
    pub begun: Instant,
    /// The rule it fell on.
    pub rule: Option<Arc<HttpRule>>,
    /// The service it went to.
    pub service: Option<ServiceKey>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<Workload>>,
    /// The address it was sent to.
    pub upstream: Option<SocketAddr>,
    /// Attempts made.
    pub attempts: u32,
    /// The status the client got.
    pub status: StatusCode,
    /// The gRPC status, once it is known.
    pub grpc: Option<GrpcStatus>,
    /// Why it did not go well.
    pub reason: Option<Reason>,
    /// What a person should know of that.
    pub detail: Option<String>,
    /// Faults put in on purpose.
    pub faults: Faults,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// When the endpoint's answer began.
    pub answered: Option<Instant>,
}

/// Faults that befell a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// It was delayed: flag `DI`.
    pub delayed: bool,
    /// It was answered in the service's place: flag `FI`.
    pub aborted: bool,
}

/// What is left to do when an answer ends, and what its request holds until then.
pub struct Tail {
    record: Record,
    judged: Option<Verdicts>,
    held: Option<Held>,
}

/// What a request under way holds.
pub struct Held {
    /// The connection.
    pub lease: Lease,
    /// The endpoint's load.
    pub pick: Option<Pick>,
    /// Its place among the cluster's requests.
    pub slot: Option<Slot>,
}

impl Record {
    /// Of a request that has just begun.
    pub fn begin(arrival: &Rc<Arrival>) -> Self {
        Self {
            arrival: arrival.clone(),
            head: None,
            begun: Instant::now(),
            rule: None,
            service: None,
            endpoint: None,
            upstream: None,
            attempts: 0,
            status: StatusCode::OK,
            grpc: None,
            reason: None,
            detail: None,
            faults: Faults::default(),
            sent: 0,
            answered: None,
        }
    }

    /// It gets an answer of ours because of this.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.reason = Some(refusal.reason());
        self.detail = Some(refusal.to_string());
    }

    /// A fault delays it.
    pub fn delayed(&mut self) {
        self.faults.delayed = true;
    }

    /// A fault answers it.
    pub fn aborted(&mut self) {
        self.faults.aborted = true;
    }

    /// Closes it.
    pub fn close(mut self, ended: Ended) {
        match ended {
            // A client that does not wait is no failure of ours or the endpoint's.
            Ended::Whole | Ended::ClientGone => {}
            Ended::Reset => self.reason = Some(Reason::Reset),
            Ended::Forbidden => self.reason = Some(Reason::PolicyChanged),
            Ended::TimedOut => self.reason = Some(Reason::RequestTimedOut),
        }
        if let Some(reason) = self.reason {
            self.log(reason);
        }
    }

    fn log(&self, reason: Reason) {
        let head = self.head.as_deref();
        info!(
            client = %self.arrival.client,
            identity = self.arrival.identity.as_ref().map(tracing::field::display),
            dialled = %self.arrival.dialled,
            method = head.map(|head| head.method.as_str()),
            authority = head.map(|head| &*head.authority),
            path = head.map(|head| head.target.path()),
            status = self.status.as_u16(),
            %reason,
            detail = self.detail.as_deref(),
            rule = self.rule.as_deref().map(|rule| &*rule.origin),
            endpoint = self.endpoint.as_deref().map(|workload| tracing::field::display(&workload.uid)),
            "request failed"
        );
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc = GrpcStatus::in_headers(trailers).or(self.grpc);
    }
}

impl Tail {
    /// Of an answer; `held` if it comes from an endpoint.
    pub fn new(record: Record, judged: Option<Verdicts>, held: Option<Held>) -> Box<Self> {
        Box::new(Self { record, judged, held })
    }

    /// A piece of the answer passes.
    pub fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.sent += data.len() as u64;
        } else if let Some(trailers) = frame.trailers_ref() {
            self.record.trailers(trailers);
        }
    }

    /// The same of an answer of ours.
    pub fn sent(&mut self, bytes: usize) {
        self.record.sent += bytes as u64;
    }

    /// Whether policies forbid the request by now.
    pub fn is_forbidden(&mut self) -> bool {
        self.judged.as_mut().is_some_and(Verdicts::is_forbidden)
    }

    /// The same, and wakes the task when they may have changed.
    pub fn poll_forbidden(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.judged.as_mut().map_or(Poll::Pending, |judged| judged.poll_forbidden(cx))
    }

    /// The answer has ended.
    pub fn end(self, ended: Ended) {
        if let Some(held) = self.held
            && ended == Ended::Whole
        {
            held.lease.end();
        }
        self.record.close(ended);
    }
}
