//! What became of requests: the answer, and the line that whoever stopped one wrote.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ambit_lab::{Component, Lab, NodeNumber};
use libtest_mimic::Failed;

use crate::generate::Question;
use crate::support::check;

/// Longest time for one request, and for the lines of all.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Status(u16),
    Cut,
}

/// The line of whoever stopped a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    at: String,
    text: String,
    pub(crate) at_waypoint: bool,
    pub(crate) layer: Option<String>,
    pub(crate) reason: String,
    pub(crate) policy: Option<String>,
    pub(crate) rule: Option<u64>,
    pub(crate) attribute: Option<String>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) met: Met,
    pub(crate) line: Option<Line>,
}

/// Sends all requests, those of one client one after another, and finds the line of each that was stopped.
pub(crate) fn all(lab: &Lab, questions: &[Question]) -> Result<Vec<Seen>, Failed> {
    let before: Vec<usize> = logs(lab).iter().map(String::len).collect();
    let mut callers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, question) in questions.iter().enumerate() {
        callers.entry(&question.from).or_default().push(number);
    }
    let mut running = Vec::new();
    for (from, numbers) in &callers {
        let pod = lab.pod(from)?;
        let requests: Vec<_> =
            numbers.iter().map(|number| (questions[*number].dialled, questions[*number].head())).collect();
        let run = move || requests.iter().map(|(to, head)| send(*to, head)).collect::<Vec<Met>>();
        running.push((pod.address.v4, numbers, lab.thread_in(&pod, run)));
    }
    let mut seen: Vec<Option<Seen>> = vec![None; questions.len()];
    for (ip, numbers, thread) in running {
        let met = thread.join().map_err(|_panic| "a client panicked")?;
        let stopped = met.iter().filter(|met| met.is_stopped()).count();
        let mut lines = lines_of(lab, &before, &ip.to_string(), stopped)?.into_iter();
        for (number, met) in numbers.iter().zip(met) {
            let line = if met.is_stopped() { lines.next() } else { None };
            seen[*number] = Some(Seen { met, line });
        }
    }
    Ok(seen.into_iter().flatten().collect())
}

impl Met {
    /// Whether somebody must have written a line about it.
    fn is_stopped(&self) -> bool {
        match self {
            Self::Cut => true,
            Self::Status(status) => matches!(status, 400 | 403 | 404 | 500 | 503),
        }
    }
}

fn send(to: SocketAddr, head: &str) -> Met {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let status = answer().ok().and_then(|answer| answer.split(' ').nth(1)?.parse().ok());
    status.map_or(Met::Cut, Met::Status)
}

/// Logs of everybody who may stop a request.
fn logs(lab: &Lab) -> Vec<String> {
    let ztunnels = [1, 2].map(|node| lab.logs(Component::Ztunnel(NodeNumber(node))));
    ztunnels.into_iter().chain(lab.waypoints().iter().map(|pod| lab.pod_logs(pod))).collect()
}

/// The lines about requests of one client, oldest first; waits until there are `count`.
fn lines_of(lab: &Lab, before: &[usize], ip: &str, count: usize) -> Result<Vec<Line>, Failed> {
    let start = Instant::now();
    loop {
        let logs = logs(lab);
        let new = logs.iter().zip(before).map(|(log, before)| log.get(*before..).unwrap_or_default());
        let mut lines: Vec<Line> =
            new.flat_map(|log| log.lines().filter_map(|line| parse(line, ip))).collect();
        lines.sort_by(|one, other| one.at.cmp(&other.at));
        if lines.len() == count {
            return Ok(lines);
        }
        let late = start.elapsed() > PATIENCE || lines.len() > count;
        check(!late, || {
            format!(
                "{count} requests of {ip} were stopped, and there are {} lines:\n{}",
                lines.len(),
                lines.iter().map(|line| &*line.text).collect::<Vec<_>>().join("\n")
            )
        })?;
        std::thread::yield_now();
    }
}

/// A line of a log, if it tells that a request of this client was stopped, by whoever stopped it.
fn parse(line: &str, ip: &str) -> Option<Line> {
    let at_waypoint = line.contains(&format!("client={ip}:")) && line.contains(" failed");
    let at_ztunnel = line.contains(&format!("src.addr={ip}:")) && line.contains("connection failed");
    // The caller's own ztunnel only repeats that the far side refused, or reset what it had accepted.
    let repeated = line.contains("reason=refused") || line.contains("error=\"CONNECT failed");
    if !(at_waypoint || at_ztunnel) || repeated {
        return None;
    }
    Some(Line {
        at: line.split_whitespace().next()?.to_owned(),
        text: line.to_owned(),
        at_waypoint,
        layer: field(line, "layer"),
        reason: field(line, "reason")?,
        policy: field(line, "policy"),
        rule: field(line, "rule").and_then(|rule| rule.parse().ok()),
        attribute: attribute(line),
    })
}

/// The attribute, which may be of two words: within another value it is the last thing said.
fn attribute(line: &str) -> Option<String> {
    let (before, rest) = line.split_once(" attribute=")?;
    match before.matches('"').count() % 2 {
        1 => rest.split('"').next().map(str::to_owned),
        _ => field(line, "attribute"),
    }
}

/// The value of `name=` as a word of its own; values of several words are within quotes.
fn field(line: &str, name: &str) -> Option<String> {
    let marked = format!("{name}=");
    let place = line.match_indices(&marked).map(|(place, _)| place).find(|place| {
        line[..*place].chars().next_back().is_none_or(|before| before.is_whitespace() || before == '"')
    })?;
    let rest = &line[place + marked.len()..];
    if let Some(quoted) = rest.strip_prefix('"') {
        return quoted.split('"').next().map(str::to_owned);
    }
    let end = rest.find(|one: char| one.is_whitespace() || one == '"').unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
