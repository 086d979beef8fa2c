//! One record per request or opaque connection: filled by the stages, closed once, when the answer has ended or the client
//! has gone. Closing it is what reports it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ambit_api::authz::Denied;
use ambit_api::labels::Flags;
use ambit_api::reason::Reason;
use ambit_api::route::HttpRule;
use ambit_api::waypoint::Gateway;
use ambit_api::workload::Workload;
use ambit_process::overload::{Charge, Pieces};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::body::Frame;
use tokio::time::Instant;

use crate::arrive::Arrival;
use crate::balance::Pick;
use crate::balance::cluster::ClusterKey;
use crate::filter::messages::Messages;
use crate::filter::respond::{GrpcStatus, Speaks};
use crate::judge::Verdicts;
use crate::limits::Slot;
use crate::message::Head;
use crate::refuse::Refusal;
use crate::report::access::Format;
use crate::trace::{self, Trace};
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

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request,
    /// A connection of which only the addresses are known.
    Connection,
}

/// What of a request's body has passed, counted by whoever sends it.
#[derive(Clone, Debug, Default)]
pub struct Count(Option<Rc<Passed>>);

/// Of the attempt that came farthest.
#[derive(Debug, Default)]
pub struct Passed {
    bytes: Cell<u64>,
    messages: Cell<u64>,
}

/// What is known of one request or connection so far.
pub struct Record {
    /// Which of the two.
    pub kind: Kind,
    /// The connection it came on.
    pub arrival: Rc<Arrival>,
    /// The request as received and normalised; `None` if it was no proper one.
    pub head: Option<Rc<Head>>,
    /// When it began.
    pub begun: Instant,
    /// The rule it fell on.
    pub rule: Option<Arc<HttpRule>>,
    /// The cluster it went to.
    pub cluster: Option<ClusterKey>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<Workload>>,
    /// The address it was sent to.
    pub upstream: Option<SocketAddr>,
    /// Attempts made.
    pub attempts: u32,
    /// The status the client got; `None` while there is no answer.
    pub status: Option<StatusCode>,
    /// The gRPC status, once it is known.
    pub grpc: Option<GrpcStatus>,
    /// What befell it.
    pub flags: Flags,
    /// Which policy denied it.
    pub denied: Option<Denied>,
    /// What else a person should know of a failure.
    pub detail: Option<String>,
    /// What the client speaks.
    pub speaks: Speaks,
    /// What of the request's body has passed.
    pub received: Count,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Messages of gRPC in the answer.
    pub messages: Messages,
    /// When the endpoint's answer began.
    pub answered: Option<Instant>,
    /// How it is logged; `None`: not at all.
    pub format: Option<Rc<Format>>,
    /// Headers of the answer that the log shows.
    pub kept: Vec<(HeaderName, HeaderValue)>,
    /// Its place in a trace; `None` if nothing is traced.
    pub trace: Option<Trace>,
    /// The memory that it may take.
    pub charge: Charge,
    closed: bool,
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

impl Count {
    /// Begins to count.
    pub fn begin(&mut self) -> Rc<Passed> {
        self.0.get_or_insert_default().clone()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |passed| passed.bytes.get())
    }

    /// Messages of gRPC so far.
    pub fn messages(&self) -> u64 {
        self.0.as_ref().map_or(0, |passed| passed.messages.get())
    }
}

impl Passed {
    /// An attempt has come as far as this; one that came less far changes nothing.
    pub fn reach(&self, bytes: u64, messages: u64) {
        self.bytes.set(self.bytes.get().max(bytes));
        self.messages.set(self.messages.get().max(messages));
    }
}

impl Record {
    /// Of a request or connection that has just begun.
    pub fn begin(kind: Kind, arrival: &Rc<Arrival>) -> Self {
        Self {
            kind,
            arrival: arrival.clone(),
            head: None,
            begun: Instant::now(),
            rule: None,
            cluster: None,
            endpoint: None,
            upstream: None,
            attempts: 0,
            status: None,
            grpc: None,
            flags: Flags::default(),
            denied: None,
            detail: None,
            speaks: Speaks::Http,
            received: Count::default(),
            sent: 0,
            messages: Messages::default(),
            answered: None,
            format: arrival.world.report.format(&arrival.mesh.view.load()),
            kept: Vec::new(),
            trace: None,
            charge: Charge::default(),
            closed: false,
        }
    }

    /// Whether it is a connection's.
    pub fn is_connection(&self) -> bool {
        self.kind == Kind::Connection
    }

    /// Gives the request a name and a place in a trace, which its headers carry on.
    pub fn identify(&mut self, headers: &mut HeaderMap, gateway: Option<&Arc<Gateway>>) {
        let mut rng = rand::rng();
        trace::name(headers, &mut rng);
        let tracing = gateway.and_then(|gateway| gateway.tracing.as_ref());
        self.trace = tracing.map(|tracing| trace::begin(headers, tracing, &mut rng));
    }

    /// It gets an answer of ours, or none at all, because of this.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.flags.reason = Some(refusal.reason());
        match refusal {
            Refusal::Denied(denied) => self.denied = Some(denied.clone()),
            _ => self.detail = Some(refusal.to_string()),
        }
    }

    /// This is the head of its answer.
    pub fn answer(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.grpc = GrpcStatus::in_headers(headers);
        if let Some(format) = &self.format {
            self.kept = format.keep(headers);
        }
    }

    /// A fault delays it.
    pub fn delayed(&mut self) {
        self.flags.delayed = true;
    }

    /// A fault answers it.
    pub fn aborted(&mut self) {
        self.flags.aborted = true;
    }

    /// Closes it.
    pub fn close(mut self, ended: Ended) {
        self.finish(ended);
    }

    fn finish(&mut self, ended: Ended) {
        self.closed = true;
        match ended {
            Ended::Whole => {}
            // Nobody reads a body where there can be none.
            Ended::ClientGone => {
                let bodiless = self.head.as_ref().is_some_and(|head| head.method == Method::HEAD);
                self.flags.abandoned = !(bodiless && self.status.is_some());
            }
            Ended::Reset => self.flags.reason = Some(Reason::Reset),
            Ended::Forbidden => self.flags.reason = Some(Reason::PolicyChanged),
            Ended::TimedOut => self.flags.reason = Some(Reason::RequestTimedOut),
        }
        self.arrival.world.report.closed(self);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc = GrpcStatus::in_headers(trailers).or(self.grpc);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Whoever waited for it gave up before there was an answer to close it.
        if !self.closed {
            self.finish(Ended::ClientGone);
        }
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
            if self.record.speaks == Speaks::Grpc {
                self.record.messages.pass(data);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.record.trailers(trailers);
        }
    }

    /// What the pieces of its body are.
    pub fn pieces(&self) -> Pieces {
        self.record.arrival.mesh.overload.sizes().pieces
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
