//! Connections arriving in plain text at a pod of the mesh: authorize without an identity → dial → relay → report.

use std::rc::Rc;
use std::sync::Arc;

use ambit_api::authz::{self, Attributes, Denied, Permit};
use ambit_api::reason::Reason;
use ambit_discovery::resolve::PROXY_PORTS;
use ambit_transport::addr::{ClientAddr, OriginalDst};
use ambit_transport::relay::{Far, relay};
use ambit_transport::socket::{self, DialError, SourcePort};
use tokio::net::TcpStream;

use crate::application;
use crate::capture::{Captured, Carrying};
use crate::mesh::{Mesh, World};
use crate::pods::Pod;
use crate::report::{Direction, Record};
use crate::revoke;

/// Why a plaintext connection was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("port {0} may not be reached through the proxy")]
    Illegal(u16),
    #[error("this pod's configuration has not arrived")]
    Unknown,
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("the pod is gone")]
    Gone,
}

impl Refused {
    fn reason(&self) -> Reason {
        match self {
            Self::Illegal(_) => Reason::IllegalDestination,
            Self::Unknown => Reason::WorkloadUnknown,
            Self::Denied(denied) => denied.reason,
            Self::Dial(failed) => failed.reason(),
            Self::Gone => Reason::PodGone,
        }
    }
}

/// The life of one plaintext connection: opened, then carried, as outbound ones are.
pub fn plaintext(captured: Captured, mesh: Arc<Mesh>, world: Rc<World>) -> impl Future<Output = ()> {
    let opening = Box::pin(open(captured, mesh, world));
    async move {
        if let Some(carrying) = opening.await {
            carrying.await;
        }
    }
}

/// Decides and connects the application; `None` if it was refused, which is reported.
async fn open(captured: Captured, mesh: Arc<Mesh>, world: Rc<World>) -> Option<Carrying> {
    let mut record = Record::captured(Direction::Inbound, &captured);
    let (client, dialled) = (captured.client, captured.dialled);
    let Ok((pod, near, open)) = captured.adopt() else {
        return None;
    };
    let admitted = tokio::select! {
        admitted = admit(&pod, client, dialled, &mesh, &mut record) => admitted,
        () = revoke::gone(&pod, &mesh) => Err(Refused::Gone),
    };
    match admitted {
        Ok((permit, application)) => Some(Box::pin(async move {
            let _open = open;
            let counters = record.opened(&world.shard);
            let idle = mesh.settings.data.times.idle;
            let until = revoke::inbound(&pod, &mesh, &permit);
            let tally = relay(near, Far::Tcp(application), &counters, until, idle).await;
            record.closed(&world.shard, &tally);
        })),
        Err(refused) => {
            record.failed(&world.shard, refused.reason(), &refused);
            socket::abort(near);
            None
        }
    }
}

async fn admit(
    pod: &Pod,
    client: ClientAddr,
    dialled: OriginalDst,
    mesh: &Mesh,
    record: &mut Record,
) -> Result<(Permit, TcpStream), Refused> {
    if PROXY_PORTS.contains(&dialled.port()) {
        return Err(Refused::Illegal(dialled.port()));
    }
    let known = revoke::known(pod, mesh).await.ok_or(Refused::Unknown)?;
    if let Some(workload) = &known.workload {
        record.destination(workload);
    }
    record.peer_workload(&mesh.view.load(), client);
    let attributes = Attributes { peer: None, source: client.ip(), destination: dialled.get() };
    record.dry_run(&mesh.report, &known.policies, &attributes);
    let permit = authz::decide(&known.policies, &attributes)?;
    let application = application::dial(pod, client, (dialled.get(), SourcePort::Apart), mesh).await?;
    Ok((permit, application))
}
