//! What a waypoint tells about its work: when a request or connection is over, one call makes its metrics, its line in
//! the access log, its span, and a line of its own if it was denied or failed (policy.md rule 18).

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_api::labels::{Outcome, RequestProtocol};
use ambit_api::reason::Reason;
use ambit_api::waypoint::Gateway;
use ambit_discovery::view::Snapshot;
use ambit_process::telemetry::LogHandle;
use tracing::info;

use crate::balance::Pick;
use crate::balance::cluster::ClusterKey;
use crate::filter::respond::Speaks;
use crate::outlier::Ejection;
use crate::record::{Kind, Record};
use crate::trace::export::Spans;
use crate::trace::span::{Origin, Span};

pub mod access;
pub mod metrics;
pub mod parties;
pub mod rare;

use access::Format;
use metrics::{Counted, Ends, Report, Shard};
use parties::Parties;
use rare::Rare;

/// What workers report to; one for the process.
#[derive(Clone)]
pub struct Reporting {
    /// Metrics.
    pub metrics: Report,
    /// Where access log lines go.
    pub log: LogHandle,
    /// Where spans go.
    pub spans: Spans,
    /// Whom spans come from.
    pub origin: Arc<Origin>,
}

/// One worker's.
pub struct Reporter {
    shard: Shard,
    log: LogHandle,
    spans: Spans,
    origin: Arc<Origin>,
    /// What happens seldom.
    pub rare: Rare,
    parties: RefCell<Parties>,
    format: RefCell<Compiled>,
}

/// The format of the gateway it was made for.
#[derive(Default)]
struct Compiled {
    gateway: Option<Arc<Gateway>>,
    format: Option<Rc<Format>>,
}

/// A request or connection that is over, with all that is to be said about it.
pub struct Event<'a> {
    /// What its stages left.
    pub record: &'a Record,
    /// Who asked whom.
    pub ends: &'a Ends,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took in all.
    pub duration: Duration,
    /// How long the endpoint took to answer, from when the request came.
    pub answered: Option<Duration>,
}

/// The name of a cluster, as Istio's waypoints call theirs.
#[derive(Clone, Copy, Debug)]
pub struct ClusterName<'a>(pub &'a ClusterKey, pub Kind);

impl Reporting {
    /// A worker's own part.
    pub fn reporter(&self, worker: usize) -> Reporter {
        Reporter {
            shard: self.metrics.shard(worker),
            log: self.log.clone(),
            spans: self.spans.clone(),
            origin: self.origin.clone(),
            rare: self.metrics.rare(),
            parties: RefCell::default(),
            format: RefCell::default(),
        }
    }
}

impl Reporter {
    /// How a request or connection that begins now will be logged; `None`: not at all.
    pub fn format(&self, snapshot: &Snapshot) -> Option<Rc<Format>> {
        let gateway = snapshot.waypoint.gateway.as_ref();
        let mut compiled = self.format.borrow_mut();
        let same = match (&compiled.gateway, gateway) {
            (Some(known), Some(gateway)) => Arc::ptr_eq(known, gateway),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let log = gateway.and_then(|gateway| gateway.access_log.as_ref());
            *compiled =
                Compiled { gateway: gateway.cloned(), format: log.map(|log| Rc::new(Format::new(log))) };
        }
        compiled.format.clone()
    }

    /// A connection that is not HTTP has reached its endpoint.
    pub fn opened(&self, record: &Record) {
        self.shard.opened(&self.ends(record));
    }

    /// An endpoint rests from now on.
    pub fn ejected(&self, cluster: ClusterName<'_>, pick: &Pick, ejection: Ejection) {
        let (cause, rest) = (ejection.cause, ejection.rest);
        info!(endpoint = %pick.workload.uid, %cluster, ?cause, ?rest, "endpoint ejected");
        self.rare.ejected(cluster, cause);
    }

    /// A request or connection is over.
    pub fn closed(&self, record: &Record) {
        let ends = self.ends(record);
        let duration = record.begun.elapsed();
        let event = Event {
            record,
            ends: &ends,
            outcome: outcome(record),
            duration,
            answered: record.answered.map(|at| at.saturating_duration_since(record.begun)),
        };
        let (received, sent) = (record.received.bytes(), record.sent);
        match record.kind {
            Kind::Request => {
                let messages = (record.received.messages(), record.messages.whole());
                let outcome = event.outcome;
                self.shard.request(&ends, &Counted { outcome, duration, received, sent, messages });
            }
            Kind::Connection => self.shard.closed(&ends, record.flags.reason, (received, sent)),
        }
        if let Some(format) = &record.format {
            self.log.line(format.line(&event));
        }
        if let Some(trace) = &record.trace
            && trace.context.sampled
        {
            self.spans.send(Span::of(&event, trace.context, &self.origin));
        }
        if let Some(reason) = record.flags.reason {
            failed(record, reason);
        }
    }

    fn ends(&self, record: &Record) -> Ends {
        let snapshot = record.arrival.mesh.view.load();
        self.parties.borrow_mut().of(record, &snapshot)
    }
}

fn outcome(record: &Record) -> Outcome {
    let grpc = record.speaks == Speaks::Grpc;
    Outcome {
        protocol: if grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
        // As Envoy counts what never got an answer.
        status: record.status.map_or(0, |status| status.as_u16()),
        grpc_status: record.grpc.map(|status| status.0).filter(|_| grpc),
        flags: record.flags,
    }
}

/// What an operator must learn even if nothing else is logged.
fn failed(record: &Record, reason: Reason) {
    let (head, denied) = (record.head.as_deref(), record.denied.as_ref());
    info!(
        client = %record.arrival.client,
        identity = record.arrival.identity.as_ref().map(tracing::field::display),
        dialled = %record.arrival.dialled,
        method = head.map(|head| head.method.as_str()),
        authority = head.map(|head| &*head.authority),
        path = head.map(|head| head.target.path()),
        status = record.status.map(|status| status.as_u16()),
        flags = %record.flags,
        layer = denied.map(|denied| tracing::field::display(denied.layer)),
        %reason,
        policy = denied.and_then(|denied| denied.policy.as_ref()).map(tracing::field::display),
        rule = denied.and_then(|denied| denied.rule),
        attribute = denied.and_then(|denied| denied.attribute.as_deref()),
        detail = record.detail.as_deref().filter(|_| denied.is_none()),
        route = record.rule.as_deref().map(|rule| &*rule.origin),
        endpoint = record.endpoint.as_deref().map(|workload| tracing::field::display(&workload.uid)),
        "{} failed",
        if record.kind == Kind::Request { "request" } else { "connection" },
    );
}

impl Event<'_> {
    /// When it began, by the clock.
    pub fn began(&self) -> SystemTime {
        SystemTime::now() - self.duration
    }

    /// Writes the name of the cluster it went to, as Istio's waypoints call theirs; an error if it went to none.
    pub fn cluster(&self, out: &mut String) -> fmt::Result {
        let cluster = self.record.cluster.as_ref().ok_or(fmt::Error)?;
        write!(out, "{}", ClusterName(cluster, self.record.kind))
    }
}

impl fmt::Display for ClusterName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ClusterKey { service, port, subset }, kind) = self;
        let kind = match kind {
            Kind::Request => "http",
            Kind::Connection => "tcp",
        };
        write!(f, "inbound-vip|{port}|{kind}")?;
        if let Some(subset) = subset {
            write!(f, "/{subset}")?;
        }
        write!(f, "|{}", service.hostname)
    }
}
