//! Judging a request or connection: T before its route, S before each endpoint, and both again while it is open and the
//! configuration changes.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ambit_api::authz::Denied;
use ambit_api::authz::http::{Facts, HttpFacts};
use ambit_api::reason::Reason;
use ambit_api::route::rewrite::ORIGINAL_PATH;
use ambit_api::route::{Backend, HttpRule};
use ambit_api::waypoint::decide::{self, Dialled};
use ambit_api::workload::Uid;
use ambit_discovery::resolve::waypoint::Standing;
use ambit_discovery::view::Snapshot;
use http::HeaderValue;
use http::uri::PathAndQuery;
use tracing::info;

use crate::arrive::{Arrival, Bound};
use crate::changes::Seen;
use crate::known::Known;
use crate::message::{Head, Outline};

/// What was judged, so that it can be judged again.
pub struct Judged {
    /// The connection.
    pub arrival: Rc<Arrival>,
    /// The request as received; `None` for a connection of which only the addresses are known.
    pub head: Option<Rc<Head>>,
    /// Where it went; `None` while it has only been judged by T.
    pub endpoint: Option<Sent>,
}

/// What was sent to an endpoint.
pub struct Sent {
    /// The pod; `None` behind another waypoint, which judges for itself.
    pub pod: Option<Uid>,
    /// Its address and port.
    pub at: SocketAddr,
    /// How the request differed from the one received.
    pub shape: Option<Rc<Shape>>,
}

/// How a request was changed on its way. Its headers are made again when they are needed.
pub struct Shape {
    /// Its authority.
    pub authority: HeaderValue,
    /// Its path and query.
    pub target: PathAndQuery,
    /// What its rule did to the headers; `None` without a rule.
    pub rule: Option<Arc<HttpRule>>,
    /// What its backend did.
    pub backend: Option<usize>,
}

/// Judges again at changes; held by what is open.
pub struct Verdicts {
    judged: Rc<Judged>,
    seen: Seen,
}

/// T, by the configuration at hand.
pub fn target(snapshot: &Arc<Snapshot>, arrival: &Arrival, head: Option<&Head>) -> Result<(), Denied> {
    let facts = facts(arrival, arrival.dialled, head.map(received));
    let known = Known::of(arrival, snapshot);
    decide::target(&snapshot.waypoint, dialled(&known, arrival)?, &facts).map(drop)
}

/// S of a pod, and the locks of its port.
pub fn endpoint(
    snapshot: &Arc<Snapshot>,
    arrival: &Arrival,
    (uid, at): (&Uid, SocketAddr),
    outline: Option<&Outline>,
) -> Result<(), Denied> {
    let facts = facts(arrival, at, outline.map(sent));
    let known = Known::of(arrival, snapshot);
    decide::endpoint(&snapshot.waypoint, dialled(&known, arrival)?, uid, &facts).map(drop)
}

/// What T judges a request by.
pub fn received(head: &Head) -> HttpFacts<'_> {
    HttpFacts {
        method: &head.method,
        authority: &head.authority,
        path: head.target.path(),
        headers: &head.headers,
    }
}

/// What S judges a request by.
pub fn sent(outline: &Outline) -> HttpFacts<'_> {
    HttpFacts {
        method: &outline.method,
        authority: outline.authority.to_str().unwrap_or_default(),
        path: outline.target.path(),
        headers: &outline.headers,
    }
}

/// What a connection is judged by, towards `destination`.
pub fn facts<'a>(arrival: &'a Arrival, destination: SocketAddr, request: Option<HttpFacts<'a>>) -> Facts<'a> {
    Facts {
        client: arrival.identity.as_ref(),
        waypoint: &arrival.mesh.own.identity,
        source: arrival.client.ip(),
        // Nobody in the mesh vouches for what a header says of earlier hops.
        remote: None,
        destination,
        request,
    }
}

