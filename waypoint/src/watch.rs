//! One worker's view of change: when the configuration changes, what is open is judged again, and connections to what is
//! gone are closed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ambit_discovery::view::{Snapshot, View};
use tokio::time::Instant;

use crate::mesh::World;
use crate::upstream::Peer;

/// Idle connections and gone endpoints are looked for this often.
const SWEEP: Duration = Duration::from_secs(1);

/// Follows the view for as long as the worker lives; a draining process still obeys.
pub async fn follow(view: View, world: Rc<World>) {
    let mut changed = view.changes();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            next = changed.changed() => match next {
                Ok(()) => {
                    world.footings.look(&view.load());
                    world.changes.announce();
                }
                // The writer is gone: nothing will change any more.
                Err(_) => break,
            },
            _ = sweep.tick() => {
                let snapshot = view.load();
                world.upstream.sweep(Instant::now(), |peer| lives(peer, &snapshot));
                world.balancers.sweep(&snapshot);
            }
        }
    }
}

/// Whether the workload at the other end still exists as it was when the connection was made.
fn lives(peer: &Peer, snapshot: &Snapshot) -> bool {
    let known = peer.workload();
    snapshot.workload(&known.uid).is_some_and(|workload| {
        Arc::ptr_eq(workload, known)
            || (workload.addresses == known.addresses
                && workload.tunnel == known.tunnel
                && workload.service_account == known.service_account)
    })
}
