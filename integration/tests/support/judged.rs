//! Calls and what is to become of them, a line for each: `alice POST web/a x-one:1 = T shop/p rule=0`.
//!
//! Before the `=`: who calls, with what (an HTTP method, `TCP` for an echo of bytes, `WS` or `GRPC` for a stream), a
//! Service or pod with its path, and headers. After it: a status; `echo` for bytes that came back; `cut` for an end
//! without an answer; or who refused (`T`, `S`, `lock`: the waypoint; `l4`: the ztunnel before the pod), the policy that
//! did, and words of the log line that says so.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ambit_lab::load::{Connections, Load};
use ambit_lab::stream::{Call, Stream};
use ambit_lab::{Component, Lab, NodeNumber, PodHandle};
use http::{HeaderMap, HeaderName, HeaderValue};
use libtest_mimic::Failed;

use crate::support::{Check, check};

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time for one call.
const CALL: Duration = Duration::from_secs(4);

/// Who calls what.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) from: PodHandle,
    method: String,
    path: String,
    host: String,
    pub(crate) to: SocketAddr,
    headers: HeaderMap,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// An HTTP status.
    Status(u16),
    /// The bytes came back.
    Echo,
    /// It ended without an answer.
    Cut(String),
}

/// Ends of the logs of everybody who refuses.
pub(crate) struct Marks(Vec<(Source, usize)>);

#[derive(Clone, Debug)]
enum Source {
    Ztunnel(NodeNumber),
    Waypoint(PodHandle),
}

impl Asked {
    /// Reads the left side of a line.
    pub(crate) fn read(lab: &Lab, text: &str) -> Result<Self, Failed> {
        let mut words = text.split_whitespace();
        let mut next = || words.next().ok_or_else(|| format!("{text:?} is no call"));
        let (who, method, target) = (next()?, next()?, next()?);
        let places = ["shop", "other", "plain"];
        let from = places.iter().find_map(|place| lab.pod(&format!("{place}/{who}")).ok());
        let (name, path) = target.split_once('/').ok_or_else(|| format!("{text:?} has no path"))?;
        let (name, port) = name.split_once(':').unwrap_or((name, "80"));
        let port: u16 = port.parse()?;
        let service = lab.service(&format!("shop/{name}")).ok().flatten();
        let address = match service {
            Some(address) => address,
            None => lab.pod(&format!("shop/{name}"))?.address,
        };
        let mut headers = HeaderMap::new();
        for word in words {
            let (name, value) = word.split_once(':').ok_or_else(|| format!("{word:?} is no header"))?;
            headers.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
        Ok(Asked {
            from: from.ok_or_else(|| format!("nobody is called {who}"))?,
            method: method.to_owned(),
            path: format!("/{path}"),
            host: format!("{name}.shop"),
            to: SocketAddr::new(IpAddr::V4(address.v4), port),
            headers,
        })
    }

    /// Calls, from a thread of its own.
    pub(crate) fn start(&self, lab: &Lab) -> std::thread::JoinHandle<Met> {
        let asked = self.clone();
        lab.thread_in(&self.from, move || asked.run())
    }

    /// Opens what stays open: `TCP`, `WS` or `GRPC`.
    pub(crate) fn open(&self, lab: &Lab) -> std::io::Result<Stream> {
        let asked = self.clone();
        lab.in_pod(&self.from, move || asked.stream())
    }

    fn stream(self) -> std::io::Result<Stream> {
        let pause = Duration::from_millis(5);
        let mut call = Call::new(self.to, pause);
        call.host = self.host;
        match self.method.as_str() {
            "TCP" => Stream::open(self.to, pause),
            "GRPC" => call.grpc(),
            _ => {
                call.path = self.path;
                call.websocket()
            }
        }
    }

    /// Calls from this thread.
    pub(crate) fn run(self) -> Met {
        if matches!(self.method.as_str(), "TCP" | "WS" | "GRPC") {
            return match self.stream() {
                Ok(stream) => echoed(stream),
                Err(error) => Met::Cut(error.to_string()),
            };
        }
        let mut load = Load::new(self.to);
        (load.host, load.path, load.headers) = (self.host, self.path, self.headers);
        (load.count, load.timeout, load.connections) = (1, CALL, Connections::OnePerRequest);
        load.method = self.method.parse().unwrap_or_default();
        match load.run() {
            Ok(outcome) => {
                let status = outcome.statuses.keys().next().and_then(|status| status.parse().ok());
                status.map_or_else(
                    || Met::Cut(outcome.failed.into_keys().next().unwrap_or_default()),
                    Met::Status,
                )
            }
            Err(error) => Met::Cut(error.to_string()),
        }
    }

    /// Compares what was met with the right side of a line; a refusal must be in the log of who refused, after `marks`.
    pub(crate) fn compare(&self, lab: &Lab, expected: &str, met: &Met, marks: &Marks) -> Check {
        let mut words = expected.split_whitespace();
        let first = words.next().unwrap_or_default();
        let unlike = || -> Failed { format!("{met:?} instead of {expected}").into() };
        let holds = match (first, met) {
            ("echo", Met::Echo) | ("cut" | "l4", Met::Cut(_)) => true,
            ("T" | "S" | "lock", Met::Status(status)) => *status == 403,
            // Of a connection that is no HTTP there is nothing to answer.
            ("T" | "S" | "lock", Met::Cut(_)) => matches!(self.method.as_str(), "TCP" | "WS" | "GRPC"),
            (number, Met::Status(status)) => number == status.to_string(),
            _ => false,
        };
        if !holds {
            return Err(unlike());
        }
        if !matches!(first, "T" | "S" | "lock" | "l4") {
            return Ok(());
        }
        let from = self.from.address.v4;
        let client = if first == "l4" { format!("src.addr={from}:") } else { format!("client={from}:") };
        let mut wanted = vec![client, format!("layer={first} ")];
        wanted.extend(words.next().map(|policy| format!("policy={policy}")));
        wanted.extend(words.map(str::to_owned));
        marks.find(lab, first == "l4", &wanted)
    }
}

impl Marks {
    /// Where all logs end now.
    pub(crate) fn now(lab: &Lab) -> Self {
        let ztunnels = [1, 2].map(|node| Source::Ztunnel(NodeNumber(node)));
        let all = ztunnels.into_iter().chain(lab.waypoints().into_iter().map(Source::Waypoint));
        Marks(all.map(|source| (source.clone(), source.log(lab).len())).collect())
    }