/// What was dialled, by the configuration at hand. We are told of a service for a while after callers are led past us; from
/// then on nobody can say by which T to judge what is left, so nothing passes.
pub fn dialled<'s>(known: &'s Known, arrival: &Arrival) -> Result<Dialled<'s>, Denied> {
    match &arrival.bound {
        Bound::Service(_) => match &known.service {
            Some(service) => Ok(Dialled::Service { service, port: arrival.dialled.port() }),
            None => Err(withdrawn()),
        },
        Bound::Workload(_) | Bound::Listener(_) => Ok(Dialled::Pod),
    }
}

fn withdrawn() -> Denied {
    Denied {
        layer: ambit_api::authz::Layer::Target,
        reason: Reason::PolicyUnknown,
        policy: None,
        rule: None,
        attribute: None,
    }
}

impl Judged {
    /// Follows changes since the configuration it was judged by was at hand.
    pub fn follow(self: &Rc<Self>, since: &Seen) -> Verdicts {
        Verdicts { judged: self.clone(), seen: since.again() }
    }

    fn again(&self) -> Result<(), Denied> {
        let snapshot = self.arrival.mesh.view.load();
        // A gateway that is being withdrawn ends by draining; what is open is not cut by that.
        if snapshot.waypoint.gateway.is_none() {
            return Ok(());
        }
        target(&snapshot, &self.arrival, self.head.as_deref())?;
        let Some(sent) = &self.endpoint else { return Ok(()) };
        let Some(pod) = &sent.pod else { return Ok(()) };
        let outline =
            sent.shape.as_ref().zip(self.head.as_deref()).and_then(|(shape, head)| shape.outline(head));
        endpoint(&snapshot, &self.arrival, (pod, sent.at), outline.as_ref())
    }
}

impl Shape {
    /// Of a request as it is about to be sent.
    pub fn of(outline: &Outline, rule: Option<&Arc<HttpRule>>, backend: Option<usize>) -> Self {
        Self {
            authority: outline.authority.clone(),
            target: outline.target.clone(),
            rule: rule.cloned(),
            backend,
        }
    }

    /// The request as it is sent, made again.
    pub fn outline(&self, head: &Head) -> Option<Outline> {
        let mut outline = head.outline()?;
        if let Some(rule) = &self.rule {
            outline.change(&rule.request_headers);
            let backend = self.backend.and_then(|place| backends(rule).get(place));
            backend.iter().for_each(|backend| outline.change(&backend.request_headers));
        }
        outline.authority = self.authority.clone();
        if self.target != head.target {
            if let Ok(original) = HeaderValue::try_from(head.target.as_str()) {
                outline.headers.insert(ORIGINAL_PATH, original);
            }
            outline.target = self.target.clone();
        }
        Some(outline)
    }
}

/// The backends of a rule, if it sends requests on.
pub fn backends(rule: &HttpRule) -> &[Backend] {
    match &rule.action {
        ambit_api::route::Action::Forward(forward) => &forward.backends,
        _ => &[],
    }
}

impl Verdicts {
    /// Whether what is open is forbidden by a change since the last look.
    pub fn is_forbidden(&mut self) -> bool {
        self.seen.take() && self.forbids()
    }

    /// Ready once it is forbidden.
    pub fn poll_forbidden(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.seen.poll(cx).is_ready() {
            if self.forbids() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Resolves once it is forbidden.
    pub async fn forbidden(mut self) -> Reason {
        std::future::poll_fn(|cx| self.poll_forbidden(cx)).await;
        Reason::PolicyChanged
    }

    fn forbids(&self) -> bool {
        match self.judged.again() {
            Ok(()) => false,
            Err(denied) => {
                let arrival = &self.judged.arrival;
                if *arrival.standing.borrow() == Standing::Gone {
                    info!(client = %arrival.client, dialled = %arrival.dialled, "what is open is cut: clients are led past us, and nobody tells us its policies any more");
                    return true;
                }
                info!(client = %arrival.client, dialled = %arrival.dialled, denied = denied.explain(), "policy change cuts what is open");
                true
            }
        }
    }
}
