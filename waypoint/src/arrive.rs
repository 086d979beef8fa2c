//! What reaches us: tunnels with CONNECT requests, and plain connections to a gateway's listeners.
//!
//! accept TLS → CONNECT → what its authority is bound to → [`Arrival`] → HTTP or opaque.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ambit_api::identity::Identity;
use ambit_api::labels::Party;
use ambit_api::service::ServiceKey;
use ambit_api::workload::Uid;
use ambit_discovery::resolve::waypoint::{Behind, Here, NotTaken, Standing};
use ambit_discovery::view::Snapshot;
use ambit_process::overload::Work;
use ambit_process::spawn::spawn_local;
use ambit_transport::addr::ClientAddr;
use ambit_transport::hbone::server::{self, Ask};
use ambit_transport::hbone::{Io, Stream};
use ambit_transport::socket::{self, Listener};
use ambit_transport::tls;
use http::{HeaderMap, Method, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::{debug, error, info};

use crate::known::Known;
use crate::mesh::{Mesh, Opened, World};
use crate::sniff::{self, Declared, Spoken};
use crate::upstream::certificate;
use crate::{opaque, serve};

/// One connection to a destination: a stream of a tunnel, or a plain connection. Its facts do not change.
pub struct Arrival {
    /// Shared by all.
    pub mesh: Arc<Mesh>,
    /// This worker's.
    pub world: Rc<World>,
    /// Who connected; the tunnel's TCP peer.
    pub client: SocketAddr,
    /// Who it proved to be; `None` on plain listeners.
    pub identity: Option<Identity>,
    /// What was dialled.
    pub dialled: SocketAddr,
    /// What that is.
    pub bound: Bound,
    /// What the configuration says of it, the last time it was looked up.
    pub known: RefCell<Option<Rc<Known>>>,
    /// The same for metrics.
    pub source: RefCell<Option<(Arc<Snapshot>, Arc<Party>)>>,
    /// Whether we stand before what was dialled.
    pub standing: watch::Receiver<Standing>,
}

/// What a dialled address means here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// A Service this waypoint stands before.
    Service(ServiceKey),
    /// A pod by its own address.
    Workload(Uid),
    /// A listener of a gateway, by its port.
    Listener(u16),
}

/// Why a CONNECT was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Refused {
    #[error("method {0} instead of CONNECT")]
    Method(Method),
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("memory is short")]
    Overloaded,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Method(_) | Self::NotTaken(NotTaken::Authority(_)) => StatusCode::BAD_REQUEST,
            Self::NotTaken(NotTaken::Elsewhere(_)) => StatusCode::NOT_FOUND,
            Self::NotTaken(NotTaken::Unready) | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A kind of door.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    /// HBONE.
    Tunnels,
    /// Plain HTTP, of this listener.
    Plain(u16),
}

/// Accepts at one door until the process drains; each socket goes, once, to the least loaded worker.
pub async fn accept(listener: std::net::TcpListener, door: Door, mesh: Arc<Mesh>) {
    let listener = match Listener::new(listener) {
        Ok(listener) => listener,
        Err(cause) => {
            error!(%cause, ?door, "cannot register a listener");
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            (stream, client) = listener.accept() => {
                hand_over(stream, client, door, &mesh);
                tokio::task::consume_budget().await;
            }
            // Only once the queue is empty: what the kernel has accepted for us would be reset otherwise.
            () = mesh.drain.signalled() => return,
        }
    }
}

fn hand_over(stream: std::net::TcpStream, client: ClientAddr, door: Door, mesh: &Arc<Mesh>) {
    let work = match door {
        Door::Tunnels => Work::Tunnel,
        Door::Plain(_) => Work::Connection,
    };
    let Some(charge) = mesh.admit(work) else {
        // Dropped, and so closed: overload sheds new work first.
        debug!(%client, "memory is short");
        return;
    };
    let (Some(worker), Some(opened)) = (mesh.workers.least_loaded(), mesh.open.admit(charge)) else {
        mesh.overload.shed(work);
        debug!(%client, "too many open connections");
        return;
    };
    let (busy, mesh) = (worker.busy(), mesh.clone());
    let life = move || async move {
        let _busy = busy;
        let (Some(world), Ok(stream)) = (World::current(), socket::adopt(stream)) else {
            return;
        };
        match door {
            Door::Tunnels => tunnel(stream, client, opened, mesh, world).await,
            Door::Plain(port) => plain(stream, client, (port, opened), mesh, world).await,
        }
    };
    if worker.run(life).is_err() {
        debug!(%client, "a worker has no room for another connection");
    }
}

