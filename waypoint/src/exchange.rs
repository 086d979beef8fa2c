//! The life of one request, read top to bottom:
//! normalise → match → authorize T → filters → select → authorize S → upstream (retries go back to select) → filters →
//! report.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ambit_api::authz::Denied;
use ambit_api::normalise;
use ambit_api::route::{self, Action, Backend, Fault, Forward, Redirect, headers};
use ambit_api::waypoint::decide::{self, Routed};
use ambit_api::workload::Uid;
use ambit_discovery::view::Snapshot;
use ambit_process::overload::Work;
use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use rand::Rng;

use crate::arrive::{Arrival, Bound};
use crate::attempt::{Theirs, Way};
use crate::body::Answer;
use crate::changes::Seen;
use crate::filter::respond::{self, Speaks};
use crate::filter::{fault, redirect};
use crate::judge;
use crate::known::Known;
use crate::message::{Head, Outline};
use crate::observe;
use crate::record::{Kind, Record, Tail};
use crate::refuse::Refusal;

/// One request on its way.
pub struct Exchange {
    /// The connection it came on.
    pub arrival: Rc<Arrival>,
    /// The configuration it is handled by, from beginning to end.
    pub snapshot: Arc<Snapshot>,
    /// What that says of the connection.
    pub known: Rc<Known>,
    /// Changes of it since.
    pub since: Seen,
    /// What it asks.
    pub head: Rc<Head>,
    /// What its client speaks.
    pub speaks: Speaks,
}

/// How a request was answered.
#[expect(
    clippy::large_enum_variant,
    reason = "it is returned once; a box would cost every request an allocation"
)]
enum Outcome {
    /// By us.
    Ours(Response<Bytes>),
    /// By an endpoint.
    Theirs(Theirs),
}

