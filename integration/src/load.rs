//! Load with honest figures: requests start by the clock (open loop) or one after another, every answer is checked,
//! nothing is tried again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::image::flag;

/// Most requests of one run, since each keeps its latency.
const MOST: u64 = 20_000_000;
const LARGEST_HEAD: usize = 64 << 10;

/// What load to make.
#[derive(Clone, Debug)]
pub struct Load {
    /// Server.
    pub to: SocketAddr,
    /// Value of the Host header.
    pub host: String,
    /// Path.
    pub path: String,
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

/// A running load as others see it.
#[derive(Debug, Default)]
pub struct Live {
    stop: AtomicBool,
    good: AtomicU64,
    failed: AtomicU64,
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
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Kept and used again.
    Kept,
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
    request: Vec<u8>,
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
        let connection = if self.connections == Connections::Kept { "keep-alive" } else { "close" };
        let (path, host, width) = (&self.path, &self.host, self.width);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n").into_bytes();
        let run = Run {
            load: self,
            request,
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
    /// When the next request shall start; none when the run is over.
    fn claim(&mut self) -> Option<Instant> {
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
        Some(due)
    }

    fn done(&mut self, due: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.outcome.good += 1;
                self.load.live.good.fetch_add(1, Ordering::Relaxed);
                self.latencies.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            Err(kind) => {
                self.load.live.failed.fetch_add(1, Ordering::Relaxed);
                *self.outcome.failed.entry(kind).or_default() += 1;
            }
        }
    }
}

/// One connection after another, one request at a time.
async fn lane(run: Rc<RefCell<Run>>) {
    let (load, request) = {
        let run = run.borrow();
        (run.load.clone(), run.request.clone())
    };
    let mut kept = None;
    let mut buffer = Vec::new();
    loop {
        let Some(due) = run.borrow_mut().claim() else { return };
        if load.rate.is_some() {
            tokio::time::sleep_until(due.into()).await;
        }
        let outcome =
            match tokio::time::timeout(load.timeout, exchange(&load, &request, &mut kept, &mut buffer)).await
            {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err("timeout".to_owned()),
            };
        if outcome.is_err() || load.connections == Connections::OnePerRequest {
            kept = None;
        }
        let failed = outcome.is_err();
        run.borrow_mut().done(due, outcome);
        if failed && load.rate.is_none() {
            // A server that refuses at once must not be asked a million times.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn exchange(
    load: &Load,
    request: &[u8],
    kept: &mut Option<TcpStream>,
    buffer: &mut Vec<u8>,
) -> Result<(), String> {
    let stream = match kept {
        Some(stream) => stream,
        None => {
            let stream =
                TcpStream::connect(load.to).await.map_err(|error| format!("connect: {}", error.kind()))?;
            stream.set_nodelay(true).map_err(|error| format!("connect: {}", error.kind()))?;
            kept.insert(stream)
        }
    };
    stream.write_all(request).await.map_err(|error| format!("write: {}", error.kind()))?;
    let body = read_answer(stream, buffer).await?;
    if load.expect.is_empty() || find(&buffer[body], load.expect.as_bytes()).is_some() {
        Ok(())
    } else {
        Err("wrong body".to_owned())
    }
}

/// Reads one answer into the buffer and says where its body is.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<std::ops::Range<usize>, String> {
    buffer.clear();
    let mut body: Option<std::ops::Range<usize>> = None;
    loop {
        if let Some(body) = body.clone().filter(|body| buffer.len() >= body.end) {
            return Ok(body);
        }
        let read = stream.read_buf(buffer).await.map_err(|error| format!("read: {}", error.kind()))?;
        if read == 0 {
            return Err("closed early".to_owned());
        }
        if body.is_none()
            && let Some(end) = find(buffer, b"\r\n\r\n")
        {
            body = Some(end + 4..end + 4 + length(&buffer[..end])?);
        } else if body.is_none() && buffer.len() > LARGEST_HEAD {
            return Err("no HTTP answer".to_owned());
        }
    }
}

/// Checks an answer's head and returns the length of its body.
fn length(head: &[u8]) -> Result<usize, String> {
    let head = std::str::from_utf8(head).map_err(|_error| "no HTTP answer".to_owned())?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or("no HTTP answer")?;
    if status != "200" {
        return Err(format!("status {status}"));
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _value)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_name, value)| value.trim().parse().ok()).ok_or_else(|| "no length".to_owned())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}

/// The command: `load --url=http://host:port/path [--rate=N] [--connections=N] [--new] [--count=N] [--seconds=N] [--expect=T] [--json]`.
pub async fn main(arguments: &[String]) -> std::io::Result<()> {
    let load = from_flags(arguments).map_err(std::io::Error::other)?;
    let outcome = load.drive().await;
    if arguments.iter().any(|word| word == "--json") {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        let [p50, p90, p99, p999, most] = outcome.microseconds;
        println!(
            "sent {} good {} failed {:?} in {:.2} s",
            outcome.sent, outcome.good, outcome.failed, outcome.seconds
        );
        println!(
            "{:.0} good/s; microseconds p50 {p50} p90 {p90} p99 {p99} p99.9 {p999} max {most}",
            outcome.good as f64 / outcome.seconds
        );
    }
    Ok(())
}

fn from_flags(arguments: &[String]) -> Result<Load, String> {
    let url = flag(arguments, "url").ok_or("--url=http://host:port/path is missing")?;
    let rest = url.strip_prefix("http://").ok_or("--url must begin with http://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let to = with_port.to_socket_addrs().map_err(|error| format!("{authority}: {error}"))?.next();
    let mut load = Load::new(to.ok_or_else(|| format!("{authority} has no address"))?);
    (load.host, load.path) = (authority.to_owned(), format!("/{path}"));
    fn number<T: std::str::FromStr>(arguments: &[String], name: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| value.parse().map_err(|_invalid| format!("--{name}={value} is no number"));
        flag(arguments, name).map(parse).transpose()
    }
    load.rate = number::<f64>(arguments, "rate")?.filter(|rate| *rate > 0.0);
    load.width = number(arguments, "connections")?.unwrap_or(1);
    load.count = number(arguments, "count")?.unwrap_or(MOST);
    load.time = Duration::from_secs_f64(number(arguments, "seconds")?.unwrap_or(10.0));
    load.expect = flag(arguments, "expect").unwrap_or_default().to_owned();
    if arguments.iter().any(|word| word == "--new") {
        load.connections = Connections::OnePerRequest;
    }
    Ok(load)
}
