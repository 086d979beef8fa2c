//! Attempts at a request: each chooses an endpoint, is judged for it, and is sent; some ends are followed by another.

use std::rc::Rc;
use std::sync::Arc;

use ambit_api::route::HttpRule;
use ambit_api::service::AppProtocol;
use http::{HeaderMap, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::body::{Answer, Outgoing};
use crate::endpoint::{self, Backends, Endpoint};
use crate::exchange::Exchange;
use crate::filter::respond::{GrpcStatus, Speaks};
use crate::judge::{self, Judged, Sent as SentTo, Shape, Verdicts};
use crate::limits::{Kind, Limits, Overflow, Slot};
use crate::message::{self, Outline};
use crate::outlier::Outcome;
use crate::record::{self, Held, Passed, Record, Tail};
use crate::refuse::Refusal;
use crate::report::ClusterName;
use crate::retry::replay::Replay;
use crate::retry::{ATTEMPT_COUNT, Budget, End, Plan, Sent, Verdict, Why};
use crate::upstream::{Protocol, SendFailed, Target};
use crate::{filter, mirror, upgrade};

/// The most of a request's body that is kept for another attempt or a mirror.
const REPLAYED: usize = 64 * 1024;

/// Connections that had just been closed, which one attempt may meet before it counts as failed.
const STALE: usize = 3;

/// A request on its way to a backend.
pub struct Way<'e> {
    exchange: &'e Rc<Exchange>,
    rule: Option<&'e Arc<HttpRule>>,
    backends: Backends,
    /// How the request differs from the one received.
    shape: Rc<Shape>,
    /// The request as the first attempt sends it; a further one makes it again, which is seldom.
    outline: Option<Outline>,
    /// What has passed of the body.
    received: Rc<Passed>,
}

/// An endpoint's answer, with what is held until it has ended.
pub struct Theirs {
    answer: Response<Incoming>,
    judged: Verdicts,
    held: Held,
    deadline: Option<Instant>,
}

/// An attempt that brought no answer.
struct Failed {
    refusal: Refusal,
    end: End<'static>,
}

impl Failed {
    fn new(refusal: Refusal, end: End<'static>) -> Self {
        Self { refusal, end }
    }
}

