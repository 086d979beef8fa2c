//! The thread that looks at the folders whenever they change and delivers what that means.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::deliver::Delivered;
use super::folder::Folders;
use super::merge;
use super::overlay::Overlays;
use super::stamp::{Patience, SETTLE};
use super::writer::Writer;
use crate::source::{Rescan, SourceEvent, Started};

/// How long changes are gathered once one was seen, as long as they keep coming.
const QUIET: Duration = Duration::from_millis(5);
/// The longest that gathering may take.
const GATHER: Duration = Duration::from_millis(40);
/// How often folders that cannot be watched are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread works on.
pub(super) struct Parts {
    pub(super) folders: Folders,
    pub(super) overlays: Overlays,
    pub(super) status: Arc<Writer>,
}

struct Thread {
    parts: Parts,
    delivered: Delivered,
    watcher: RecommendedWatcher,
    /// Folders under watch, each with its inode: one that was made anew needs a new watch.
    watched: BTreeMap<PathBuf, u64>,
    wakeups: Receiver<()>,
    tickets: Arc<AtomicU64>,
    answered: u64,
    events: mpsc::Sender<SourceEvent>,
}

struct Waker {
    tickets: Arc<AtomicU64>,
    wake: SyncSender<()>,
}

/// The reader has gone away; there is nothing left to do.
struct Closed;

pub(super) fn start(parts: Parts) -> io::Result<Started> {
    let (wake, wakeups) = sync_channel(1);
    let (sender, events) = mpsc::channel(super::CHANNEL);
    let tickets = Arc::new(AtomicU64::new(0));
    let signal = wake.clone();
    // One waiting wake-up says it all: a look takes up every change.
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        let _ = signal.try_send(());
    });
    let watcher = watcher.map_err(io::Error::other)?;
    let status = parts.status.clone();
    let rescan = Arc::new(Waker { tickets: tickets.clone(), wake });
    let thread = Thread {
        parts,
        delivered: Delivered::default(),
        watcher,
        watched: BTreeMap::new(),
        wakeups,
        tickets,
        answered: 0,
        events: sender,
    };
    std::thread::Builder::new().name("source-directory".to_owned()).spawn(move || thread.run())?;
    Ok(Started { events, status, rescan })
}

impl Rescan for Waker {
    fn rescan(&self) -> u64 {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = self.wake.try_send(());
        ticket
    }
}

impl Thread {
    fn run(mut self) {
        // Ends when the reader is gone.
        let _ = self.serve();
    }

    fn serve(&mut self) -> Result<(), Closed> {
        self.send(SourceEvent::Init)?;
        let ticket = self.tickets.load(Ordering::SeqCst);
        let mut again = self.look(Patience::Now)?;
        self.send(SourceEvent::InitDone)?;
        self.answer(ticket)?;
        loop {
            match self.wakeups.recv_timeout(if again { SETTLE } else { RETRY }) {
                Ok(()) => self.gather(),
                Err(RecvTimeoutError::Timeout) if self.events.is_closed() => return Err(Closed),
                Err(RecvTimeoutError::Timeout) if !again && self.all_watched() => continue,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Closed),
            }
            let ticket = self.tickets.load(Ordering::SeqCst);
            again = self.look(Patience::Settled)?;
            if !again {
                self.answer(ticket)?;
            }
        }
    }

    /// Tells that all that stood there when the ticket was drawn has been delivered.
    fn answer(&mut self, ticket: u64) -> Result<(), Closed> {
        if ticket > self.answered {
            self.answered = ticket;
            self.send(SourceEvent::Rescanned(ticket))?;
        }
        Ok(())
    }

    /// Waits until changes stop coming, or long enough.
    fn gather(&self) {
        let until = Instant::now() + GATHER;
        while Instant::now() < until && self.wakeups.recv_timeout(QUIET).is_ok() {}
    }

    /// Delivers what has changed. Tells whether something must be looked at again soon.
    fn look(&mut self, patience: Patience) -> Result<bool, Closed> {
        // Watch first: what changes during the look wakes us again.
        self.watch();
        let again = self.parts.folders.refresh(patience);
        self.parts.overlays.refresh();
        let merged = merge::merge(&self.parts.folders);
        let changes = self.delivered.update(merged, &self.parts.overlays);
        for (object, uid) in &changes.gone {
            self.parts.overlays.forget(object, uid);
            self.parts.status.learn(object, None);
        }
        for event in changes.events {
            // The writer knows an object before its reader can ask to annotate it.
            if let SourceEvent::Applied(object) = &event {
                self.parts.status.learn(&object.reference(), Some(&object.meta().uid));
            }
            self.send(event)?;
        }
        Ok(again)
    }

    fn send(&self, event: SourceEvent) -> Result<(), Closed> {
        self.events.blocking_send(event).map_err(|_| Closed)
    }

    fn all_watched(&self) -> bool {
        self.wanted().iter().all(|path| inode(path).is_some_and(|now| self.watched.get(path) == Some(&now)))
    }

    fn wanted(&self) -> BTreeSet<PathBuf> {
        let folders = self.parts.folders.folders.iter().map(|folder| folder.path.clone());
        folders.chain(self.parts.overlays.folder().map(PathBuf::from)).collect()
    }

    fn watch(&mut self) {
        for path in self.wanted() {
            let now = inode(&path);
            if now.is_some() && self.watched.get(&path) == now.as_ref() {
                continue;
            }
            if self.watched.remove(&path).is_some() {
                let _ = self.watcher.unwatch(&path);
            }
            if let Some(now) = now
                && self.watcher.watch(&path, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.insert(path, now);
            }
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|metadata| metadata.ino())
}
