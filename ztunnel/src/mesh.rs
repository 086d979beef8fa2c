//! What every connection of this process shares, and what belongs to one worker alone.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use ambit_discovery::credentials::Credentials;
use ambit_discovery::view::View;
use ambit_process::drain::Watch;
use ambit_process::overload::Overload;
use ambit_process::workers::{Worker, Workers};
use ambit_transport::hbone;
use ambit_transport::hbone::pool::{Directory, Pool};
use tokio::sync::watch;

use crate::dial::TunnelFailed;
use crate::limit::{Handshakes, Limits, Total};
use crate::report::{Report, Shard};
use crate::settings::Settings;

/// How much more a worker may have open than another before a new destination goes to that one.
const UNEVENNESS: usize = 8;

/// Shared by all: read-only handles, cheap to use from any worker.
pub struct Mesh {
    /// Settings.
    pub settings: Settings,
    /// What is known of the mesh.
    pub view: View,
    /// Our pods' certificates.
    pub credentials: Credentials,
    /// Metrics and the access log.
    pub report: Report,
    /// The data plane's threads.
    pub workers: Workers,
    /// Which worker has a tunnel with room.
    pub directory: Directory,
    /// The end of the process.
    pub drain: Watch,
    /// Limits on open connections.
    pub limits: Limits,
    /// Inbound TLS handshakes under way.
    pub handshakes: Handshakes,
    /// HTTP/2 parameters of tunnels.
    pub hbone: hbone::Settings,
    /// Open connections of the whole process.
    pub open: Arc<Total>,
    /// What memory allows.
    pub overload: Overload,
    /// The pod whose connections end because memory is used up; sent each time it has come to that.
    pub relief: watch::Sender<Option<Arc<str>>>,
}

/// One worker's own: tunnels and metric shard. Never leaves its thread.
pub struct World {
    /// This worker's number.
    pub index: usize,
    /// Tunnels this worker opened.
    pub pool: Pool<TunnelFailed>,
    /// This worker's part of the metrics.
    pub shard: Shard,
}

thread_local! {
    static WORLD: OnceCell<Rc<World>> = const { OnceCell::new() };
}

impl World {
    /// Makes the calling worker's world. Called once on each worker before any connection.
    pub fn establish(self) {
        WORLD.with(|world| {
            // A second call would be a programming error; the first world stays.
            let _ = world.set(Rc::new(self));
        });
    }

    /// The calling worker's world; `None` outside workers.
    pub fn current() -> Option<Rc<World>> {
        WORLD.with(|world| world.get().cloned())
    }
}

impl Mesh {
    /// The worker with the least open connections.
    pub fn least_loaded(&self) -> usize {
        self.workers.least_loaded().map_or(0, Worker::index)
    }

    /// The calling worker, which has a new connection at hand and need not pass it on, unless another has clearly less
    /// open.
    pub fn at_hand(&self) -> usize {
        let here = World::current().and_then(|world| self.workers.get(world.index));
        match (here, self.workers.least_loaded()) {
            (Some(here), Some(least)) if here.open() <= least.open() + UNEVENNESS => here.index(),
            _ => self.least_loaded(),
        }
    }
}
