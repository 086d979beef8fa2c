//! The bench's client: a fixed number of connections on one thread, each sending its next request when the answer to the
//! last one has come (a closed loop). Every answer is compared whole; one wrong byte ends the bench.

use std::cell::{Cell, RefCell};
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use super::proxies::Usage;
use super::wire::{self, Follower, Keeping};

/// How long one answer may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections are being opened at once when many are to be held.
const OPENING: usize = 16;

/// Time between the last of the held connections and the look at the proxies.
const RESTING: Duration = Duration::from_millis(700);

/// When to measure, and how to read what the proxies use.
pub(super) struct Window {
    /// Load before anything is counted.
    pub(super) warm: Duration,
    /// How long to count.
    pub(super) time: Duration,
    /// Reads what the proxies use.
    pub(super) usage: Box<dyn Fn() -> Usage + Send>,
}

/// What happened within a window.
pub(super) struct Measured {
    /// Requests, or bytes.
    pub(super) count: u64,
    /// Seconds.
    pub(super) seconds: f64,
    /// The proxies' CPU seconds meanwhile.
    pub(super) cpu: f64,
    /// Resident bytes of the proxies at the end, under load.
    pub(super) resident: f64,
    /// Nanoseconds of each request, sorted; empty for bulk data.
    pub(super) latencies: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warming,
    Counting,
    Over,
}

/// What the lanes of one run share.
struct Run {
    to: SocketAddr,
    phase: Cell<Phase>,
    count: Cell<u64>,
    latencies: RefCell<Vec<u32>>,
}

/// Kept connections, each with one request under way.
pub(super) fn keep_alive(to: SocketAddr, width: usize, window: &Window) -> Result<Measured> {
    drive(to, width, window, |run| kept(run, Compared::Whole))
}

/// The same through proxies that read HTTP and may write heads anew: only status and body are compared.
pub(super) fn through(to: SocketAddr, width: usize, window: &Window) -> Result<Measured> {
    drive(to, width, window, |run| kept(run, Compared::Body))
}

async fn kept(run: Rc<Run>, compared: Compared) -> Result<()> {
    let mut asker = Asker::new(Keeping::Kept, compared);
    let mut stream = connect(run.to).await?;
    while run.phase.get() != Phase::Over {
        let begun = Instant::now();
        asker.exchange(&mut stream).await?;
        run.done(begun);
    }
    Ok(())
}

/// A new connection for each request; the measured time is from connect to the end of the connection.
pub(super) fn fresh(to: SocketAddr, width: usize, window: &Window) -> Result<Measured> {
    drive(to, width, window, |run| async move {
        let mut asker = Asker::new(Keeping::Closed, Compared::Whole);
        while run.phase.get() != Phase::Over {
            let begun = Instant::now();
            let mut stream = connect(run.to).await?;
            asker.exchange(&mut stream).await?;
            if stream.read(&mut [0; 1]).await? != 0 {
                return Err(Error::other("more came than the answer"));
            }
            drop(stream);
            run.done(begun);
        }
        Ok(())
    })
}

/// Streams of bulk data as fast as they go; the server checks every byte.
pub(super) fn bulk(to: SocketAddr, width: usize, window: &Window) -> Result<Measured> {
    drive(to, width, window, |run| async move {
        let mut follower = Follower::new(wire::pattern());
        let mut stream = connect(run.to).await?;
        while run.phase.get() != Phase::Over {
            let sent = stream.write(follower.next()).await?;
            follower.advance(sent);
            run.counted(sent as u64);
        }
        stream.shutdown().await?;
        let mut verdict = String::new();
        patiently(stream.read_to_string(&mut verdict)).await?;
        if verdict == format!("right {}\n", follower.total) {
            Ok(())
        } else {
            Err(Error::other(format!("the server got other data than was sent: {verdict:?}")))
        }
    })
}

/// Opens connections, uses each once and holds them all while `look` is called.
pub(super) fn hold<T>(to: SocketAddr, count: usize, look: impl Fn() -> T) -> Result<T> {
    on_this_thread(async {
        let held = Rc::new(RefCell::new(Vec::with_capacity(count)));
        let lanes: Vec<_> = (0..OPENING)
            .map(|lane| {
                let held = Rc::clone(&held);
                ambit_process::spawn::spawn_local("open", async move {
                    let mut asker = Asker::new(Keeping::Kept, Compared::Whole);
                    for _ in (lane..count).step_by(OPENING) {
                        let mut stream = connect(to).await?;
                        asker.exchange(&mut stream).await?;
                        held.borrow_mut().push(stream);
                    }
                    Ok(())
                })
            })
            .collect();
        joined(lanes).await?;
        tokio::time::sleep(RESTING).await;
        let seen = look();
        let open = held.borrow().len();
        if open == count { Ok(seen) } else { Err(Error::other(format!("{open} of {count} connections"))) }
    })
}

