//! Data-plane workers: one thread, one single-threaded runtime, one world each.
//!
//! Work is sent to a worker as a closure that makes a future there; the future never leaves it, so nothing it
//! holds is locked or shared.

use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait for a worker; one is a hand-over of a socket or a piece of configuration.
const QUEUE: usize = 1024;

/// What a worker takes by default at most: beyond this a node's proxy should be told to.
const DEFAULT_CAP: usize = 4;

/// A future that stays on its worker.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Makes a future on the worker that will run it.
type Job = Box<dyn FnOnce() -> LocalFuture + Send>;

/// How many workers a program should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// From the CPU limit, at most four.
    #[default]
    Auto,
    /// One per CPU that the limit leaves us.
    All,
    /// So many.
    Exactly(usize),
    /// So many hundredths of the CPUs that the limit leaves us, rounded up.
    Percent(u32),
}

/// Text that is no [`Count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of workers, a percentage such as 50%, or 0 for one per CPU")]
pub struct InvalidCount;

/// The worker's queue is full (or the worker has ended); the job comes back.
#[derive(thiserror::Error)]
#[error("the worker has no room for another job")]
pub struct Overloaded<F> {
    /// What could not be queued.
    pub job: F,
}

/// All workers of a program. Dropping it ends them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    threads: Vec<Thread>,
}

/// A thread and the means to end it; dropping `stop` is the signal.
#[derive(Debug)]
struct Thread {
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

/// One worker; clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct Worker {
    index: usize,
    jobs: mpsc::Sender<Job>,
    load: Arc<AtomicUsize>,
}

/// Something open on a worker; counted until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it says that the work is done"]
pub struct Busy {
    load: Arc<AtomicUsize>,
}

impl FromStr for Count {
    type Err = InvalidCount;

    fn from_str(text: &str) -> Result<Self, InvalidCount> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse().map_err(|_| InvalidCount)?;
            return if (1..=100).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(InvalidCount) };
        }
        match text.parse().map_err(|_| InvalidCount)? {
            0 => Ok(Self::All),
            // More threads than this is a typing error, not a machine.
            count @ 1..=1024 => Ok(Self::Exactly(count)),
            _ => Err(InvalidCount),
        }
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("0"),
            Self::Exactly(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Count {
    /// The number of workers for a machine that lets us use `cpus`; at least one.
    #[must_use]
    pub fn of(self, cpus: usize) -> usize {
        let count = match self {
            Self::Auto => cpus.min(DEFAULT_CAP),
            Self::All => cpus,
            Self::Exactly(count) => count,
            Self::Percent(percent) => (cpus * percent as usize).div_ceil(100),
        };
        count.max(1)
    }
}

impl<F> std::fmt::Debug for Overloaded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overloaded")
    }
}

impl Workers {
    /// The number of workers to start: what was asked for, within the CPU limit where that is what was asked.
    #[must_use]
    pub fn count_from(count: Count) -> usize {
        count.of(cpus())
    }

    /// Starts `count` threads named `NAME-0`, `NAME-1`, …
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(count: usize, name: &str) -> io::Result<Self> {
        let mut all = Self { workers: Vec::with_capacity(count), threads: Vec::with_capacity(count) };
        for index in 0..count {
            let (sender, jobs) = mpsc::channel(QUEUE);
            let (stop, stopped) = oneshot::channel();
            let (began, beginning) = std::sync::mpsc::sync_channel(1);
            let handle = std::thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || work(jobs, stopped, &began))?;
            // The runtime belongs to the thread that made it, so its failure is told across.
            beginning.recv().map_err(io::Error::other)??;
            all.workers.push(Worker { index, jobs: sender, load: Arc::default() });
            all.threads.push(Thread { stop, handle });
        }
        Ok(all)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there are none, which no program does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Every worker, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// The worker of that index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Worker> {
        self.workers.get(index)
    }

    /// The worker with the least open on it; the first among equals. `None` only when there are no workers.
    #[must_use]
    pub fn least_loaded(&self) -> Option<&Worker> {
        self.workers.iter().min_by_key(|worker| worker.open())
    }

    /// Ends every worker, dropping what still runs there, and waits for the threads. It blocks: call it when
    /// the drain is over.
    pub fn stop(self) {
        drop(self.workers);
        let handles: Vec<_> =
            self.threads.into_iter().map(|thread| (drop(thread.stop), thread.handle).1).collect();
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a worker's thread panicked");
            }
        }
    }
}

impl Worker {
    /// Its place among the workers.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Makes a future on this worker and runs it there, without waiting.
    ///
    /// # Errors
    /// When the worker's queue is full; the job comes back, to be refused or sent elsewhere.
    pub fn run<F, Fut>(&self, job: F) -> Result<(), Overloaded<F>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        match self.jobs.try_reserve() {
            Ok(permit) => {
                permit.send(boxed(job));
                Ok(())
            }
            Err(_) => Err(Overloaded { job }),
        }
    }

    /// As [`Self::run`], but waits for room: for configuration, which must arrive.
    ///
    /// # Errors
    /// When the worker has ended.
    pub async fn run_when_free<F, Fut>(&self, job: F) -> Result<(), Overloaded<F>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        match self.jobs.reserve().await {
            Ok(permit) => {
                permit.send(boxed(job));
                Ok(())
            }
            Err(_) => Err(Overloaded { job }),
        }
    }

    /// The shared count of what is open on this worker.
    #[must_use]
    pub fn load(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.load)
    }

    /// How much is open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Counts one more thing as open until the guard is dropped.
    pub fn busy(&self) -> Busy {
        self.load.fetch_add(1, Ordering::Relaxed);
        Busy { load: Arc::clone(&self.load) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

fn boxed<F, Fut>(job: F) -> Job
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    Box::new(move || Box::pin(job()))
}

/// A worker's thread: takes jobs until it is told to stop.
fn work(
    mut jobs: mpsc::Receiver<Job>,
    stopped: oneshot::Receiver<()>,
    began: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let (runtime, outcome) = match runtime() {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // A starter that is gone does not wait for the answer.
    let _ = began.send(outcome);
    let Some(runtime) = runtime else { return };
    let take = async move {
        while let Some(job) = jobs.recv().await {
            // The closure runs inside its own task, so that its panic is that task's alone.
            crate::spawn::spawn_local("job", async move { job().await });
        }
    };
    runtime.block_on(async move {
        tokio::select! {
            // Either the signal or the loss of its sender ends the worker.
            _ = stopped => {}
            () = take => {}
        }
    });
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// The CPUs we may use: the affinity mask and the cgroup's quota (v1 or v2), which the standard library reads.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
