//! Accepts what a pod's redirection rules send us and gives each connection, once, to the worker that will own it.
//!
//! The three accept loops of a pod run on one worker; the sockets they accept belong to no runtime until
//! the owner adopts them.

use std::pin::Pin;
use std::sync::Arc;

use ambit_process::overload::Work;
use ambit_process::spawn::spawn;
use ambit_transport::addr::{ClientAddr, OriginalDst};
use ambit_transport::socket::Listener;
use tokio::net::TcpStream;
use tracing::{error, warn};

use crate::limit::Open;
use crate::mesh::{Mesh, World};
use crate::pods::{Listeners, Pod};
use crate::{inbound, outbound, plaintext, revoke};

/// A connection that was redirected to us and its pod; not yet owned by a worker.
pub struct Captured {
    /// The pod at whose listener it arrived.
    pub pod: Arc<Pod>,
    /// The socket.
    pub stream: std::net::TcpStream,
    /// Who connected.
    pub client: ClientAddr,
    /// What the client dialled.
    pub dialled: OriginalDst,
    /// Its place under the limits.
    pub open: Open,
}

/// The second half of a connection's life: both sides are open and bytes flow.
pub type Carrying = Pin<Box<dyn Future<Output = ()>>>;

/// What a listener's connections are.
#[derive(Clone, Copy)]
enum Direction {
    Outbound,
    Plaintext,
    Tunnels,
}

/// Starts a pod's accept loops on the least loaded worker.
pub fn start(pod: Arc<Pod>, listeners: Listeners, mesh: Arc<Mesh>) {
    let Some(worker) = mesh.workers.least_loaded().cloned() else {
        return;
    };
    spawn("pod-start", async move {
        let busy = worker.busy();
        let accepting = move || async move {
            let _busy = busy;
            let Listeners { outbound, plaintext, tunnels } = listeners;
            tokio::join!(
                accept(outbound, Direction::Outbound, pod.clone(), mesh.clone()),
                accept(plaintext, Direction::Plaintext, pod.clone(), mesh.clone()),
                accept(tunnels, Direction::Tunnels, pod, mesh),
            );
        };
        if worker.run_when_free(accepting).await.is_err() {
            error!("no worker takes a pod's listeners");
        }
    });
}

async fn accept(listener: std::net::TcpListener, direction: Direction, pod: Arc<Pod>, mesh: Arc<Mesh>) {
    let listener = match Listener::new(listener) {
        Ok(listener) => listener,
        Err(cause) => {
            error!(%pod, %cause, "cannot register a listener");
            return;
        }
    };
    let mut ended = std::pin::pin!(revoke::leaving(&pod, &mesh));
    loop {
        tokio::select! {
            biased;
            (stream, client) = listener.accept() => {
                arrive(stream, client, direction, &pod, &mesh);
                // A flood at one listener must not keep its worker from everybody else.
                tokio::task::consume_budget().await;
            }
            // Only once the queue is empty: what the kernel has accepted for us would be reset otherwise.
            () = &mut ended => return,
        }
    }
}

fn arrive(
    stream: std::net::TcpStream,
    client: ClientAddr,
    direction: Direction,
    pod: &Arc<Pod>,
    mesh: &Arc<Mesh>,
) {
    let dialled = match ambit_transport::socket::original_dst(&stream) {
        Ok(dialled) => dialled,
        Err(cause) => {
            warn!(%pod, %client, %cause, "cannot tell what a connection dialled");
            return;
        }
    };
    let work = match direction {
        Direction::Tunnels => Work::Tunnel,
        Direction::Outbound | Direction::Plaintext => Work::Connection,
    };
    let Some(open) = Open::admit(mesh, pod, work) else {
        mesh.overload.shed(work);
        reset(stream);
        return;
    };
    let captured = Captured { pod: pod.clone(), stream, client, dialled, open };
    match direction {
        Direction::Outbound => outbound::place(captured, mesh),
        Direction::Plaintext => place(captured, mesh, plaintext::plaintext),
        Direction::Tunnels => place(captured, mesh, inbound::tunnel),
    }
}

/// Gives an inbound connection to the least loaded worker.
fn place<F>(captured: Captured, mesh: &Arc<Mesh>, life: fn(Captured, Arc<Mesh>, std::rc::Rc<World>) -> F)
where
    F: Future<Output = ()> + 'static,
{
    hand_over(mesh, mesh.least_loaded(), captured, life);
}

/// Runs a connection's life on one worker; sheds it when that worker's queue is full.
pub fn hand_over<T, F>(
    mesh: &Arc<Mesh>,
    worker: usize,
    what: T,
    life: fn(T, Arc<Mesh>, std::rc::Rc<World>) -> F,
) where
    T: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let Some(handle) = mesh.workers.get(worker) else {
        return;
    };
    let shared = mesh.clone();
    let busy = handle.busy();
    let outcome = handle.run(move || async move {
        let _busy = busy;
        if let Some(world) = World::current() {
            life(what, shared, world).await;
        }
    });
    if outcome.is_err() {
        mesh.overload.shed(Work::Connection);
    }
}

impl Captured {
    /// Registers the socket with the current worker.
    pub fn adopt(self) -> std::io::Result<(Arc<Pod>, TcpStream, Open)> {
        Ok((self.pod, ambit_transport::socket::adopt(self.stream)?, self.open))
    }
}

/// Refuses with a reset, so that the client learns at once.
fn reset(stream: std::net::TcpStream) {
    if let Ok(stream) = ambit_transport::socket::adopt(stream) {
        ambit_transport::socket::abort(stream);
    }
}
