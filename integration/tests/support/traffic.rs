//! Pods that talk all the time while something happens to the mesh, and what came of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::{Lab, PodHandle};
use libtest_mimic::Failed;

use crate::support::{Check, check};

/// Time between two things said: busy, and yet a machine of two cores carries many.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest silence of a connection that is not broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait of one request of [`Traffic`].
const LIMIT: Duration = Duration::from_secs(3);
/// Numbers written at once on a stream.
const BATCH: u64 = 64;

/// Waits for a condition; fails with what was waited for and how it stood.
pub(crate) fn until(limit: Duration, mut missing: impl FnMut() -> Option<String>) -> Check {
    let end = Instant::now() + limit;
    while let Some(what) = missing() {
        check(Instant::now() < end, || format!("after {} s still missing: {what}", limit.as_secs()))?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// How [`Traffic`] uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// An HTTP request on a connection of its own each time.
    NewConnections,
    /// One connection to an echo server, used until it breaks, and then another.
    HeldConnection,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    good: AtomicU64,
    failed: AtomicU64,
}

/// One pod that says a secret to another again and again, whatever happens.
#[derive(Debug)]
pub(crate) struct Traffic {
    name: String,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(lab: &Lab, from: &PodHandle, to: SocketAddr, way: Way, secret: &'static str) -> Self {
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = lab.thread_in(from, move || {
            while !shared.stop.load(Ordering::Relaxed) {
                let outcome = match way {
                    Way::NewConnections => {
                        ask(to, secret).map(|()| shared.good.fetch_add(1, Ordering::Relaxed))
                    }
                    Way::HeldConnection => hold(to, secret, &shared).map(|()| 0),
                };
                if outcome.is_err() {
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Traffic { name: format!("{} to {to}, {way:?}", from.name), counts, thread: Some(thread) }
    }

    pub(crate) fn good(&self) -> u64 {
        self.counts.good.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It counts what goes wrong and does not fail.
            let _ended = thread.join();
        }
    }
}

fn ask(to: SocketAddr, secret: &str) -> std::io::Result<()> {
    let answer = ambit_lab::http::request("GET", to, &format!("/{secret}"), LIMIT)?;
    if answer.status == 200 && answer.body.contains(secret) {
        return Ok(());
    }
    Err(std::io::Error::other(format!("{answer:?}")))
}

fn hold(to: SocketAddr, secret: &str, counts: &Counts) -> std::io::Result<()> {
    let mut stream = connect(to, LIMIT)?;
    while !counts.stop.load(Ordering::Relaxed) {
        let mut back = vec![0; secret.len()];
        stream.write_all(secret.as_bytes())?;
        stream.read_exact(&mut back)?;
        if back != secret.as_bytes() {
            return Err(std::io::Error::other("something else came back"));
        }
        counts.good.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn connect(to: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

/// Waits until each has done this much more of something, in the given time.
pub(crate) fn wait_more(
    traffic: &[Traffic],
    count: fn(&Traffic) -> u64,
    more: u64,
    (what, limit): (&str, Duration),
) -> Check {
    let before: Vec<_> = traffic.iter().map(count).collect();
    until(limit, || {
        let late = traffic.iter().zip(&before).find(|(one, before)| count(one) < *before + more);
        late.map(|(one, before)| {
            format!("{what}: {} went from {before} to {}, not by {more}", one.name, count(one))
        })
    })
}

/// Sum over all.
pub(crate) fn total(traffic: &[Traffic], count: fn(&Traffic) -> u64) -> u64 {
    traffic.iter().map(count).sum()
}

/// What a [`Talk`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP requests, one after another on the same connection, each with a number that must come back.
    Requests,
    /// Numbers both ways at once, each of which must come back in order.
    Stream,
}

#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    rounds: AtomicU64,
    broken: Mutex<Option<String>>,
}

/// One connection that is used all the time and must never break.
#[derive(Debug)]
pub(crate) struct Talk {
    name: String,
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl Talk {
    pub(crate) fn open(lab: &Lab, from: &PodHandle, to: SocketAddr, kind: Kind) -> Result<Self, Failed> {
        let name = format!("{kind:?} from {} to {to}", from.name);
        let stream = lab.in_pod(from, move || connect(to, PATIENCE));
        let stream = stream.map_err(|error| format!("{name}: {error}"))?;
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = std::thread::spawn(move || {
            let outcome = match kind {
                Kind::Requests => requests(stream, &shared),
                Kind::Stream => numbers(&stream, &shared),
            };
            if let Err(error) = outcome {
                let text = format!("after {} rounds: {error}", shared.rounds.load(Ordering::Relaxed));
                *shared.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text);
            }
        });
        Ok(Talk { name, progress, thread })
    }

    fn rounds(&self) -> u64 {
        self.progress.rounds.load(Ordering::Relaxed)
    }

    /// What broke it.
    fn broken(&self) -> Option<String> {
        let broken = self.progress.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        broken.as_ref().map(|text| format!("{}: {text}", self.name))
    }
}

/// Fails when one has broken; waits until each has gone on by this many rounds.
pub(crate) fn go_on(talks: &[Talk], more: u64, limit: Duration) -> Check {
    let before: Vec<_> = talks.iter().map(Talk::rounds).collect();
    let mut broken = None;
    until(limit, || {
        broken = talks.iter().find_map(Talk::broken);
        let late = talks.iter().zip(&before).find(|(talk, before)| talk.rounds() < *before + more);
        late.filter(|_| broken.is_none()).map(|(talk, _before)| format!("rounds of {}", talk.name))
    })?;
    check(broken.is_none(), || broken.unwrap_or_default())
}

/// Ends all in good order and returns the sum of their rounds; fails with every one that broke.
pub(crate) fn finish(talks: Vec<Talk>) -> Result<u64, Failed> {
    talks.iter().for_each(|talk| talk.progress.stop.store(true, Ordering::Relaxed));
    let (mut rounds, mut broken) = (0, Vec::new());
    for talk in talks {
        let Talk { name, progress, thread } = talk;
        thread.join().map_err(|_panic| format!("the thread of {name} failed"))?;
        rounds += progress.rounds.load(Ordering::Relaxed);
        let text = progress.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        broken.extend(text.map(|text| format!("{name}: {text}")));
    }
    check(broken.is_empty(), || format!("{} connections broke: {broken:#?}", broken.len()))?;
    Ok(rounds)
}

fn requests(mut stream: TcpStream, progress: &Progress) -> std::io::Result<()> {
    let own = stream.local_addr()?.port();
    let mut number = 0_u64;
    while !progress.stop.load(Ordering::Relaxed) {
        let path = format!("/number-{own}-{number}.");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let body = answer(&mut stream)?;
        if !body.contains(&path) {
            return Err(std::io::Error::other(format!("{path} was answered by {body}")));
        }
        number += 1;
        progress.rounds.store(number, Ordering::Relaxed);
        std::thread::sleep(PAUSE * 4);
    }
    Ok(())
}

/// Reads one HTTP answer that has a length.
fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let length = length.ok_or_else(|| std::io::Error::other(format!("no length in {head:?}")))?;
            if body.len() >= length {
                return Ok(body.to_owned());
            }
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(std::io::Error::other(format!("closed after {text:?}")));
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

fn numbers(stream: &TcpStream, progress: &Arc<Progress>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let shared = Arc::clone(progress);
    let writer = std::thread::spawn(move || -> std::io::Result<u64> {
        let mut next = 0;
        while !shared.stop.load(Ordering::Relaxed) {
            let batch: Vec<u8> = (next..next + BATCH).flat_map(u64::to_be_bytes).collect();
            out.write_all(&batch)?;
            next += BATCH;
            std::thread::sleep(PAUSE);
        }
        out.shutdown(Shutdown::Write)?;
        Ok(next)
    });
    let read = read_numbers(stream, progress);
    let asked = progress.stop.swap(true, Ordering::Relaxed);
    let written = writer.join().map_err(|_panic| std::io::Error::other("the writer failed"))?;
    match (read?, written?) {
        (read, written) if read == written && asked => Ok(()),
        (read, _written) if !asked => Err(std::io::Error::other(format!("it ended after {read} numbers"))),
        (read, written) => Err(std::io::Error::other(format!("{written} numbers went, {read} came back"))),
    }
}

/// Reads to the end; every number must be the next.
fn read_numbers(stream: &TcpStream, progress: &Progress) -> std::io::Result<u64> {
    let mut reader = std::io::BufReader::new(stream);
    let mut expected = 0;
    let mut number = [0; 8];
    loop {
        let mut have = 0;
        while have < number.len() {
            match reader.read(&mut number[have..])? {
                0 if have == 0 => return Ok(expected),
                0 => return Err(std::io::Error::other(format!("number {expected} was cut off"))),
                read => have += read,
            }
        }
        if u64::from_be_bytes(number) != expected {
            return Err(std::io::Error::other(format!(
                "number {expected} came back as {}",
                u64::from_be_bytes(number)
            )));
        }
        expected += 1;
        progress.rounds.store(expected / BATCH, Ordering::Relaxed);
    }
}
