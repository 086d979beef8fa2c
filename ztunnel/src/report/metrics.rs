//! Counters per label set, one shard per worker, merged when `/metrics` is read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ambit_api::authz::{DryRun, Layer};
use ambit_api::labels::{Labels, Party, Security};
use ambit_api::reason::Reason;
use ambit_process::counts::Counts;
use ambit_process::metrics::Metrics;
use ambit_transport::relay::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;

use super::Direction;

/// Label sets one worker keeps apart; further ones are counted together, so that a busy mesh cannot fill memory.
const SERIES: usize = 10_000;

/// Which side of a connection the relay's near end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// The client: bytes from near to far are the request's.
    Client,
    /// The application.
    Application,
}

/// All metrics of the data plane.
#[derive(Clone)]
pub struct Report {
    shards: Arc<Vec<Shard>>,
    retried: Counter,
    started: Counter,
    stopped: Counter,
    active: Gauge,
    dry_run: Counts<3>,
}

/// One worker's counters. The lock is taken by its own worker and, now and then, by a reader.
#[derive(Clone, Default)]
pub struct Shard(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    series: HashMap<Labels, Series>,
    // Boxed: a table keeps up to twice the room it needs, so its entries are small.
    live: HashMap<u64, Box<(Labels, LiveConnection)>>,
    next: u64,
}

#[derive(Clone, Copy, Default)]
struct Series {
    opened: u64,
    closed: u64,
    failed: u64,
    request: u64,
    response: u64,
}

/// Names an open connection of a shard.
#[derive(Debug)]
pub struct Live(u64);

/// An open connection, for `/config_dump` and for bytes that are counted while it is open.
#[derive(Clone, Debug)]
pub struct LiveConnection {
    /// The pod's UID.
    pub pod: Arc<str>,
    /// Which way.
    pub direction: Direction,
    /// Which side is near.
    pub near: Near,
    /// Who connected.
    pub client: SocketAddr,
    /// What was dialled.
    pub dialled: SocketAddr,
    /// Where it went.
    pub target: Option<SocketAddr>,
    /// In mutual TLS.
    pub secured: bool,
    /// When it began.
    pub begun: Instant,
    /// Bytes so far.
    pub counters: Arc<Counters>,
}

impl Near {
    /// Bytes as (request, response).
    pub fn order(self, near_to_far: u64, far_to_near: u64) -> (u64, u64) {
        match self {
            Self::Client => (near_to_far, far_to_near),
            Self::Application => (far_to_near, near_to_far),
        }
    }
}

impl LiveConnection {
    fn bytes(&self) -> (u64, u64) {
        self.near.order(self.counters.sent(), self.counters.received())
    }
}

impl Shard {
    /// A connection is open.
    pub fn open(&self, labels: Labels, connection: LiveConnection) -> Live {
        let mut counted = self.lock();
        // The label set that is held already is shared, so that a connection costs three pointers and not its texts.
        let labels = counted.shared(labels);
        counted.series(labels.clone()).opened += 1;
        counted.next += 1;
        let live = counted.next;
        counted.live.insert(live, Box::new((labels, connection)));
        Live(live)
    }

    /// An open connection ended: well, or for a reason.
    pub fn close(&self, live: Live, ended: Option<Reason>) {
        let mut counted = self.lock();
        let Some(closed) = counted.live.remove(&live.0) else { return };
        let (labels, connection) = *closed;
        let (request, response) = connection.bytes();
        // Bytes stay with the labels they were shown under while the connection was open: a counter never falls.
        let well = ended.is_none();
        let otherwise = ended.map(|reason| Labels { ended: Some(reason), ..labels.clone() });
        let series = counted.series(labels);
        series.request += request;
        series.response += response;
        series.closed += u64::from(well);
        if let Some(labels) = otherwise {
            counted.series(labels).closed += 1;
        }
    }

    /// A connection never opened.
    pub fn fail(&self, labels: Labels) {
        self.lock().series(labels).failed += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn shared(&self, labels: Labels) -> Labels {
        self.series.get_key_value(&labels).map_or(labels, |(held, _)| held.clone())
    }

    fn series(&mut self, labels: Labels) -> &mut Series {
        let full = self.series.len() >= SERIES;
        let labels = if full && !self.series.contains_key(&labels) { overflow(&labels) } else { labels };
        match self.series.entry(labels) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Series::default()),
        }
    }
}

/// The label set that stands for all that no longer fit.
fn overflow(labels: &Labels) -> Labels {
    let unknown = Arc::new(Party::unknown(None));
    Labels {
        reporter: labels.reporter,
        source: unknown.clone(),
        destination: unknown,
        service: None,
        security: Security::Unknown,
        ended: None,
    }
}