/// Handles one request. Never fails: whatever goes wrong becomes an answer.
pub async fn exchange(mut request: Request<Incoming>, arrival: Rc<Arrival>) -> Response<Answer> {
    let mut record = Record::begin(Kind::Request, &arrival);
    let (speaks, version) = (Speaks::of(request.headers()), request.version());
    record.speaks = speaks;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    match live(request, speaks, &mut record).await {
        Ok(Outcome::Ours(answer)) => ours(answer, record),
        Ok(Outcome::Theirs(theirs)) => theirs.pass(upgrade, record),
        Err(refusal) => {
            record.refused(&refusal);
            let mut answer = refusal.answer(speaks);
            // Nothing more is believed of a connection on which one message could not be.
            if matches!(refusal, Refusal::Bad(_)) && version < Version::HTTP_2 {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            ours(answer, record)
        }
    }
}

async fn live(request: Request<Incoming>, speaks: Speaks, record: &mut Record) -> Result<Outcome, Refusal> {
    let arrival = record.arrival.clone();
    // Before the configuration is taken: a change between the two is looked at twice rather than never.
    let since = arrival.world.changes.follow();
    let snapshot = Arc::clone(&arrival.mesh.view.load());
    let (parts, body) = request.into_parts();
    let mut head = receive(parts, &snapshot)?;
    record.identify(&mut head.headers, snapshot.waypoint.gateway.as_ref());
    let head = Rc::new(head);
    record.head = Some(head.clone());
    let work = if body.is_end_stream() { Work::Request } else { Work::Upload };
    record.charge = arrival.mesh.admit(work).ok_or(Refusal::Overloaded)?;
    let exchange =
        Rc::new(Exchange { known: Known::of(&arrival, &snapshot), arrival, snapshot, since, head, speaks });
    if let Bound::Workload(_) = exchange.arrival.bound {
        return exchange.direct(body, record).await;
    }
    let routed = exchange.route()?;
    let rule = routed.matched.rule;
    record.rule = Some(rule.clone());
    if let Some(fault) = &rule.fault
        && let Some(abort) = exchange.fault(fault, record).await
    {
        return Ok(Outcome::Ours(abort));
    }
    let mut answer = match &rule.action {
        Action::Forward(forward) => return exchange.forward(&routed, forward, body, record).await,
        Action::Redirect(to) => exchange.redirect(to, &routed)?,
        Action::Respond(direct) => respond::direct(direct.status, &direct.body, speaks),
    };
    headers::change(&rule.response_headers, answer.headers_mut());
    Ok(Outcome::Ours(answer))
}

/// Brings a request into the one form in which it is matched, judged and sent on.
fn receive(parts: Parts, snapshot: &Snapshot) -> Result<Head, Refusal> {
    let gateway = snapshot.waypoint.gateway.as_ref().ok_or(Refusal::Unready)?;
    let normal = normalise::request(&parts, gateway.path_normalization)?;
    let authority = normalise::request_authority(&parts).map_err(normalise::BadRequest::from)?;
    let authority = Box::from(authority.as_str());
    let target = match (&normal.path, parts.uri.path_and_query()) {
        (std::borrow::Cow::Borrowed(path), Some(target)) if *path == target.path() => target.clone(),
        (path, _) => match normal.query {
            Some(query) => format!("{path}?{query}").try_into(),
            None => path.as_ref().try_into(),
        }
        .map_err(|_invalid| Refusal::Unspeakable)?,
    };
    let Parts { method, version, headers, .. } = parts;
    Ok(Head { method, authority, target, headers, version })
}

impl Exchange {
    /// S of a pod, by the configuration of this moment: the request may have waited for long. T is judged again if that is
    /// another one than at its beginning.
    pub fn authorize(&self, pod: (&Uid, SocketAddr), outline: &Outline) -> Result<(), Denied> {
        let now = self.arrival.mesh.view.load();
        if !Arc::ptr_eq(&now, &self.snapshot) {
            judge::target(&now, &self.arrival, Some(&self.head))?;
        }
        observe::endpoint(&now, &self.arrival, pod, Some(outline));
        judge::endpoint(&now, &self.arrival, pod, Some(outline))
    }

    /// Match and T.
    fn route(&self) -> Result<Routed<'_>, Refusal> {
        let (arrival, head) = (&self.arrival, &*self.head);
        let gateway = self.snapshot.waypoint.gateway.as_ref().ok_or(Refusal::Unready)?;
        let table = match &arrival.bound {
            Bound::Service(_) => &self.known.service.as_ref().ok_or(Refusal::Unready)?.http,
            Bound::Listener(port) => {
                let listener = gateway.listeners.iter().find(|listener| listener.port == *port);
                &listener.ok_or(Refusal::Unready)?.http
            }
            Bound::Workload(_) => return Err(Refusal::NoRoute),
        };
        observe::target(&self.snapshot, arrival, Some(head));
        let facts = judge::facts(arrival, arrival.dialled, Some(judge::received(head)));
        let dialled = judge::dialled(&self.known, arrival)?;
        Ok(decide::request(&self.snapshot.waypoint, dialled, table, &self.asked(), &facts)?)
    }

    /// What routes are chosen by.
    fn asked(&self) -> route::Request<'_> {
        route::Request {
            method: &self.head.method,
            scheme: "http",
            authority: &self.head.authority,
            path: self.head.target.path(),
            query: self.head.target.query(),
            headers: &self.head.headers,
            port: self.arrival.dialled.port(),
            client: &self.known.client,
        }
    }

    /// Waits and fails as the route wants it.
    async fn fault(&self, fault: &Fault, record: &mut Record) -> Option<Response<Bytes>> {
        let injected = fault::draw(fault, &mut rand::rng());
        if let Some(delay) = injected.delay {
            record.delayed();
            tokio::time::sleep(delay).await;
        }
        let abort = injected.abort?;
        record.aborted();
        Some(fault::answer(abort, self.speaks))
    }

    fn redirect(&self, to: &Redirect, routed: &Routed<'_>) -> Result<Response<Bytes>, Refusal> {
        redirect::answer(to, &self.asked(), routed.matched.prefix).map_err(|_invalid| Refusal::Unspeakable)
    }

    /// Rewrites, chooses a backend and sends the request there.
    async fn forward(
        self: &Rc<Self>,
        routed: &Routed<'_>,
        forward: &Forward,
        body: Incoming,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        let rule = routed.matched.rule;
        let (place, backend) = choose(forward)?;
        let mut outline = self.head.outline().ok_or(Refusal::Unspeakable)?;
        outline.follow(rule, backend, &routed.matched).map_err(|_bad| Refusal::Unspeakable)?;
        let way = Way::new(self, Some((rule, place)), outline)?;
        let mut theirs = way.travel(body, record).await?;
        headers::change(&rule.response_headers, theirs.headers());
        headers::change(&backend.response_headers, theirs.headers());
        Ok(Outcome::Theirs(theirs))
    }

    /// A pod that was dialled by its own address: no routes, T of the gateway and S.
    async fn direct(self: &Rc<Self>, body: Incoming, record: &mut Record) -> Result<Outcome, Refusal> {
        observe::target(&self.snapshot, &self.arrival, Some(&self.head));
        judge::target(&self.snapshot, &self.arrival, Some(&self.head))?;
        let outline = self.head.outline().ok_or(Refusal::Unspeakable)?;
        Way::new(self, None, outline)?.travel(body, record).await.map(Outcome::Theirs)
    }
}

/// Draws a backend by weight; its place among the others goes with it.
fn choose(forward: &Forward) -> Result<(usize, &Backend), Refusal> {
    if forward.total() == 0 {
        return Err(Refusal::NoBackend);
    }
    let ticket = if forward.backends.len() == 1 { 0 } else { rand::rng().random_range(0..forward.total()) };
    let backend = forward.choose(ticket).ok_or(Refusal::NoBackend)?;
    if let Some(broken) = &backend.broken {
        return Err(Refusal::Broken { status: broken.status, why: broken.why.clone() });
    }
    let place = forward.backends.iter().position(|one| std::ptr::eq(one, backend));
    Ok((place.ok_or(Refusal::NoBackend)?, backend))
}

/// An answer of ours, with the record it closes.
fn ours(answer: Response<Bytes>, mut record: Record) -> Response<Answer> {
    record.answer(answer.status(), answer.headers());
    answer.map(|bytes| Answer::local(bytes, Some(Tail::new(record, None, None))))
}