/// The life of one tunnel; each of its streams has a life of its own.
async fn tunnel(stream: TcpStream, client: ClientAddr, opened: Opened, mesh: Arc<Mesh>, world: Rc<World>) {
    let within = mesh.settings.data.times.connect;
    let accepted = async {
        let held = certificate(&mesh.own).await.map_err(|failed| failed.to_string())?;
        tls::accept(stream, held.server.clone(), within).await.map_err(|failed| failed.to_string())
    };
    let (stream, peer) = match accepted.await {
        Ok(accepted) => accepted,
        Err(cause) => {
            info!(%client, error = cause, "tunnel not accepted");
            return;
        }
    };
    let handler = |ask: Ask| {
        // The stream reports its own end; when the tunnel closes its streams end with it.
        drop(spawn_local("stream", answer(ask, client, mesh.clone(), world.clone())));
    };
    let served = tokio::select! {
        served = server::serve(stream, peer, &mesh.own.hbone, mesh.drain.signalled(), handler) => served,
        () = mesh.drain.forced() => Ok(()),
    };
    if let Err(broken) = served {
        debug!(%client, error = %broken, "tunnel ended");
    }
    drop(opened);
}

/// The life of one stream of a tunnel.
async fn answer(ask: Ask, client: ClientAddr, mesh: Arc<Mesh>, world: Rc<World>) {
    // For as long as the stream lives.
    let charge = mesh.admit(Work::Connection);
    let decided = match charge {
        Some(_) => decide(&ask.method, &ask.authority, &mesh),
        None => Err(Refused::Overloaded),
    };
    let (bound, dialled, declared) = match decided {
        Ok(decided) => decided,
        Err(refused) => {
            info!(%client, peer = %ask.peer.identity, authority = ask.authority, error = %refused, "CONNECT refused");
            ask.respond.refuse(refused.status());
            return;
        }
    };
    let identity = Some(ask.peer.identity.clone());
    let Ok(stream) = ask.respond.accept(HeaderMap::new()) else {
        return;
    };
    let standing = world.footings.follow(&bound, &mesh.view.load());
    let mut held = mesh.relief.hold(client.ip());
    let arrival = Arrival {
        mesh,
        world,
        client: client.get(),
        identity,
        dialled,
        bound,
        known: RefCell::default(),
        source: RefCell::default(),
        standing,
    };
    tokio::select! {
        () = open(stream, declared, Rc::new(arrival)) => {}
        () = held.ended() => debug!(%client, "ended: memory is used up"),
    }
}

/// Finds out what a stream speaks and serves that.
async fn open(stream: Stream, declared: Declared, arrival: Rc<Arrival>) {
    let mut io = Io::new(stream);
    match sniff::stream(&mut io, declared, arrival.mesh.settings.data.times.sniff).await {
        Ok(Spoken::Opaque) => Box::pin(opaque::carry(io, arrival)).await,
        Ok(spoken) => serve::serve(io, spoken, arrival).await,
        Err(cause) => debug!(client = %arrival.client, %cause, "stream ended before it began"),
    }
}

/// The life of one connection to a plain listener.
async fn plain(
    stream: TcpStream,
    client: ClientAddr,
    (port, opened): (u16, Opened),
    mesh: Arc<Mesh>,
    world: Rc<World>,
) {
    let Ok(dialled) = stream.local_addr() else { return };
    let bound = Bound::Listener(port);
    let standing = world.footings.follow(&bound, &mesh.view.load());
    let mut held = mesh.relief.hold(client.ip());
    let arrival = Arrival {
        mesh,
        world,
        client: client.get(),
        identity: None,
        dialled: SocketAddr::new(dialled.ip().to_canonical(), port),
        bound,
        known: RefCell::default(),
        source: RefCell::default(),
        standing,
    };
    let spoken = tokio::select! {
        spoken = sniff::socket(stream) => spoken,
        () = arrival.mesh.drain.signalled() => return,
    };
    if let Ok((io, spoken)) = spoken {
        tokio::select! {
            () = serve::serve(io, spoken, Rc::new(arrival)) => {}
            () = held.ended() => debug!(%client, "ended: memory is used up"),
        }
    }
    drop(opened);
}

/// What a CONNECT asks for, and what its port says about itself.
fn decide(method: &Method, authority: &str, mesh: &Mesh) -> Result<(Bound, SocketAddr, Declared), Refused> {
    if *method != Method::CONNECT {
        return Err(Refused::Method(method.clone()));
    }
    let snapshot = mesh.view.load();
    let pod = mesh.here(&snapshot).ok_or(NotTaken::Unready)?;
    let taken = Here { snapshot: &snapshot, pod: &pod }.take(authority)?;
    let bound = match taken.behind {
        Behind::Service(key) => Bound::Service(key),
        Behind::Workload(uid) => Bound::Workload(uid),
    };
    Ok((bound, taken.dialled, taken.declared.into()))
}