    /// Waits for a line of a waypoint's log that holds all these words.
    pub(crate) fn refused(&self, lab: &Lab, words: &[&str]) -> Check {
        self.find(lab, false, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn find(&self, lab: &Lab, at_ztunnel: bool, wanted: &[String]) -> Check {
        let start = Instant::now();
        loop {
            let here = self.0.iter().filter(|(source, _)| matches!(source, Source::Ztunnel(_)) == at_ztunnel);
            let new: Vec<String> = here
                .map(|(source, from)| source.log(lab).get(*from..).unwrap_or_default().to_owned())
                .collect();
            let lines = || new.iter().flat_map(|text| text.lines());
            // Values with blanks stand in quotation marks.
            let lines_without = || lines().map(|line| line.replace('"', ""));
            if lines_without().any(|line| wanted.iter().all(|word| line.contains(word.as_str()))) {
                return Ok(());
            }
            check(start.elapsed() < PATIENCE, || {
                let refused = lines().filter(|line| line.contains("layer=")).collect::<Vec<_>>().join("\n");
                format!("no line with {wanted:?} among:\n{refused}")
            })?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Source {
    fn log(&self, lab: &Lab) -> String {
        match self {
            Source::Ztunnel(node) => lab.logs(Component::Ztunnel(*node)),
            Source::Waypoint(pod) => lab.pod_logs(pod),
        }
    }
}

/// Whether a few numbers come back.
fn echoed(stream: Stream) -> Met {
    let start = Instant::now();
    while stream.rounds() < 3 && !stream.broken() && start.elapsed() < CALL {
        std::thread::sleep(Duration::from_millis(1));
    }
    match stream.finish() {
        Ok(1..) => Met::Echo,
        Ok(0) => Met::Cut("nothing came back".to_owned()),
        Err(error) => Met::Cut(error),
    }
}
