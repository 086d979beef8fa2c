//! What is counted about requests and opaque connections: one shard per worker, merged when `/metrics` is read.
//!
//! Names, labels and buckets are Istio's, so that its dashboards read them unchanged. A series is found by the addresses
//! of its shared label sets, not by their texts: counting a request costs one lookup and no allocation.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_api::labels::{Dialled, Labels, Outcome, Party, Reporter, RequestProtocol, Security};
use ambit_api::reason::Reason;
use ambit_process::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::info::Info;

use super::rare::Rare;

#[cfg(test)]
mod tests;

/// Label sets one worker keeps apart; further ones are counted together, so that a busy mesh cannot fill memory.
const SERIES: usize = 10_000;

/// Upper bounds of every histogram, milliseconds or bytes (apis §5.4); what is larger falls into a last one.
const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Who asked whom: label sets shared between the requests of one worker.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The client.
    pub source: Arc<Party>,
    /// The server.
    pub destination: Arc<Party>,
    /// The service dialled.
    pub service: Option<Arc<Dialled>>,
    /// How the client's connection was secured.
    pub security: Security,
}

/// What one request came to.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Protocol, statuses and flags.
    pub outcome: Outcome,
    /// From its first byte to the last of its answer.
    pub duration: Duration,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of its answer's body.
    pub sent: u64,
    /// Messages of gRPC: the request's, and the answer's.
    pub messages: (u64, u64),
}

/// All metrics of the data plane.
#[derive(Clone)]
pub struct Report {
    shards: Arc<Vec<Shard>>,
    rare: Rare,
}

/// One worker's figures. The lock is taken by its own worker and, now and then, by a reader.
#[derive(Clone, Default)]
pub struct Shard(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    requests: HashMap<RequestKey, Requests>,
    connections: HashMap<ConnectionKey, Connections>,
}

/// Equal when the label sets are the same ones.
#[derive(Clone, Debug)]
struct Same(Ends);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RequestKey {
    ends: Same,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ConnectionKey {
    ends: Same,
    ended: Option<Reason>,
}

#[derive(Clone, Default)]
struct Requests {
    count: u64,
    messages: (u64, u64),
    duration: Histogram,
    received: Histogram,
    sent: Histogram,
}

#[derive(Clone, Copy, Default)]
struct Connections {
    opened: u64,
    closed: u64,
    received: u64,
    sent: u64,
}

#[derive(Clone, Copy, Default)]
struct Histogram {
    sum: f64,
    buckets: [u64; BOUNDS.len() + 1],
}

impl Same {
    fn addresses(&self) -> [usize; 4] {
        let service = self.0.service.as_ref().map_or(0, |service| Arc::as_ptr(service).addr());
        let secured = usize::from(self.0.security == Security::MutualTls);
        [Arc::as_ptr(&self.0.source).addr(), Arc::as_ptr(&self.0.destination).addr(), service, secured]
    }
}

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        self.addresses() == other.addresses()
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.addresses().hash(state);
    }
}

impl Histogram {
    fn observe(&mut self, value: f64) {
        self.sum += value;
        self.buckets[BOUNDS.partition_point(|bound| *bound < value)] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, more)| *sum += more);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn pairs(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.buckets).collect()
    }
}

impl Requests {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.messages.0 += other.messages.0;
        self.messages.1 += other.messages.1;
        self.duration.add(&other.duration);
        self.received.add(&other.received);
        self.sent.add(&other.sent);
    }
}

impl Shard {
    /// A request is over.
    pub fn request(&self, ends: &Ends, counted: &Counted) {
        let mut held = self.lock();
        let full = held.requests.len() >= SERIES;
        let mut key = RequestKey { ends: Same(ends.clone()), outcome: counted.outcome };
        if full && !held.requests.contains_key(&key) {
            key.ends = Same(overflow());
        }
        let series = held.requests.entry(key).or_default();
        series.count += 1;
        series.messages.0 += counted.messages.0;
        series.messages.1 += counted.messages.1;
        series.duration.observe(counted.duration.as_secs_f64() * 1_000.0);
        series.received.observe(counted.received as f64);
        series.sent.observe(counted.sent as f64);
    }

    /// An opaque connection is open.
    pub fn opened(&self, ends: &Ends) {
        self.connection(ends, None, |series| series.opened += 1);
    }

    /// An opaque connection is over.
    pub fn closed(&self, ends: &Ends, ended: Option<Reason>, (received, sent): (u64, u64)) {
        self.connection(ends, ended, |series| {
            series.closed += 1;
            series.received += received;
            series.sent += sent;
        });
    }