impl Report {
    /// Registers the metrics; one shard per worker.
    pub fn new(metrics: &Metrics, workers: usize) -> Self {
        let report = Self {
            // One more for what ends before a worker owns it.
            shards: Arc::new((0..=workers).map(|_| Shard::default()).collect()),
            retried: Counter::default(),
            started: Counter::default(),
            stopped: Counter::default(),
            active: Gauge::default(),
            dry_run: Counts::register(metrics, DryRun::METRIC, DryRun::LABELS),
        };
        metrics.with(|registry| {
            registry.register_collector(Box::new(Connections(report.shards.clone())));
            let retried = "Connection attempts repeated at another endpoint";
            registry.register("ambit_connect_retries", retried, report.retried.clone());
            let proxies = registry.sub_registry_with_prefix("workload_manager");
            proxies.register("proxies_started", "Pods that were served", report.started.clone());
            proxies.register("proxies_stopped", "Pods no longer served", report.stopped.clone());
            proxies.register("active_proxy_count", "Pods being served", report.active.clone());
            let build = Info::new([("component", "ztunnel"), ("tag", env!("CARGO_PKG_VERSION"))]);
            registry.register("istio_build", "This program and its version", build);
        });
        report
    }

    /// A worker's shard.
    pub fn shard(&self, worker: usize) -> Shard {
        self.shards[worker].clone()
    }

    /// The shard of what ends before a worker owns it.
    pub fn unowned(&self) -> &Shard {
        &self.shards[self.shards.len() - 1]
    }

    /// Another endpoint is tried.
    pub fn retried(&self) {
        self.retried.inc();
    }

    /// A pod is served.
    pub fn pods_started(&self) {
        self.started.inc();
        self.active.inc();
    }

    /// A pod is not served any more.
    pub fn pods_stopped(&self) {
        self.stopped.inc();
        self.active.dec();
    }

    /// A policy under trial was judged.
    pub fn tried(&self, outcome: &DryRun) {
        self.dry_run.count(outcome.values(Layer::L4));
    }

    /// Every open connection.
    pub fn live(&self) -> Vec<LiveConnection> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| shard.lock().live.values().map(|live| live.1.clone()).collect::<Vec<_>>())
            .collect()
    }
}

/// The merged view of all shards.
struct Connections(Arc<Vec<Shard>>);

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    fn merged(&self) -> HashMap<Labels, Series> {
        let mut merged: HashMap<Labels, Series> = HashMap::new();
        for shard in self.0.iter() {
            let counted = shard.lock();
            for (labels, series) in &counted.series {
                let sum = merged.entry(labels.clone()).or_default();
                sum.opened += series.opened;
                sum.closed += series.closed;
                sum.failed += series.failed;
                sum.request += series.request;
                sum.response += series.response;
            }
            for (labels, connection) in counted.live.values().map(|live| &**live) {
                let (request, response) = connection.bytes();
                let sum = merged.entry(labels.clone()).or_default();
                sum.request += request;
                sum.response += response;
            }
        }
        merged
    }
}

/// A counter's name, help and the figure of a series it shows.
type Figure = (&'static str, &'static str, fn(&Series) -> u64);

/// Istio's names; `sent` is the response's direction and `received` the request's (l4-protocols §9.1).
const FIGURES: [Figure; 5] = [
    ("istio_tcp_connections_opened", "Connections opened", |series| series.opened),
    ("istio_tcp_connections_closed", "Connections closed", |series| series.closed),
    ("istio_tcp_connections_failed", "Connections that could not be opened", |series| series.failed),
    ("istio_tcp_received_bytes", "Bytes of requests", |series| series.request),
    ("istio_tcp_sent_bytes", "Bytes of responses", |series| series.response),
];

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let merged = self.merged();
        for (name, help, figure) in FIGURES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &merged {
                let value = figure(series);
                if value == 0 {
                    continue;
                }
                let pairs: Vec<(&str, &str)> = labels.pairs().collect();
                let counter = prometheus_client::metrics::counter::ConstCounter::new(value);
                counter.encode(metric.encode_family(&pairs)?)?;
            }
        }
        let open = self.0.iter().map(|shard| shard.lock().live.len()).sum::<usize>();
        let mut metric = encoder.encode_descriptor(
            "istio_tcp_sockets_open",
            "Open connections",
            None,
            MetricType::Gauge,
        )?;
        metric.encode_gauge(&i64::try_from(open).unwrap_or(i64::MAX))
    }
}
