//! Connections arriving in a tunnel: accept TLS → CONNECT → resolve → authorize → dial → relay until revoked → report.

use std::rc::Rc;
use std::sync::Arc;

use ambit_api::authz::{self, Attributes, Denied};
use ambit_api::reason::Reason;
use ambit_discovery::resolve::{self, Unresolved};
use ambit_discovery::view::Local;
use ambit_process::overload::Work;
use ambit_process::spawn::spawn_local;
use ambit_transport::addr::{ClientAddr, OriginalDst};
use ambit_transport::hbone::server::{self, Ask};
use ambit_transport::relay::{Far, relay};
use ambit_transport::socket::{self, DialError, SourcePort};
use ambit_transport::tls::{self, TlsError};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tracing::debug;

use crate::application;
use crate::capture::{Captured, Carrying};
use crate::dial::{self, DialFailed};
use crate::headers;
use crate::limit::Open;
use crate::mesh::{Mesh, World};
use crate::pods::Pod;
use crate::report::{Direction, Record};
use crate::revoke;

/// Where a tunnel arrived and whose it is.
#[derive(Clone)]
struct Arrived {
    pod: Arc<Pod>,
    client: ClientAddr,
    /// The pod's own address and port 15008.
    local: OriginalDst,
}

/// Why an inbound stream was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("method {0} instead of CONNECT")]
    Method(Method),
    #[error("this pod's configuration has not arrived")]
    Unknown,
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("the pod is gone")]
    Gone,
    #[error("too many connections of this pod, or of all pods, are open, or memory is short")]
    Overloaded,
}

/// Why a tunnel was not accepted.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("{0}")]
    Certificate(#[from] DialFailed),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("too many TLS handshakes of this peer, or of all peers, are under way")]
    Overloaded,
}

impl Refused {
    fn reason(&self) -> Reason {
        match self {
            Self::Method(_) => Reason::BadRequest,
            Self::Unknown => Reason::WorkloadUnknown,
            Self::Unresolved(unresolved) => unresolved.reason,
            Self::Denied(denied) => denied.reason,
            Self::Dial(failed) => failed.reason(),
            Self::Gone => Reason::PodGone,
            Self::Overloaded => Reason::Overloaded,
        }
    }
}

impl Rejected {
    fn reason(&self) -> Reason {
        match self {
            Self::Certificate(failed) => failed.reason(),
            Self::Tls(failed) => failed.reason(),
            Self::Overloaded => Reason::Overloaded,
        }
    }
}

/// The life of one tunnel: each of its streams has a life of its own in [`stream`].
pub async fn tunnel(captured: Captured, mesh: Arc<Mesh>, world: Rc<World>) {
    let record = Record::captured(Direction::Inbound, &captured);
    let (client, local) = (captured.client, captured.dialled);
    let Ok((pod, socket, open)) = captured.adopt() else {
        return;
    };
    let arrived = Arrived { pod: pod.clone(), client, local };
    let accepted = tokio::select! {
        accepted = accept(&pod, socket, client, &mesh) => accepted,
        () = revoke::gone(&pod, &mesh) => return,
    };
    let (stream, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(rejected) => {
            record.failed(&world.shard, rejected.reason(), &rejected);
            return;
        }
    };
    let handler = |ask: Ask| {
        let (arrived, mesh, world) = (arrived.clone(), mesh.clone(), world.clone());
        // The life reports its own end; when the tunnel closes its streams end with it.
        drop(spawn_local("inbound-stream", stream_life(ask, arrived, mesh, world)));
    };
    let served = tokio::select! {
        served = server::serve(stream, peer, &mesh.hbone, revoke::leaving(&pod, &mesh), handler) => served,
        () = revoke::gone(&pod, &mesh) => Ok(()),
    };
    if let Err(broken) = served {
        debug!(%pod, %client, error = %broken, "tunnel ended");
    }
    drop(open);
}