impl<'e> Way<'e> {
    /// To the backend at a place of a rule, or, without one, to the pod that was dialled.
    pub fn new(
        exchange: &'e Rc<Exchange>,
        chosen: Option<(&'e Arc<HttpRule>, usize)>,
        outline: Outline,
    ) -> Result<Self, Refusal> {
        let (snapshot, arrival) = (&exchange.snapshot, &exchange.arrival);
        let backend = chosen.and_then(|(rule, place)| judge::backends(rule).get(place));
        let backends = match backend {
            Some(backend) => Backends::of(snapshot, arrival, backend)?,
            None => Backends::dialled(snapshot, arrival)?,
        };
        let (rule, backend) = (chosen.map(|chosen| chosen.0), chosen.map(|chosen| chosen.1));
        let shape = Rc::new(Shape::of(&outline, rule, backend));
        Ok(Self { exchange, rule, backends, shape, outline: Some(outline), received: Rc::default() })
    }

    /// Makes attempts until one is answered for good.
    pub async fn travel(mut self, body: Incoming, record: &mut Record) -> Result<Theirs, Refusal> {
        let (retry, timeout) = match self.rule {
            Some(rule) => (rule.retry.clone(), rule.timeout),
            None => (None, None),
        };
        // A delay that the route put in does not count.
        let mut plan = Plan::new(retry, timeout, Instant::now());
        let replay = self.replay(body, &plan);
        self.mirror(replay.as_ref());
        record.cluster = self.backends.cluster();
        if replay.is_some() {
            self.received = record.received.begin();
        }
        loop {
            record.attempts = plan.begin();
            let outline = self.outline(record.attempts)?;
            let attempted = self.attempt(outline, replay.as_ref(), &mut plan, record).await;
            let at_hand = replay.as_ref().is_none_or(Replay::at_hand);
            let end = match &attempted {
                Ok(theirs) => {
                    End::Answered { status: theirs.answer.status(), headers: theirs.answer.headers() }
                }
                Err(failed) => failed.end,
            };
            match self.judge(&mut plan, &end, at_hand) {
                Verdict::Again(wait) => {
                    drop(attempted);
                    tokio::time::sleep(wait).await;
                    if plan.is_over() {
                        return Err(Refusal::TimedOut);
                    }
                }
                Verdict::Stop(why) => {
                    record.flags.exhausted = why == Why::Exhausted;
                    if let Some(replay) = &replay {
                        replay.release();
                    }
                    return attempted.map_err(|failed| failed.refusal);
                }
            }
        }
    }

    /// The request as the attempt of this number sends it.
    fn outline(&mut self, attempt: u32) -> Result<Outline, Refusal> {
        let outline = self.outline.take().or_else(|| self.shape.outline(&self.exchange.head));
        let mut outline = outline.ok_or(Refusal::Unspeakable)?;
        outline.headers.insert(ATTEMPT_COUNT, attempt.into());
        Ok(outline)
    }

    /// The body, kept as far as another attempt or a mirror may need it; `None` if there is none.
    fn replay(&self, body: Incoming, plan: &Plan) -> Option<Replay<Incoming>> {
        let mirrored = self.rule.is_some_and(|rule| !rule.mirrors.is_empty());
        let bound = if plan.may_retry() || mirrored { REPLAYED } else { 0 };
        (!body.is_end_stream()).then(|| Replay::new(body, bound))
    }

    fn mirror(&self, replay: Option<&Replay<Incoming>>) {
        let mirrors = self.rule.map_or(&[][..], |rule| &rule.mirrors);
        let Some(outline) = self.outline.as_ref().filter(|_| !mirrors.is_empty()) else { return };
        for to in filter::mirror::draw(mirrors, &mut rand::rng()) {
            mirror::send(self.exchange, to, outline, replay.map(Replay::tee));
        }
    }

    fn judge(&self, plan: &mut Plan, end: &End<'_>, at_hand: bool) -> Verdict {
        let balancer = self.backends.balancer();
        let none = Arc::<Limits>::default();
        let limits = balancer.map_or(&none, |balancer| &balancer.cluster().limits);
        let most = self.backends.policy().and_then(|policy| policy.max_retries);
        plan.judge(end, at_hand, Budget { limits, most }, &mut rand::rng())
    }

    /// One attempt: select → authorize S → upstream.
    async fn attempt(
        &self,
        outline: Outline,
        replay: Option<&Replay<Incoming>>,
        plan: &mut Plan,
        record: &mut Record,
    ) -> Result<Theirs, Failed> {
        let exchange = self.exchange;
        let nowhere = |refusal: Refusal| Failed::new(refusal, End::Nowhere);
        let endpoint = self.backends.choose(plan.tried(), exchange.arrival.dialled.ip()).map_err(nowhere)?;
        let pod = endpoint.pod();
        if let Some(uid) = &pod {
            plan.sent_to(uid);
            exchange.authorize((uid, endpoint.at), &outline).map_err(|denied| {
                endpoint.refused();
                Failed::new(denied.into(), End::Denied)
            })?;
        }
        record.endpoint = Some(endpoint.peer.workload().clone());
        record.upstream = Some(endpoint.at);
        let judged = Rc::new(Judged {
            arrival: exchange.arrival.clone(),
            head: Some(exchange.head.clone()),
            endpoint: Some(SentTo { pod, at: endpoint.at, shape: Some(self.shape.clone()) }),
        });
        let outcome = self.exchange_with((endpoint, outline), replay, judged, plan).await;
        if outcome.is_ok() {
            record.answered = Some(Instant::now());
        }
        outcome
    }

    /// Sends to one endpoint and waits for the head of its answer, within the time for one attempt.
    async fn exchange_with(
        &self,
        (endpoint, outline): (Endpoint, Outline),
        replay: Option<&Replay<Incoming>>,
        judged: Rc<Judged>,
        plan: &Plan,
    ) -> Result<Theirs, Failed> {
        let overflow = |overflow| Failed::new(Refusal::Overflow(overflow), End::Overflow);
        let slot = self.admit().map_err(overflow)?;
        let body = match replay {
            None => Outgoing::none(),
            Some(replay) => {
                let gone = || Refusal::Reset("the body is gone".to_owned());
                let attempt = replay.attempt();
                let attempt = attempt.ok_or_else(|| Failed::new(gone(), End::Reset { sent: Sent::Some }))?;
                let judged = judged.follow(&self.exchange.since);
                let counted = (self.received.clone(), self.exchange.speaks);
                let pieces = self.exchange.arrival.mesh.overload.sizes().pieces;
                Outgoing::attempt(attempt, Some(judged), counted, pieces)
            }
        };
        let sending = self.send(&endpoint, outline, body);
        let sent = match plan.try_deadline(Instant::now()) {
            None => sending.await,
            Some(deadline) => tokio::time::timeout_at(deadline, sending)
                .await
                .unwrap_or_else(|_elapsed| Err(Failed::new(Refusal::TimedOut, End::TryTimedOut))),
        };
        self.report(&endpoint, &sent);
        let (answer, lease) = sent?;
        let held = Held { lease, pick: endpoint.pick, slot };
        Ok(Theirs { answer, judged: judged.follow(&self.exchange.since), held, deadline: plan.deadline() })
    }

    /// A place among the cluster's requests.
    fn admit(&self) -> Result<Option<Slot>, Overflow> {
        let Some(balancer) = self.backends.balancer() else { return Ok(None) };
        balancer.cluster().limits.take(Kind::Requests, balancer.policy().max_requests).map(Some)
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        outline: Outline,
        body: Outgoing,
    ) -> Result<(Response<Incoming>, crate::upstream::Lease), Failed> {
        let target = self.target(endpoint);
        let unspeakable = || Failed::new(Refusal::Unspeakable, End::Nowhere);
        let mut request = message::request(outline, target.protocol, body).ok_or_else(unspeakable)?;
        for _ in 0..STALE {
            let reached = self.exchange.arrival.world.upstream.reach(&target).await;
            let line = reached.map_err(|failed| {
                let refusal = Refusal::from(failed);
                let end =
                    if matches!(refusal, Refusal::Overflow(_)) { End::Overflow } else { End::NoConnection };
                Failed::new(refusal, end)
            })?;
            match line.send(request).await {
                Ok(answered) => return Ok(answered),
                Err(SendFailed::Unsent(back)) => request = *back,
                Err(SendFailed::Refused(cause)) => {
                    return Err(Failed::new(Refusal::Reset(cause.to_string()), End::Refused));
                }
                Err(SendFailed::Broke(cause)) => {
                    let end = End::Reset { sent: Sent::Some };
                    return Err(Failed::new(Refusal::Reset(chain(&cause)), end));
                }
            }
        }
        let closed = Refusal::Reset("connections were closed as they were used".to_owned());
        Err(Failed::new(closed, End::Reset { sent: Sent::Nothing }))
    }

    fn target(&self, endpoint: &Endpoint) -> Target {
        Target {
            peer: endpoint.peer.clone(),
            at: endpoint.at,
            protocol: protocol(self.exchange, &self.backends),
            cluster: self.backends.balancer().map(|balancer| balancer.cluster().clone()),
            terms: endpoint::terms(self.backends.policy(), &self.exchange.arrival.mesh.own.times),
        }
    }

    /// Tells the balancer how an attempt ended, as far as the endpoint is to blame.
    fn report<T>(&self, endpoint: &Endpoint, sent: &Result<(Response<T>, crate::upstream::Lease), Failed>) {
        let (Some(balancer), Some(pick)) = (self.backends.balancer(), &endpoint.pick) else {
            return;
        };
        let outcome = match sent {
            Ok((answer, _)) => {
                // A gRPC server that fails at once says so in the head, and 200 before it.
                let grpc = GrpcStatus::in_headers(answer.headers());
                Outcome::Answered(grpc.map_or(answer.status(), GrpcStatus::to_http).as_u16())
            }
            Err(Failed { end: End::TryTimedOut, .. }) => Outcome::TimedOut,
            Err(Failed { end: End::NoConnection | End::Refused | End::Reset { .. }, .. }) => {
                Outcome::Unreachable
            }
            Err(_) => return,
        };
        if let Some(ejection) = balancer.judge(pick, outcome, Instant::now()) {
            let cluster = ClusterName(balancer.cluster().key(), record::Kind::Request);
            self.exchange.arrival.world.report.ejected(cluster, pick, ejection);
        }
    }
}

/// What to speak to a request's endpoints: what their port declares, else what the client speaks.
pub fn protocol(exchange: &Exchange, backends: &Backends) -> Protocol {
    let second = exchange.head.version >= Version::HTTP_2;
    match backends.declared(&exchange.snapshot) {
        _ if exchange.head.upgrade().is_some() => Protocol::Http1,
        AppProtocol::Http2 | AppProtocol::Grpc => Protocol::Http2,
        // gRPC needs HTTP/2 whatever its port calls itself.
        _ if second && exchange.speaks == Speaks::Grpc => Protocol::Http2,
        _ if backends.policy().is_some_and(|policy| policy.upgrade_to_h2) => Protocol::Http2,
        AppProtocol::Unknown if second => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

impl Theirs {
    /// Its headers, for those who change them.
    pub fn headers(&mut self) -> &mut HeaderMap {
        self.answer.headers_mut()
    }

    /// Passes it on to the client; a switch of protocols joins both sides.
    pub fn pass(self, upgrade: Option<OnUpgrade>, mut record: Record) -> Response<Answer> {
        let Self { mut answer, mut judged, held, deadline } = self;
        // It may have been forbidden while the endpoint thought about it.
        if judged.is_forbidden() {
            return Refusal::Forbidden.instead(record);
        }
        record.answer(answer.status(), answer.headers());
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return upgrade::pass(answer, upgrade, (judged, held), record);
        }
        message::strip(answer.headers_mut());
        let tail = Tail::new(record, Some(judged), Some(held));
        answer.map(|body| Answer::streamed(body, deadline, tail))
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
