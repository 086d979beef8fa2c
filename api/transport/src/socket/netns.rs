//! Network namespaces: making sockets inside a pod's while the thread belongs to ours.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use nix::sched::CloneFlags;

/// A network namespace, held open. Cheap to clone.
#[derive(Clone)]
pub struct Netns(Arc<Held>);

struct Held {
    fd: OwnedFd,
    id: NetnsId,
}

/// What tells two network namespaces apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsId {
    /// Device of the namespace file.
    pub dev: u64,
    /// Its inode.
    pub inode: u64,
}

impl Netns {
    /// Opens a namespace by path, for example `/proc/<pid>/ns/net` or a bind mount.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// Wraps a descriptor of a namespace.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let metadata = file.metadata()?;
        let id = NetnsId { dev: metadata.dev(), inode: metadata.ino() };
        Ok(Self(Arc::new(Held { fd: file.into(), id })))
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The calling thread's own namespace. Threads that live in one namespace share a descriptor of it, so that a
    /// further worker costs none.
    fn home() -> io::Result<Self> {
        static SHARED: OnceLock<Netns> = OnceLock::new();
        let own = Self::current()?;
        // The shared descriptor keeps its namespace alive, so no other can have the same id.
        let shared = SHARED.get_or_init(|| own.clone());
        Ok(if shared.id() == own.id() { shared.clone() } else { own })
    }

    /// Which namespace this is.
    pub fn id(&self) -> NetnsId {
        self.0.id
    }

    /// Runs `action` with the calling thread inside the namespace. Sockets made there stay there. `action` must not
    /// await. If the way back fails the process aborts: a thread left in a pod's namespace would act for it.
    pub fn run<T>(&self, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        thread_local! {
            static HOME: io::Result<Netns> = Netns::home();
        }
        HOME.with(|home| {
            let home = home.as_ref().map_err(|cause| io::Error::new(cause.kind(), cause.to_string()))?;
            if home.id() == self.id() {
                return action();
            }
            nix::sched::setns(self.0.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let way_back = WayBack(home);
            let outcome = action();
            drop(way_back);
            outcome
        })
    }
}

/// Returns the thread to its own namespace, also when the action panics.
struct WayBack<'a>(&'a Netns);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if let Err(cause) = nix::sched::setns(self.0.0.fd.as_fd(), CloneFlags::CLONE_NEWNET) {
            tracing::error!(%cause, "cannot leave a pod's network namespace");
            std::process::abort();
        }
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({}:{})", self.0.id.dev, self.0.id.inode)
    }
}