    fn connection(&self, ends: &Ends, ended: Option<Reason>, count: impl FnOnce(&mut Connections)) {
        let mut held = self.lock();
        let full = held.connections.len() >= SERIES;
        let mut key = ConnectionKey { ends: Same(ends.clone()), ended };
        if full && !held.connections.contains_key(&key) {
            key.ends = Same(overflow());
        }
        count(held.connections.entry(key).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for all that no longer fit: one set, so that it is one series for each outcome.
fn overflow() -> Ends {
    Ends { source: nobody(), destination: nobody(), service: None, security: Security::Unknown }
}

/// An end of which nothing is known; one for the whole process.
pub fn nobody() -> Arc<Party> {
    static NOBODY: LazyLock<Arc<Party>> = LazyLock::new(|| Arc::new(Party::unknown(None)));
    NOBODY.clone()
}

impl Report {
    /// Registers the metrics; one shard per worker.
    pub fn new(metrics: &Metrics, workers: usize) -> Self {
        let shards = (0..workers.max(1)).map(|_| Shard::default()).collect();
        let report = Self { shards: Arc::new(shards), rare: Rare::register(metrics) };
        metrics.with(|registry| {
            registry.register_collector(Box::new(Merged(report.shards.clone())));
            let build = Info::new([("component", "waypoint"), ("tag", env!("CARGO_PKG_VERSION"))]);
            registry.register("istio_build", "This program and its version", build);
        });
        report
    }

    /// A worker's shard.
    pub fn shard(&self, worker: usize) -> Shard {
        self.shards[worker % self.shards.len()].clone()
    }

    /// What happens seldom.
    pub fn rare(&self) -> Rare {
        self.rare.clone()
    }
}

/// All shards as one.
struct Merged(Arc<Vec<Shard>>);

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Merged")
    }
}

fn labels(ends: &Ends, ended: Option<Reason>) -> Labels {
    Labels {
        reporter: Reporter::Waypoint,
        source: ends.source.clone(),
        destination: ends.destination.clone(),
        service: ends.service.clone(),
        security: ends.security,
        ended,
    }
}

impl Merged {
    fn requests(&self) -> HashMap<(Labels, Outcome), Requests> {
        let mut merged: HashMap<(Labels, Outcome), Requests> = HashMap::new();
        for shard in self.0.iter() {
            for (key, series) in &shard.lock().requests {
                merged.entry((labels(&key.ends.0, None), key.outcome)).or_default().add(series);
            }
        }
        merged
    }

    fn connections(&self) -> HashMap<Labels, Connections> {
        let mut merged: HashMap<Labels, Connections> = HashMap::new();
        for shard in self.0.iter() {
            for (key, series) in &shard.lock().connections {
                let sum = merged.entry(labels(&key.ends.0, key.ended)).or_default();
                sum.opened += series.opened;
                sum.closed += series.closed;
                sum.received += series.received;
                sum.sent += series.sent;
            }
        }
        merged
    }
}

/// A histogram's name, help and place in a series.
type Spread = (&'static str, &'static str, fn(&Requests) -> &Histogram);

/// The same of a counter of messages.
type Told = (&'static str, &'static str, fn(&Requests) -> u64);

const MESSAGES: [Told; 2] = [
    ("istio_request_messages", "Messages of gRPC from clients", |series| series.messages.0),
    ("istio_response_messages", "Messages of gRPC to clients", |series| series.messages.1),
];

/// Which there are none of.
type Exemplars = HashMap<usize, Exemplar<[(String, String); 0], f64>>;

const SPREADS: [Spread; 3] = [
    ("istio_request_duration_milliseconds", "Time from request to the end of its answer", |series| {
        &series.duration
    }),
    ("istio_request_bytes", "Bytes of request bodies", |series| &series.received),
    ("istio_response_bytes", "Bytes of answers' bodies", |series| &series.sent),
];

/// A counter's name, help and place in a series.
type Figure = (&'static str, &'static str, fn(&Connections) -> u64);

const FIGURES: [Figure; 4] = [
    ("istio_tcp_connections_opened", "Connections opened", |series| series.opened),
    ("istio_tcp_connections_closed", "Connections closed", |series| series.closed),
    ("istio_tcp_received_bytes", "Bytes of requests", |series| series.received),
    ("istio_tcp_sent_bytes", "Bytes of responses", |series| series.sent),
];

impl Collector for Merged {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let requests = self.requests();
        let mut metric =
            encoder.encode_descriptor("istio_requests", "Requests", None, MetricType::Counter)?;
        for ((labels, outcome), series) in &requests {
            let pairs: Vec<_> = labels.request_pairs(outcome).collect();
            ConstCounter::new(series.count).encode(metric.encode_family(&pairs)?)?;
        }
        for (name, help, messages) in MESSAGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            let calls = |outcome: &Outcome| outcome.protocol == RequestProtocol::Grpc;
            for ((labels, outcome), series) in requests.iter().filter(|((_, outcome), _)| calls(outcome)) {
                let pairs: Vec<_> = labels.request_pairs(outcome).collect();
                ConstCounter::new(messages(series)).encode(metric.encode_family(&pairs)?)?;
            }
        }
        for (name, help, spread) in SPREADS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for ((labels, outcome), series) in &requests {
                let pairs: Vec<_> = labels.request_pairs(outcome).collect();
                let histogram = spread(series);
                metric.encode_family(&pairs)?.encode_histogram(
                    histogram.sum,
                    histogram.count(),
                    &histogram.pairs(),
                    None::<&Exemplars>,
                )?;
            }
        }
        let connections = self.connections();
        for (name, help, figure) in FIGURES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in connections.iter().filter(|(_, series)| figure(series) > 0) {
                let pairs: Vec<_> = labels.pairs().collect();
                ConstCounter::new(figure(series)).encode(metric.encode_family(&pairs)?)?;
            }
        }
        Ok(())
    }
}
