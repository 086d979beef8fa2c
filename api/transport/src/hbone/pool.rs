//! A worker's tunnels.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use ambit_api::identity::Identity;
use ambit_api::reason::Reason;

use super::{ConnectError, ConnectRequest, Settings, Stream, Tunnel};
use crate::addr::ServerAddr;

/// What streams must share to share a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The source pod's uid: the tunnel starts in its namespace.
    pub pod: Arc<str>,
    /// The identity we present.
    pub identity: Identity,
    /// Where the tunnel goes.
    pub to: ServerAddr,
    /// Whom we expect there; sorted by the caller once.
    pub expected: Arc<[Identity]>,
}

/// How busy one tunnel is; readable from every thread.
#[derive(Debug, Default)]
pub struct TunnelLoad {
    streams: AtomicUsize,
    queued: AtomicUsize,
    limit: AtomicUsize,
    closed: AtomicBool,
}

/// Which worker has a tunnel with room for a key; shared by all workers.
#[derive(Clone, Default)]
pub struct Directory(Arc<()>);

/// One worker's tunnels. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Rc<()>);

/// Why no stream could be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The tunnel could not be made; every caller that waited for it gets the same error.
    #[error(transparent)]
    Dial(Arc<E>),
    /// The tunnel is there, the CONNECT failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Too many tunnels.
    #[error("too many tunnels")]
    Full,
}

impl<E> OpenError<E> {
    /// The end this failure means for a connection, given what a dial error means.
    pub fn reason(&self, dial: impl FnOnce(&E) -> Reason) -> Reason {
        match self {
            Self::Dial(cause) => dial(cause),
            Self::Connect(cause) => cause.reason(),
            Self::Full => Reason::Overloaded,
        }
    }
}

impl Directory {
    /// The worker that owns a tunnel for `key` with room for one more stream.
    pub fn worker_for(&self, key: &Key) -> Option<usize> {
        let _ = key;
        None
    }
}

impl Pool {
    /// The pool of worker number `worker`.
    pub fn new(worker: usize, directory: Directory, settings: Settings) -> Self {
        let _ = (worker, directory, settings);
        Self(Rc::new(()))
    }

    /// A stream to `key`, over a tunnel there is or a new one that `dial` makes (socket, TLS and [`super::client::connect`]).
    pub async fn open<E, F>(
        &self,
        key: &Key,
        request: &ConnectRequest,
        dial: impl FnOnce() -> F,
    ) -> Result<Stream, OpenError<E>>
    where
        F: Future<Output = Result<Tunnel, E>>,
    {
        let _ = (key, request);
        drop(dial().await.map_err(|cause| OpenError::Dial(Arc::new(cause)))?);
        Err(OpenError::Full)
    }

    /// Retires every tunnel that starts in this pod: GOAWAY, no new streams.
    pub fn retire(&self, pod: &str) {
        let _ = pod;
    }

    /// Retires every tunnel.
    pub fn retire_all(&self) {}
}
