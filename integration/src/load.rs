//! Load with honest figures: requests start by the clock (open loop) or one after another, every answer is checked,
//! nothing is tried again.

mod command;
mod exchange;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

pub use command::main;
pub(crate) use exchange::named;
use exchange::{Answered, Connection};

/// Most requests of one run, since each keeps its latency.
const MOST: u64 = 20_000_000;

/// What load to make.
#[derive(Clone, Debug)]
pub struct Load {
    /// Server.
    pub to: SocketAddr,
    /// Value of the Host header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// What the requests are carried by.
    pub protocol: Protocol,
    /// Method; a gRPC call is always a POST.
    pub method: Method,
    /// Headers beside Host; where a value holds `{n}`, the number of the request stands in its place.
    pub headers: HeaderMap,
    /// Body, or the message of a gRPC call.
    pub body: Bytes,
    /// Requests a second over all connections; none sends as fast as answers come.
    pub rate: Option<f64>,
    /// Connections, or with `Connections::OnePerRequest` requests under way at once.
    pub width: usize,
    /// Whether connections are kept.
    pub connections: Connections,
    /// Ends after this many requests.
    pub count: u64,
    /// Ends after this time.
    pub time: Duration,
    /// Longest time for one request.
    pub timeout: Duration,
    /// Text that every body must hold.
    pub expect: String,
    /// Ends when this says so, and counts into this as it goes.
    pub live: Arc<Live>,
}

/// Most failures whose times are kept.
const LISTED: usize = 10_000;

/// A running load as others see it.
#[derive(Debug, Default)]
pub struct Live {
    stop: AtomicBool,
    good: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it was begun.
    pub begun: Instant,
    /// Its kind, as the outcome counts it.
    pub kind: String,
}

impl Live {
    /// Lets the load begin no more requests.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Requests answered well so far.
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Requests that failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The first of them, with the times they were begun at.
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, failure: Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < LISTED {
            failures.push(failure);
        }
    }
}

/// What requests are carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    H2c,
    /// Unary gRPC calls over that; good when they end in status 0.
    Grpc,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Kept and used again; one that the server has closed fails the next request on it.
    Kept,
    /// Kept and used again; one that the server has closed between two requests is replaced, as any client would.
    Replaced,
    /// A new one for each request.
    OnePerRequest,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests begun.
    pub sent: u64,
    /// Answers with status 200 and the expected body.
    pub good: u64,
    /// Failures by kind.
    pub failed: BTreeMap<String, u64>,
    /// The beginning of the first answer that was not as expected.
    #[serde(default)]
    pub example: Option<String>,
    /// Answers by status, as in `200`, or `grpc 14`.
    #[serde(default)]
    pub statuses: BTreeMap<String, u64>,
    /// Answers by the version that gave them, where they say it.
    #[serde(default)]
    pub versions: BTreeMap<String, u64>,
    /// Seconds from first to last.
    pub seconds: f64,
    /// Latency in microseconds, from the intended start: 50th, 90th, 99th, 99.9th percentile, largest.
    pub microseconds: [u32; 5],
}

impl Outcome {
    /// Number of failures.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

struct Run {
    load: Load,
    start: Instant,
    next: u64,
    latencies: Vec<u32>,
    outcome: Outcome,
}

impl Load {
    /// One kept connection, sending as fast as answers come, ten seconds at most.
    pub fn new(to: SocketAddr) -> Self {
        Load {
            to,
            host: to.to_string(),
            path: "/".to_owned(),
            protocol: Protocol::Http1,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            rate: None,
            width: 1,
            connections: Connections::Kept,
            count: MOST,
            time: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            expect: String::new(),
            live: Arc::default(),
        }
    }

    /// Makes the load on the calling thread, in its network namespace, and returns when done.
    pub fn run(self) -> std::io::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(tokio::task::LocalSet::new().block_on(&runtime, self.drive()))
    }

    async fn drive(self) -> Outcome {
        let width = self.width;
        let run = Run {
            load: self,
            start: Instant::now(),
            next: 0,
            latencies: Vec::new(),
            outcome: Outcome::default(),
        };
        let run = Rc::new(RefCell::new(run));
        let lanes: Vec<_> =
            (0..width).map(|_| ambit_process::spawn::spawn_local("load", lane(Rc::clone(&run)))).collect();
        for lane in lanes {
            // A lane ends by itself; how many requests it made is in the run.
            let _ended = lane.await;
        }
        let mut run = run.borrow_mut();
        run.outcome.seconds = run.start.elapsed().as_secs_f64();
        run.latencies.sort_unstable();
        let latencies = &run.latencies;
        let at = |share: f64| {
            latencies
                .get(((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1)))
                .copied()
        };
        run.outcome.microseconds = [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| at(share).unwrap_or(0));
        run.outcome.clone()
    }
}

impl Run {
    /// Number of the next request and when it shall start; none when the run is over.
    fn claim(&mut self) -> Option<(u64, Instant)> {
        let now = Instant::now();
        let due = match self.load.rate {
            Some(rate) => self.start + Duration::from_secs_f64(self.next as f64 / rate),
            None => now,
        };
        let stopped = self.load.live.stop.load(Ordering::Relaxed);
        if stopped
            || self.next >= self.load.count.min(MOST)
            || due.duration_since(self.start) >= self.load.time
        {
            return None;
        }
        self.next += 1;
        self.outcome.sent += 1;
        Some((self.next, due))
    }

    fn done(&mut self, (due, begun): (Instant, Instant), outcome: Result<Answered, String>) {
        let mut example = None;
        let checked = outcome.and_then(|answered| {
            *self.outcome.statuses.entry(answered.status.clone()).or_default() += 1;
            if let Some(version) = &answered.version {
                *self.outcome.versions.entry(version.clone()).or_default() += 1;
            }
            answered.check(&self.load).inspect_err(|_| example = Some(answered.beginning()))
        });
        match checked {
            Ok(()) => {
                self.outcome.good += 1;
                self.load.live.good.fetch_add(1, Ordering::Relaxed);
                self.latencies.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            Err(kind) => {
                self.load.live.fail(Failure { begun, kind: kind.clone() });
                *self.outcome.failed.entry(kind).or_default() += 1;
                self.outcome.example = self.outcome.example.take().or(example);
            }
        }
    }
}

/// One connection after another, one request at a time.
async fn lane(run: Rc<RefCell<Run>>) {
    let load = run.borrow().load.clone();
    let mut kept = None;
    loop {
        let Some((number, due)) = run.borrow_mut().claim() else { return };
        if load.rate.is_some() {
            tokio::time::sleep_until(due.into()).await;
        }
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(load.timeout, exchange(&load, number, &mut kept)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err("timeout".to_owned()),
        };
        let usable = outcome.as_ref().is_ok_and(|answered| answered.reusable);
        if !usable || load.connections == Connections::OnePerRequest {
            kept = None;
        }
        let failed = outcome.as_ref().map_or(true, |answered| answered.check(&load).is_err());
        run.borrow_mut().done((due, begun), outcome);
        if failed && load.rate.is_none() {
            // A server that refuses at once must not be asked a million times.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn exchange(load: &Load, number: u64, kept: &mut Option<Connection>) -> Result<Answered, String> {
    if load.connections == Connections::Replaced
        && let Some(connection) = kept
        && !connection.is_open().await
    {
        *kept = None;
    }
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(load).await?),
    };
    connection.ask(load, number).await
}
