//! The plain listeners of a gateway: opened when the configuration names them, closed when it no longer does.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ambit_process::spawn::spawn;
use ambit_transport::socket::{ListenOptions, Netns, listen_any};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::arrive::{self, Door};
use crate::mesh::Mesh;

/// Opens and closes until the process drains, which ends the accept loops by itself.
pub async fn follow(mesh: Arc<Mesh>, netns: Netns) {
    let mut open: HashMap<u16, JoinHandle<()>> = HashMap::new();
    let mut changed = mesh.view.changes();
    loop {
        let wanted = wanted(&mesh);
        open.retain(|port, accepting| {
            let keep = wanted.contains(port);
            if !keep {
                info!(port, "listener closed");
                accepting.abort();
            }
            keep
        });
        for port in wanted {
            if !open.contains_key(&port)
                && let Some(accepting) = start(port, &mesh, &netns)
            {
                open.insert(port, accepting);
            }
        }
        tokio::select! {
            next = changed.changed() => if next.is_err() { return },
            () = mesh.drain.signalled() => return,
        }
    }
}

fn wanted(mesh: &Mesh) -> Vec<u16> {
    let snapshot = mesh.view.load();
    let gateway = snapshot.waypoint.gateway.as_ref();
    gateway.into_iter().flat_map(|gateway| &gateway.listeners).map(|listener| listener.port).collect()
}

fn start(port: u16, mesh: &Arc<Mesh>, netns: &Netns) -> Option<JoinHandle<()>> {
    match listen_any(netns, port, &ListenOptions::default()) {
        Ok(listener) => {
            let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
            info!(%address, "listener open");
            Some(spawn("listener", arrive::accept(listener, Door::Plain(port), mesh.clone())))
        }
        Err(cause) => {
            // Tried again at the next change of the configuration.
            warn!(port, %cause, "cannot listen");
            None
        }
    }
}
