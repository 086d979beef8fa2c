//! The delta xDS service: one task per stream that steps its [`Session`] and does what it says.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use ambit_api::wire::core::Node;
use ambit_api::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_process::spawn::spawn;
use prost::Message;
use prost_types::value::Kind as ValueKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Audience;
use super::metrics::{Connected, Service};
use super::session::{Effect, Input, Session};
use super::syncz::{Entry, Proxies, Proxy};
use crate::ca::grant;
use crate::ca::tokens::Caller;
use crate::gate::{Gate, Turned};
use crate::rpc::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use crate::snapshot::Snapshot;

/// Responses between a session and its connection; a session has one on its way at a time.
const RESPONSES: usize = 2;

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub struct Discovery {
    gate: Arc<Gate>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    proxies: Proxies,
    streams: Arc<Semaphore>,
    stopping: watch::Receiver<()>,
}

/// One stream's state outside the session.
struct Serving {
    gate: Arc<Gate>,
    caller: Caller,
    audience: Audience,
    proxies: Proxies,
    entry: Option<Entry>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    stopping: watch::Receiver<()>,
    _connected: Connected,
    _permit: OwnedSemaphorePermit,
}

impl Discovery {
    /// Serves the snapshots to whom `gate` lets in, at most `streams` at a time, until the sender of `stopping` is
    /// dropped: then proxies are sent away at once, to find another controller while we end.
    pub fn new(
        gate: Arc<Gate>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        proxies: Proxies,
        streams: usize,
        stopping: watch::Receiver<()>,
    ) -> Self {
        Self { gate, snapshots, proxies, streams: Arc::new(Semaphore::new(streams)), stopping }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream = Responses;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let refuse = |why: Turned| self.gate.turn_away(Service::Discovery, &why);
        let caller = self.gate.caller(request.metadata()).await.map_err(|why| refuse(why.into()))?;
        let known = self.gate.with_rules(|rules| grant::proxy(&caller, None, rules));
        let audience = known.map_err(|why| refuse(why.into()))?.audience();
        let permit = self.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many proxies are connected"))?;
        let (responses, outgoing) = mpsc::channel(RESPONSES);
        let stream = Serving {
            gate: self.gate.clone(),
            caller,
            audience,
            proxies: self.proxies.clone(),
            entry: None,
            responses,
            stopping: self.stopping.clone(),
            _connected: self.gate.metrics.connect(),
            _permit: permit,
        };
        spawn("xds stream", stream.run(request.into_inner(), self.snapshots.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

impl Serving {
    async fn run(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
    ) {
        let latest = snapshots.borrow_and_update().clone();
        let mut session = Session::new(self.audience.clone(), latest);
        let (gate, caller) = (self.gate.clone(), self.caller.clone());
        let mut revoked = pin!(gate.revoked(&caller));
        loop {
            let input = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => Input::Request(Box::new(request)),
                    Ok(None) | Err(_) => break,
                },
                changed = snapshots.changed() => match changed {
                    Ok(()) => Input::Snapshot(snapshots.borrow_and_update().clone()),
                    Err(_) => break,
                },
                () = until(session.wake_at()) => Input::Tick,
                () = self.responses.closed() => break,
                why = &mut revoked => {
                    let _ = self.responses.try_send(Err(self.gate.turn_away(Service::Discovery, &why)));
                    break;
                }
                _ = self.stopping.changed() => {
                    let _ = self.responses.try_send(Err(Status::unavailable("the controller is stopping")));
                    break;
                }
            };
            if self.introduce(&input).is_none() {
                break;
            }
            if !self.perform(session.step(input, Instant::now())).await {
                break;
            }
        }
        if self.entry.is_some() {
            tracing::info!(proxy = self.caller.pod.name, "proxy disconnected");
        }
    }

    /// The first request says who the proxy is; it must say what its token says. `None` ends the stream.
    fn introduce(&mut self, input: &Input) -> Option<()> {
        let Input::Request(request) = input else {
            return Some(());
        };
        if self.entry.is_some() {
            return Some(());
        }
        let claimed = request.node.as_ref().and_then(|node| text(node, "NODE_NAME"));
        match self.gate.with_rules(|rules| grant::proxy(&self.caller, claimed.as_deref(), rules)) {
            Ok(proxy) => {
                self.entry = Some(self.enter(&proxy, request.node.as_ref()));
                Some(())
            }
            Err(why) => {
                let status = self.gate.turn_away(Service::Discovery, &why.into());
                // The channel is empty: nothing was sent before the first request.
                let _ = self.responses.try_send(Err(status));
                None
            }
        }
    }

    fn enter(&self, proxy: &grant::Proxy, node: Option<&Node>) -> Entry {
        let version = node.and_then(|node| text(node, "AMBIT_VERSION")).unwrap_or_default();
        tracing::info!(node = proxy.node(), proxy = proxy.pod(), %version, "proxy connected");
        let (node, pod) = (proxy.node().to_owned(), proxy.pod().to_owned());
        self.proxies.enter(Proxy { node, pod, version, ..Proxy::new(&self.audience) })
    }

    /// Does what the session says; `false` ends the stream.
    async fn perform(&self, effects: Vec<Effect>) -> bool {
        let Some(entry) = &self.entry else {
            return true;
        };
        for effect in effects {
            match effect {
                Effect::Send { response, kind, generation } => {
                    entry.sent(generation);
                    let count = response.resources.len() + response.removed_resources.len();
                    self.gate.metrics.pushed(kind, count, response.encoded_len());
                    if self.responses.send(Ok(*response)).await.is_err() {
                        return false;
                    }
                }
                Effect::Nacked { kind, message } => {
                    self.gate.metrics.nacked(kind);
                    tracing::warn!(proxy = self.caller.pod.name, %kind, message, "proxy refused resources");
                    entry.nacked(kind, message);
                }
                Effect::Acknowledged(moment) => entry.acknowledged(moment),
                Effect::Overdue(kind) => {
                    tracing::warn!(proxy = self.caller.pod.name, %kind, "proxy has not answered; its next steps wait");
                    entry.overdue(kind);
                }
                Effect::UnknownType(url) => {
                    tracing::debug!(proxy = self.caller.pod.name, url, "asked for a type that is not served");
                }
                Effect::Refuse(why) => {
                    tracing::warn!(proxy = self.caller.pod.name, why, "stream ended");
                    let _ = self.responses.try_send(Err(Status::resource_exhausted(why)));
                    return false;
                }
            }
        }
        true
    }
}

async fn until(wake_at: Option<Instant>) {
    match wake_at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn text(node: &Node, key: &str) -> Option<String> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        ValueKind::StringValue(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}
