//! The I/O of the xDS session: connect, exchange, and come back after a wait. What we hold stays in force meanwhile.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use ambit_api::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_process::backoff::Backoff;
use ambit_process::readiness::Hold;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::metrics::{Termination, XdsMetrics};
use super::session::{Effect, Input, Session};
use super::{Kind, Node, Sink};
use crate::channel::{self, ChannelError, Credential, Target};
use crate::rpc::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;

/// First and longest wait between streams.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(15));

/// A stream that lived this long and brought something counts as healthy: the next wait starts small again.
const HEALTHY: Duration = Duration::from_secs(1);

/// The controller's largest message.
const MAX_MESSAGE: usize = 200 << 20;

/// One request per response, so this never fills unless the controller stops reading.
const REQUESTS: usize = 16;

/// How many refused resources are logged one by one.
const LOGGED_REFUSALS: usize = 20;

/// What the xDS client needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The controller.
    pub target: Target,
    /// Who we are.
    pub node: Node,
    /// What we count.
    pub metrics: XdsMetrics,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the controller ended the stream: {} ({:?})", .0.message(), .0.code())]
    Status(Box<Status>),
    #[error("the controller closed the stream")]
    Closed,
}

/// Keeps `sink` up to date until `stop` resolves. `ready` is released when every kind has arrived once, even if some
/// resources of that first push were refused: one bad policy must not keep a node out of service.
///
/// A draining process still obeys policy, so `stop` is the end of draining, not its beginning.
pub async fn run<S: Sink>(config: Config, mut sink: S, ready: Hold, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut session = Session::new(config.node.clone());
    let mut ready = Some(ready);
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    loop {
        let started = Instant::now();
        let mut received = 0;
        let mut stream =
            Exchange { config: &config, session: &mut session, sink: &mut sink, ready: &mut ready };
        let ended = tokio::select! {
            () = &mut stop => return,
            ended = stream.run(&mut received) => ended,
        };
        config.metrics.terminated(termination(&ended));
        if received > 0 && started.elapsed() >= HEALTHY {
            backoff.reset();
        }
        let wait = backoff.delay();
        tracing::warn!(error = %ended, wait_ms = wait.as_millis() as u64, "no stream to the controller; what we hold stays in force");
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn termination(ended: &StreamError) -> Termination {
    match ended {
        StreamError::Channel(_) => Termination::ConnectionError,
        StreamError::Closed => Termination::Complete,
        StreamError::Status(status) => match status.code() {
            Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable => {
                Termination::Reconnect
            }
            _ => Termination::Error,
        },
    }
}

/// One stream's life.
struct Exchange<'a, S> {
    config: &'a Config,
    session: &'a mut Session,
    sink: &'a mut S,
    ready: &'a mut Option<Hold>,
}

impl<S: Sink> Exchange<'_, S> {
    /// Runs to the stream's end.
    async fn run(&mut self, received: &mut u64) -> StreamError {
        match self.exchange(received).await {
            Ok(()) => StreamError::Closed,
            Err(error) => error,
        }
    }

    async fn exchange(&mut self, received: &mut u64) -> Result<(), StreamError> {
        let channel = channel::connect(&self.config.target).await?;
        let credential = Credential::new(&self.config.target)?;
        let mut client = AggregatedDiscoveryServiceClient::with_interceptor(channel, credential)
            .max_decoding_message_size(MAX_MESSAGE);
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        self.perform(Input::Connected, &requests).await?;
        let response = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await;
        let mut responses = response.map_err(|status| StreamError::Status(Box::new(status)))?.into_inner();
        tracing::info!(controller = %self.config.target.address, "connected to the controller");
        while let Some(response) = next(&mut responses).await? {
            *received += 1;
            if let Some(kind) = Kind::from_type_url(&response.type_url) {
                self.config.metrics.received(kind, response.encoded_len() as u64);
            }
            self.perform(Input::Received(Box::new(response)), &requests).await?;
        }
        Ok(())
    }

    /// Steps the session and does what it says, until it says nothing more.
    async fn perform(
        &mut self,
        input: Input,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Result<(), StreamError> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            for effect in self.session.step(input) {
                match effect {
                    Effect::Send(request) => {
                        requests.send(*request).await.map_err(|_| StreamError::Closed)?
                    }
                    Effect::Apply(push) => next = Some(Input::Applied(self.sink.apply(push))),
                    Effect::Refused(refused) => log(&refused),
                    Effect::Settled => drop(self.ready.take()),
                }
            }
        }
        Ok(())
    }
}

async fn next(
    responses: &mut Streaming<DeltaDiscoveryResponse>,
) -> Result<Option<DeltaDiscoveryResponse>, StreamError> {
    responses.message().await.map_err(|status| StreamError::Status(Box::new(status)))
}

fn log(refused: &[super::Rejection]) {
    for bad in refused.iter().take(LOGGED_REFUSALS) {
        tracing::warn!(resource = %bad.name, reason = %bad.reason, "resource refused; its last good version stays in force");
    }
    if refused.len() > LOGGED_REFUSALS {
        tracing::warn!(more = refused.len() - LOGGED_REFUSALS, "further resources refused");
    }
}