async fn accept(
    pod: &Pod,
    socket: tokio::net::TcpStream,
    client: ClientAddr,
    mesh: &Mesh,
) -> Result<(tls::TlsStream, tls::Peer), Rejected> {
    let Some(_under_way) = mesh.handshakes.begin(client.ip()) else {
        mesh.overload.shed(Work::Tunnel);
        socket::abort(socket);
        return Err(Rejected::Overloaded);
    };
    let held = dial::certificate(pod, mesh).await?;
    Ok(tls::accept(socket, held.server.clone(), mesh.settings.data.times.connect).await?)
}

/// The life of one stream: it is opened, then carried, each half in a box of its own as for outbound connections.
fn stream_life(ask: Ask, arrived: Arrived, mesh: Arc<Mesh>, world: Rc<World>) -> impl Future<Output = ()> {
    let opening = Box::pin(open(ask, arrived, mesh, world));
    async move {
        if let Some(carrying) = opening.await {
            carrying.await;
        }
    }
}

/// Answers one stream; `None` if it was refused, which is reported.
async fn open(ask: Ask, arrived: Arrived, mesh: Arc<Mesh>, world: Rc<World>) -> Option<Carrying> {
    let mut record = Record::inbound(&arrived.pod, arrived.client, arrived.local, &ask.peer.identity);
    // A tunnel may carry a thousand streams: each counts like a connection of its own.
    let open = Open::admit(&mesh, &arrived.pod, Work::Connection);
    if open.is_none() {
        mesh.overload.shed(Work::Connection);
    }
    let admitted = tokio::select! {
        biased;
        () = std::future::ready(()), if open.is_none() => Err(Refused::Overloaded),
        admitted = admit(&ask, &arrived, &mesh, &mut record) => admitted,
        () = revoke::gone(&arrived.pod, &mesh) => Err(Refused::Gone),
    };
    let (permit, workload, socket) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            let reason = refused.reason();
            record.failed(&world.shard, reason, &refused);
            let status = StatusCode::from_u16(reason.connect_status());
            ask.respond.refuse(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
            return None;
        }
    };
    let stream = match ask.respond.accept(answer(&workload)) {
        Ok(stream) => stream,
        Err(broken) => {
            record.failed(&world.shard, Reason::Reset, &broken);
            socket::abort(socket);
            return None;
        }
    };
    let pod = arrived.pod;
    Some(Box::pin(async move {
        let _open = open;
        let counters = record.opened(&world.shard);
        let idle = mesh.settings.data.times.idle;
        let until = revoke::inbound(&pod, &mesh, &permit);
        let tally = relay(socket, Far::Hbone(stream), &counters, until, idle).await;
        record.closed(&world.shard, &tally);
    }))
}

/// Decides about one stream and connects the application.
async fn admit(
    ask: &Ask,
    arrived: &Arrived,
    mesh: &Mesh,
    record: &mut Record,
) -> Result<(authz::Permit, Arc<ambit_api::workload::Workload>, tokio::net::TcpStream), Refused> {
    let Arrived { pod, client, local } = arrived;
    if ask.method != Method::CONNECT {
        return Err(Refused::Method(ask.method.clone()));
    }
    let known: Arc<Local> = revoke::known(pod, mesh).await.ok_or(Refused::Unknown)?;
    let workload = known.workload.clone().ok_or(Refused::Unknown)?;
    record.destination(&workload);
    record.peer_workload(&mesh.view.load(), *client);
    let target = resolve::inbound(&mesh.view.load(), &workload, local.ip(), &ask.authority)?;
    record.target(target.application);
    let attributes = Attributes {
        peer: Some(ask.peer.identity.clone()),
        source: client.ip(),
        destination: target.application,
    };
    record.dry_run(&mesh.report, &known.policies, &attributes);
    let permit = authz::decide(&known.policies, &attributes)?;
    let socket = application::dial(pod, *client, (target.application, SourcePort::Kernel), mesh).await?;
    Ok((permit, workload, socket))
}

/// The headers of our 200: who answered (l4-protocols §2.3).
fn answer(workload: &ambit_api::workload::Workload) -> HeaderMap {
    let mut answer = HeaderMap::with_capacity(1);
    if let Ok(value) = HeaderValue::from_str(&headers::baggage(workload)) {
        answer.insert("baggage", value);
    }
    answer
}
