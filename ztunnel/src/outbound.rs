//! One connection leaving a pod: capture → resolve → dial → relay → report.

use std::rc::Rc;
use std::sync::Arc;

use ambit_api::reason::Reason;
use ambit_api::workload::{Uid, Workload};
use ambit_discovery::resolve::{self, Ask, Hop, Unresolved};
use ambit_process::spawn::spawn_local;
use ambit_transport::addr::{OriginalDst, ServerAddr};
use ambit_transport::hbone::pool::Key;
use ambit_transport::relay::{Far, relay};
use ambit_transport::socket;

use crate::capture::{Captured, Carrying, hand_over};
use crate::dial::{self, DialFailed, Origin};
use crate::mesh::{Mesh, World};
use crate::pods::Pod;
use crate::report::{Direction, Record};
use crate::revoke;

/// Endpoints one connection may try before it fails; none has seen a byte of the application.
const ATTEMPTS: usize = 3;

/// A connection with its way, ready for the worker that owns the tunnel.
pub struct Placed {
    captured: Captured,
    source: Arc<Workload>,
    hop: Result<Hop, Unresolved>,
}

/// Why an outbound connection failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("this pod's configuration has not arrived")]
    Unknown,
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    #[error("{0}")]
    Dial(#[from] DialFailed),
    #[error("the pod is gone")]
    Gone,
}

impl Failed {
    fn reason(&self) -> Reason {
        match self {
            Self::Unknown => Reason::WorkloadUnknown,
            Self::Unresolved(unresolved) => unresolved.reason,
            Self::Dial(failed) => failed.reason(),
            Self::Gone => Reason::PodGone,
        }
    }
}

/// Decides where a connection goes and hands it to the worker that has a tunnel there with room, else to the least
/// loaded one. Runs on the worker that accepted; waits only while the pod's configuration has not arrived.
pub fn place(captured: Captured, mesh: &Arc<Mesh>) {
    let source = captured.pod.local.borrow().workload.clone();
    match source {
        Some(source) => go(captured, source, mesh),
        None => {
            let mesh = mesh.clone();
            spawn_local("outbound-wait", async move {
                match revoke::known(&captured.pod, &mesh).await.and_then(|local| local.workload.clone()) {
                    Some(source) => go(captured, source, &mesh),
                    None => give_up(captured, &mesh),
                }
            });
        }
    }
}

fn go(captured: Captured, source: Arc<Workload>, mesh: &Arc<Mesh>) {
    let ask = Ask { source: &source, dialled: captured.dialled.get(), tried: &[] };
    let hop = resolve::outbound(&mesh.view.load(), ask, &mut rand::rng());
    let worker = match &hop {
        Ok(Hop::Tunnel(tunnel)) => {
            let key = key(&captured.pod, tunnel);
            match mesh.directory.worker_for(&key) {
                Some(owner) => owner,
                // Its tunnels are full: more of them on the same worker would not be faster.
                None if mesh.directory.lists(&key) => mesh.least_loaded(),
                None => mesh.at_hand(),
            }
        }
        _ => mesh.at_hand(),
    };
    hand_over(mesh, worker, Box::new(Placed { captured, source, hop }), outbound);
}

fn give_up(captured: Captured, mesh: &Arc<Mesh>) {
    let record = Record::captured(Direction::Outbound, &captured);
    record.failed(mesh.report.unowned(), Failed::Unknown.reason(), &Failed::Unknown);
    if let Ok((_, stream, _)) = captured.adopt() {
        socket::abort(stream);
    }
}

/// What streams must share to share a tunnel.
fn key(pod: &Pod, tunnel: &resolve::Tunnel) -> Key {
    Key {
        pod: pod.uid.clone(),
        identity: pod.identity.clone(),
        to: ServerAddr::from(tunnel.server),
        expected: tunnel.expected.clone(),
    }
}

/// One connection's fixed facts while its way is sought.
struct Journey {
    origin: Origin,
    dialled: OriginalDst,
}

/// The life of one outbound connection: it is opened, then carried. Each half is in a box of its own, so that an open
/// connection does not keep the room that opening it took.
fn outbound(placed: Box<Placed>, mesh: Arc<Mesh>, world: Rc<World>) -> impl Future<Output = ()> {
    let opening = Box::pin(open(placed, mesh, world));
    async move {
        if let Some(carrying) = opening.await {
            carrying.await;
        }
    }
}

/// Connects the far side; `None` if that failed, which is reported.
async fn open(placed: Box<Placed>, mesh: Arc<Mesh>, world: Rc<World>) -> Option<Carrying> {
    let Placed { captured, source, hop } = *placed;
    let mut record = Record::captured(Direction::Outbound, &captured);
    record.source(&source);
    let (client, dialled) = (captured.client, captured.dialled);
    let Ok((pod, stream, open)) = captured.adopt() else {
        return None;
    };
    let journey = Journey { origin: Origin { pod, source, client }, dialled };
    let far = tokio::select! {
        far = journey.reach(hop, &mesh, &world, &mut record) => far,
        () = revoke::gone(&journey.origin.pod, &mesh) => Err(Failed::Gone),
    };
    let pod = journey.origin.pod;
    match far {
        Ok(far) => Some(Box::pin(async move {
            let _open = open;
            let counters = record.opened(&world.shard);
            let idle = mesh.settings.data.times.idle;
            let until = revoke::outbound(&pod, &mesh);
            let tally = relay(stream, far, &counters, until, idle).await;
            record.closed(&world.shard, &tally);
        })),
        Err(failed) => {
            record.failed(&world.shard, failed.reason(), &failed);
            socket::abort(stream);
            None
        }
    }
}

impl Journey {
    /// Dials the hop, and another endpoint of the service while the failure permits it.
    async fn reach(
        &self,
        first: Result<Hop, Unresolved>,
        mesh: &Mesh,
        world: &World,
        record: &mut Record,
    ) -> Result<Far, Failed> {
        let mut tried: Vec<Uid> = Vec::new();
        let mut hop = first?;
        loop {
            record.chose(&hop);
            let failed = match dial::dial(&self.origin, &hop, mesh, world).await {
                Ok(far) => return Ok(far),
                Err(failed) => failed,
            };
            let Some(endpoint) = hop.endpoint().filter(|_| failed.retryable()) else {
                return Err(failed.into());
            };
            tried.push(endpoint.clone());
            if tried.len() >= ATTEMPTS {
                return Err(failed.into());
            }
            let ask = Ask { source: &self.origin.source, dialled: self.dialled.get(), tried: &tried };
            // When every endpoint has been tried, the failure of the last one says more than "no endpoint".
            hop = match resolve::outbound(&mesh.view.load(), ask, &mut rand::rng()) {
                Ok(next) => next,
                Err(_) => return Err(failed.into()),
            };
            mesh.report.retried();
        }
    }
}
