//! What every request of this process shares, and what belongs to one worker alone.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ambit_api::identity::Identity;
use ambit_api::workload::Workload;
use ambit_discovery::credentials::{Credentials, State};
use ambit_discovery::view::{Snapshot, View};
use ambit_process::drain::Watch;
use ambit_process::overload::{Charge, Level, Overload, Standing, Work};
use ambit_process::workers::Workers;
use ambit_transport::hbone;
use tokio::sync::watch;

use crate::balance::cluster::Clusters;
use crate::changes::Changes;
use crate::clusters::Balancers;
use crate::detach::Footings;
use crate::relief::Relief;
use crate::report::Reporter;
use crate::settings::{Settings, Times};
use crate::upstream::Pool;

/// Shared by all: read-only handles, cheap to use from any worker.
pub struct Mesh {
    /// Settings.
    pub settings: Settings,
    /// Who we are.
    pub own: Arc<Own>,
    /// What is known of the mesh.
    pub view: View,
    /// Our certificate's keeper.
    pub credentials: Credentials,
    /// The data plane's threads.
    pub workers: Workers,
    /// What clusters hold and whom they ejected, for all workers together.
    pub clusters: Clusters,
    /// The end of the process.
    pub drain: Watch,
    /// Whether clients are asked to go elsewhere.
    pub leaving: AtomicBool,
    /// Open tunnels and connections, and how many there may be.
    pub open: Open,
    /// What memory allows.
    pub overload: Overload,
    /// Whose connections end when it is used up.
    pub relief: Relief,
}

/// Who we are towards others. Apart from [`Mesh`], whose last holder's end is the end of a drain, because a worker's
/// pools live as long as the worker.
pub struct Own {
    /// Our identity.
    pub identity: Identity,
    /// Our pod, as tunnels are keyed.
    pub pod_uid: Arc<str>,
    /// Our namespace.
    pub namespace: Arc<str>,
    /// Our pod's name.
    pub pod: Arc<str>,
    /// Our certificate.
    pub certificate: watch::Receiver<State>,
    /// HTTP/2 parameters of tunnels.
    pub hbone: hbone::Settings,
    /// Bounds on time.
    pub times: Times,
    /// What memory allows.
    pub overload: Overload,
}

/// Open tunnels and connections of the process.
#[derive(Debug)]
pub struct Open {
    count: Arc<AtomicUsize>,
    limit: usize,
}

/// A place among the open ones; given back on drop.
#[derive(Debug)]
pub struct Opened {
    _counted: Counted,
    _charge: Charge,
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

/// One worker's own. Never leaves its thread.
pub struct World {
    /// Connections towards endpoints.
    pub upstream: Pool,
    /// Who is chosen.
    pub balancers: Balancers,
    /// Changes of the configuration.
    pub changes: Rc<Changes>,
    /// What its connections were opened for, and whether we stand before it.
    pub footings: Footings,
    /// What is told about requests and connections.
    pub report: Reporter,
}

thread_local! {
    static WORLD: OnceCell<Rc<World>> = const { OnceCell::new() };
}

impl Mesh {
    /// Whether clients are asked to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.overload.level() == Level::Full
    }

    /// The memory for new work, to be held as long as that lasts; what there is none for is counted here and refused by
    /// the caller.
    pub fn admit(&self, work: Work) -> Option<Charge> {
        let admitted = self.overload.admit(work, Standing::Greedy);
        if admitted.is_none() {
            self.overload.shed(work);
        }
        admitted
    }

    /// Our own pod, once it is known.
    pub fn here(&self, snapshot: &Snapshot) -> Option<Arc<Workload>> {
        snapshot.workloads.by_pod(&self.own.namespace, &self.own.pod).cloned()
    }
}

impl Open {
    /// At most `limit` at once.
    pub fn new(limit: usize) -> Self {
        Self { count: Arc::default(), limit }
    }

    /// Takes a place, for which memory is charged already; `None` when all are taken.
    pub fn admit(&self, charge: Charge) -> Option<Opened> {
        // Counted first and given back by drop on refusal, so that two arrivals cannot share the last place.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.count.clone());
        (before < self.limit).then_some(Opened { _counted: counted, _charge: charge })
    }

    /// How many are open.
    pub fn now(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl World {
    /// Makes the calling worker's world. Called once on each worker before any connection.
    pub fn establish(self) -> Rc<Self> {
        // A second call would be a programming error; the first world stays.
        WORLD.with(|world| world.get_or_init(|| Rc::new(self)).clone())
    }

    /// The calling worker's world; `None` outside workers.
    pub fn current() -> Option<Rc<Self>> {
        WORLD.with(|world| world.get().cloned())
    }
}
