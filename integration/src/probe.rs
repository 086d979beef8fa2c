//! Readiness: what a pod's checks find, over time.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::component::Served;
use crate::expand::Container;
use crate::image::Program;
use crate::manifest::{at, text};
use crate::pod::Life;

/// How often a pod is looked at that has not been ready yet.
const EAGER: Duration = Duration::from_millis(25);
/// How often a container without a probe of its own is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// The same for a waypoint.
const PROXY: Duration = Duration::from_secs(1);

/// What makes one container ready.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    container: String,
    test: Test,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// Running is enough.
    Runs,
    /// All these ports must accept.
    Accepts(Vec<u16>),
    Http {
        port: u16,
        request: String,
    },
    Exec(Vec<String>),
    /// A probe the lab cannot make.
    Never,
}

/// Watches one pod.
pub(crate) struct Prober {
    pub(crate) checks: Vec<Check>,
    pub(crate) address: IpAddr,
    pub(crate) life: Arc<Life>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    good: u32,
    bad: u32,
    ready: bool,
}

impl Check {
    /// The check for a container; without a probe, a stand-in is ready when it listens, anything else when it runs.
    pub(crate) fn of(container: &Container, ports: &BTreeMap<String, u16>) -> Self {
        let name = container.name.clone();
        let Some(probe) = container.value.get("readinessProbe") else {
            let test = match &container.program {
                Program::Waypoint => http(crate::waypoint::port(Served::Readiness), "/healthz/ready", ""),
                Program::StandIn { ports, .. } if !ports.is_empty() => Test::Accepts(ports.clone()),
                _ => Test::Runs,
            };
            let timeout = Duration::from_secs(1);
            let period = if container.program == Program::Waypoint { PROXY } else { IDLE };
            return Check {
                container: name,
                test,
                delay: Duration::ZERO,
                period,
                timeout,
                successes: 1,
                failures: 3,
            };
        };
        let number =
            |field: &str, default: u64| at(probe, &[field]).and_then(Value::as_u64).unwrap_or(default);
        Check {
            container: name,
            test: test(probe, ports),
            delay: Duration::from_secs(number("initialDelaySeconds", 0)),
            period: Duration::from_secs(number("periodSeconds", 10).max(1)),
            timeout: Duration::from_secs(number("timeoutSeconds", 1).max(1)),
            successes: number("successThreshold", 1).max(1) as u32,
            failures: number("failureThreshold", 3).max(1) as u32,
        }
    }

    fn passes(&self, address: IpAddr) -> bool {
        match &self.test {
            Test::Runs => true,
            Test::Never => false,
            Test::Accepts(ports) => ports.iter().all(|port| self.connect(address, *port).is_some()),
            Test::Http { port, request } => {
                self.get(address, *port, request).is_some_and(|status| (200..400).contains(&status))
            }
            Test::Exec(words) => runs_well(words, self.timeout),
        }
    }

    fn connect(&self, address: IpAddr, port: u16) -> Option<TcpStream> {
        TcpStream::connect_timeout(&SocketAddr::new(address, port), self.timeout).ok()
    }

    fn get(&self, address: IpAddr, port: u16, request: &str) -> Option<u16> {
        let mut stream = self.connect(address, port)?;
        stream.set_read_timeout(Some(self.timeout)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).ok()?;
        std::str::from_utf8(&start).ok()?.strip_prefix("HTTP/1.")?.get(2..)?.trim().parse().ok()
    }
}

fn test(probe: &Value, ports: &BTreeMap<String, u16>) -> Test {
    let port = |kind: &str| match at(probe, &[kind, "port"])? {
        Value::String(name) => ports.get(name).copied().or_else(|| name.parse().ok()),
        number => number.as_u64().and_then(|port| u16::try_from(port).ok()),
    };
    if let Some(port) = port("httpGet") {
        let path = text(probe, &["httpGet", "path"]).unwrap_or("/");
        let headers = at(probe, &["httpGet", "httpHeaders"]).and_then(Value::as_array).into_iter().flatten();
        let headers: String = headers
            .filter_map(|header| {
                Some(format!("{}: {}\r\n", text(header, &["name"])?, text(header, &["value"])?))
            })
            .collect();
        return http(port, path, &headers);
    }
    if let Some(port) = port("tcpSocket") {
        return Test::Accepts(vec![port]);
    }
    let words = at(probe, &["exec", "command"]).and_then(Value::as_array);
    match words
        .map(|words| words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect::<Vec<_>>())
    {
        Some(words) if !words.is_empty() => Test::Exec(words),
        _ => Test::Never,
    }
}

fn http(port: u16, path: &str, headers: &str) -> Test {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: pod\r\nUser-Agent: kube-probe/ambit-lab\r\n{headers}Connection: close\r\n\r\n"
    );
    Test::Http { port, request }
}

fn runs_well(words: &[String], limit: Duration) -> bool {
    let command = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = command else { return false };
    let ended = crate::process::poll(limit, || child.try_wait().ok().flatten());
    if ended.is_none() {
        // Too slow counts as failed; it must not stay behind either.
        let _killed = child.kill();
        let _reaped = child.wait();
    }
    ended.is_some_and(|status| status.success())
}

impl Prober {
    /// Looks again and again, and tells every change, until the pod stops.
    pub(crate) fn watch(&self, tell: impl Fn(bool)) {
        let born = Instant::now();
        let mut counts = vec![Count::default(); self.checks.len()];
        let mut told = false;
        while !self.life.stopping() {
            for (check, count) in self.checks.iter().zip(&mut counts) {
                self.look(check, count, born.elapsed());
            }
            let ready = counts.iter().all(|count| count.ready);
            if ready != told {
                tell(ready);
                told = ready;
            }
            self.life.pause(self.next(&counts));
        }
    }

    fn look(&self, check: &Check, count: &mut Count, age: Duration) {
        if !self.life.runs(&check.container) {
            *count = Count::default();
            return;
        }
        if age < check.delay {
            return;
        }
        if check.passes(self.address) {
            count.bad = 0;
            count.good += 1;
            count.ready |= count.good >= check.successes;
        } else {
            count.good = 0;
            count.bad += 1;
            count.ready &= count.bad < check.failures;
        }
    }

    /// Eager until the pod is ready for the first time; then as each check asks.
    fn next(&self, counts: &[Count]) -> Duration {
        let periods = self.checks.iter().zip(counts).map(|(check, count)| {
            match count.ready || count.bad >= check.failures * 40 {
                true => check.period,
                false => EAGER,
            }
        });
        periods.min().unwrap_or(IDLE)
    }
}
