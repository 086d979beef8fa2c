//! Connections to what we stand before no longer: their clients are to connect anew, which leads them past us, and what is
//! under way is to end well before we forget by which policies to judge it (policy.md rule 15).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use ambit_discovery::resolve::waypoint::{Behind, Here, Standing};
use ambit_discovery::view::Snapshot;
use tokio::sync::watch;

use crate::arrive::Bound;
use crate::mesh::Own;

/// Whether we stand before what one worker's connections were opened for. A change wakes only connections it concerns.
pub struct Footings {
    own: Arc<Own>,
    all: RefCell<HashMap<Bound, watch::Sender<Standing>>>,
}

impl Footings {
    /// Of nothing yet.
    pub fn new(own: Arc<Own>) -> Self {
        Self { own, all: RefCell::default() }
    }

    /// For one more connection; `snapshot` is the configuration of this moment.
    pub fn follow(&self, bound: &Bound, snapshot: &Snapshot) -> watch::Receiver<Standing> {
        let mut all = self.all.borrow_mut();
        if let Some(known) = all.get(bound) {
            return known.subscribe();
        }
        let (told, standing) = watch::channel(standing(bound, snapshot, &self.own));
        all.insert(bound.clone(), told);
        standing
    }

    /// The configuration has changed.
    pub fn look(&self, snapshot: &Snapshot) {
        self.all.borrow_mut().retain(|bound, told| {
            let now = standing(bound, snapshot, &self.own);
            told.send_if_modified(|known| std::mem::replace(known, now) != now);
            told.receiver_count() > 0
        });
    }
}

/// Resolves once one of these is true.
pub async fn until(standing: &watch::Receiver<Standing>, ends: &[Standing]) {
    let mut standing = standing.clone();
    if standing.wait_for(|now| ends.contains(now)).await.is_err() {
        // The worker's world outlives its connections.
        std::future::pending().await
    }
}

fn standing(bound: &Bound, snapshot: &Snapshot, own: &Own) -> Standing {
    let behind = match bound {
        Bound::Service(key) => Behind::Service(key.clone()),
        Bound::Workload(uid) => Behind::Workload(uid.clone()),
        // There is nobody else that clients of a listener could turn to.
        Bound::Listener(_) => return Standing::Before,
    };
    // A gateway that is being withdrawn ends by draining; and without our own pod nobody can tell who a named waypoint is.
    let pod =
        snapshot.workloads.by_pod(&own.namespace, &own.pod).filter(|_| snapshot.waypoint.gateway.is_some());
    pod.map_or(Standing::Before, |pod| Here { snapshot, pod }.standing(&behind))
}
