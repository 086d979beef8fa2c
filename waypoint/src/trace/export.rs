//! Brings spans to the collector: a bounded queue, and one task that empties it in batches.

use std::time::Duration;

use ambit_api::waypoint::{Tracing, TracingProtocol};
use ambit_discovery::view::View;
use ambit_process::metrics::Metrics;
use ambit_process::spawn::spawn;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::span::{Origin, Span};
use collector::Collector;

mod collector;

/// Spans that may wait; what comes when they are all there is dropped.
const QUEUE: usize = 2048;

/// Spans of one report.
const BATCH: usize = 256;

/// How long the first span of a report waits for others.
const LINGER: Duration = Duration::from_millis(500);

/// Bound on one report, connecting included.
const REPORT: Duration = Duration::from_secs(5);

/// How long the end of the program waits for the last spans.
const FLUSH: Duration = Duration::from_secs(2);

/// The way to the collector. Clones are the same.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: mpsc::Sender<Message>,
    dropped: Counter,
}

/// The queue's other end, until [`Exporter::start`].
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<Message>,
    dropped: Counter,
    exported: Counter,
}

#[derive(Debug)]
enum Message {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

/// A queue with its metrics.
pub fn channel(metrics: &Metrics) -> (Spans, Exporter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (dropped, exported) = (Counter::default(), Counter::default());
    metrics.with(|registry| {
        let help = "Spans given up because the collector was slow or gone";
        registry.register("ambit_spans_dropped", help, dropped.clone());
        registry.register("ambit_spans_exported", "Spans a collector took", exported.clone());
    });
    (Spans { queue: sender, dropped: dropped.clone() }, Exporter { queue: receiver, dropped, exported })
}

impl Spans {
    /// Queues a span, or drops and counts it.
    pub fn send(&self, span: Span) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until what is queued was sent, or two seconds have passed: for the end of the program.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // The exporter may be gone, and then nothing is waited for.
                let _ = sent.await;
            }
        };
        let _ = timeout(FLUSH, flushed).await;
    }
}

impl Exporter {
    /// Sends, to the collector that the view names at the time, until all [`Spans`] are gone.
    pub fn start(self, view: View, origin: Origin) -> JoinHandle<()> {
        spawn("spans", self.run(view, origin))
    }

    async fn run(mut self, view: View, origin: Origin) {
        let mut collector = None;
        let mut failing = false;
        while let Some((batch, flushed)) = self.batch().await {
            let count = batch.len() as u64;
            match timeout(REPORT, report(&mut collector, &view, &origin, &batch)).await {
                Ok(Ok(())) => {
                    self.exported.inc_by(count);
                    if std::mem::take(&mut failing) {
                        info!("the collector takes spans again");
                    }
                }
                failed => {
                    collector = None;
                    self.dropped.inc_by(count);
                    // Once, not for every report of a collector that is gone.
                    if !std::mem::replace(&mut failing, true) {
                        let error = failed
                            .map_or_else(|slow| slow.to_string(), |sent| sent.err().unwrap_or_default());
                        warn!(error, "the collector takes no spans");
                    }
                }
            }
            for flushed in flushed {
                // Who asked may have given up.
                let _ = flushed.send(());
            }
        }
    }

    /// The next spans to send, and who waits for that. `None`: there will be no more.
    async fn batch(&mut self) -> Option<(Vec<Span>, Vec<oneshot::Sender<()>>)> {
        let (mut batch, mut flushed) = (Vec::new(), Vec::new());
        let mut until = None;
        while batch.len() < BATCH && flushed.is_empty() {
            let next = match until {
                None => self.queue.recv().await,
                Some(until) => match timeout_at(until, self.queue.recv()).await {
                    Ok(next) => next,
                    Err(_elapsed) => break,
                },
            };
            match next {
                Some(Message::Span(span)) => batch.push(*span),
                Some(Message::Flush(done)) => flushed.push(done),
                None if batch.is_empty() => return None,
                None => break,
            }
            until = until.or_else(|| Some(Instant::now() + LINGER));
        }
        Some((batch, flushed))
    }
}

/// Sends one report; once more on a new connection if one that was kept turns out to be closed.
async fn report(
    kept: &mut Option<(Tracing, Collector)>,
    view: &View,
    origin: &Origin,
    spans: &[Span],
) -> Result<(), String> {
    if spans.is_empty() {
        return Ok(());
    }
    let snapshot = std::sync::Arc::clone(&view.load());
    let tracing = snapshot.waypoint.gateway.as_ref().and_then(|gateway| gateway.tracing.as_ref());
    let tracing = tracing.ok_or_else(|| "tracing was switched off".to_owned())?;
    if let Some((known, collector)) = kept
        && known == tracing
        && collector.send(spans, origin).await.is_ok()
    {
        return Ok(());
    }
    let at = collector::resolve(&snapshot, &tracing.collector, &origin.namespace).await?;
    let mut collector = match tracing.protocol {
        TracingProtocol::OtlpGrpc => Collector::grpc(at)?,
        TracingProtocol::Zipkin | TracingProtocol::OtlpHttp => Collector::http(at, tracing).await?,
    };
    collector.send(spans, origin).await?;
    *kept = Some((tracing.clone(), collector));
    Ok(())
}