/// Asks until an answer comes.
pub(super) fn reach(to: SocketAddr, limit: Duration) -> Result<()> {
    insist(limit, || async move {
        let mut stream = connect(to).await?;
        Asker::new(Keeping::Kept, Compared::Whole).exchange(&mut stream).await
    })
}

/// The same through proxies that read HTTP.
pub(super) fn reach_through(to: SocketAddr, limit: Duration) -> Result<()> {
    insist(limit, || async move {
        let mut stream = connect(to).await?;
        Asker::new(Keeping::Kept, Compared::Body).exchange(&mut stream).await
    })
}

/// Connects until that works, and asks nothing.
pub(super) fn connectable(to: SocketAddr, limit: Duration) -> Result<()> {
    insist(limit, || async move { connect(to).await.map(drop) })
}

fn insist<F: Future<Output = Result<()>>>(limit: Duration, once: impl Fn() -> F) -> Result<()> {
    on_this_thread(async {
        let end = Instant::now() + limit;
        loop {
            match once().await {
                Ok(()) => return Ok(()),
                Err(cause) if Instant::now() > end => return Err(cause),
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
}

impl Run {
    fn counted(&self, count: u64) {
        if self.phase.get() == Phase::Counting {
            self.count.set(self.count.get() + count);
        }
    }

    fn done(&self, begun: Instant) {
        if self.phase.get() == Phase::Counting {
            self.count.set(self.count.get() + 1);
            let nanoseconds = u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX);
            self.latencies.borrow_mut().push(nanoseconds);
        }
    }
}

/// How much of an answer must be as expected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Whole,
    Body,
}

/// One connection's requests.
struct Asker {
    request: Vec<u8>,
    expected: wire::Answer,
    compared: Compared,
    buffer: [u8; 1024],
    next: u64,
}

impl Asker {
    fn new(keeping: Keeping, compared: Compared) -> Self {
        let (request, expected) = (wire::request(keeping), wire::answer(keeping));
        Self { request, expected, compared, buffer: [0; 1024], next: 0 }
    }

    async fn exchange(&mut self, stream: &mut TcpStream) -> Result<()> {
        let digits = wire::number(&mut self.request, self.next);
        self.next += 1;
        stream.write_all(&self.request).await?;
        let expected = self.expected.with(&digits);
        let mut filled = 0;
        let is_over = |answer: &[u8]| match self.compared {
            Compared::Whole => answer.len() >= expected.len(),
            Compared::Body => wire::body(answer).is_some_and(|body| body.len() >= wire::BODY),
        };
        while !is_over(&self.buffer[..filled]) {
            match stream.read(&mut self.buffer[filled..]).await? {
                0 => return Err(Error::other("the connection ended within an answer")),
                read => filled += read,
            }
        }
        let answer = &self.buffer[..filled];
        let is_right = match self.compared {
            Compared::Whole => answer == expected,
            Compared::Body => {
                answer.starts_with(b"HTTP/1.1 200 ") && wire::body(answer) == wire::body(expected)
            }
        };
        if is_right {
            return Ok(());
        }
        Err(Error::other(format!("a wrong answer: {:?}", String::from_utf8_lossy(&self.buffer[..filled]))))
    }
}

fn drive<F: Future<Output = Result<()>> + 'static>(
    to: SocketAddr,
    width: usize,
    window: &Window,
    lane: impl Fn(Rc<Run>) -> F,
) -> Result<Measured> {
    on_this_thread(async {
        let run = Rc::new(Run {
            to,
            phase: Cell::new(Phase::Warming),
            count: Cell::new(0),
            latencies: RefCell::default(),
        });
        let lanes: Vec<_> =
            (0..width).map(|_| ambit_process::spawn::spawn_local("lane", lane(Rc::clone(&run)))).collect();
        tokio::time::sleep(window.warm).await;
        let (begun, before) = (Instant::now(), (window.usage)());
        run.phase.set(Phase::Counting);
        tokio::time::sleep(window.time).await;
        run.phase.set(Phase::Over);
        let (seconds, after) = (begun.elapsed().as_secs_f64(), (window.usage)());
        patiently(joined(lanes)).await?;
        let mut latencies = run.latencies.take();
        latencies.sort_unstable();
        Ok(Measured {
            count: run.count.get(),
            seconds,
            cpu: after.cpu - before.cpu,
            resident: after.resident,
            latencies,
        })
    })
}

/// Waits for every lane; the first failure is the run's.
async fn joined(lanes: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    for lane in lanes {
        lane.await.map_err(Error::other)??;
    }
    Ok(())
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpSocket::new_v4()?.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn patiently<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_late| Error::other("no end within ten seconds"))?
}

fn on_this_thread<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, what)
}
