//! What ends a connection from outside: its pod leaving, the process ending, a policy that forbids it now.

use std::sync::Arc;

use ambit_api::authz::{self, Permit};
use ambit_api::reason::Reason;
use ambit_discovery::view::Local;
use tracing::debug;

use crate::mesh::Mesh;
use crate::pods::{Phase, Pod};

/// The pod's workload and policies, once both have arrived; `None` if they do not in time.
pub async fn known(pod: &Pod, mesh: &Mesh) -> Option<Arc<Local>> {
    let mut local = pod.local.clone();
    let arrived = local.wait_for(|local| local.known && local.workload.is_some());
    let arrived = tokio::time::timeout(mesh.settings.data.times.configuration_wait, arrived).await;
    Some(arrived.ok()?.ok()?.clone())
}

/// Resolves when the pod has reached a phase; never once nobody can change it any more, as when the process drains.
async fn reached(pod: &Pod, arrived: impl FnMut(&Phase) -> bool) {
    let mut phase = pod.phase.clone();
    if phase.wait_for(arrived).await.is_err() {
        std::future::pending().await
    }
}

/// Resolves when the pod's network is gone or the drain deadline has passed.
pub async fn gone(pod: &Pod, mesh: &Mesh) {
    tokio::select! {
        () = reached(pod, |phase| *phase == Phase::Gone) => {}
        () = mesh.drain.forced() => {}
    }
}

/// Resolves when the pod's tunnels must take no more streams.
pub async fn leaving(pod: &Pod, mesh: &Mesh) {
    tokio::select! {
        () = reached(pod, |phase| *phase != Phase::Serving) => {}
        () = mesh.drain.signalled() => {}
    }
}

/// Ends an outbound connection: never by policy, which is the destination's.
pub async fn outbound(pod: &Pod, mesh: &Mesh) -> Reason {
    tokio::select! {
        () = reached(pod, |phase| *phase == Phase::Gone) => Reason::PodGone,
        () = mesh.drain.forced() => Reason::Draining,
        () = relief(pod, mesh) => Reason::Overloaded,
    }
}

/// Resolves when memory is used up and this pod's connections are those that go.
async fn relief(pod: &Pod, mesh: &Mesh) {
    // What was sent before this connection is not meant for it.
    let mut relief = mesh.relief.subscribe();
    while relief.changed().await.is_ok() {
        if relief.borrow_and_update().as_deref() == Some(&*pod.uid) {
            return;
        }
    }
    std::future::pending().await
}

/// Ends an inbound connection that the pod's policies forbid now, judged by what it was admitted with.
pub async fn inbound(pod: &Pod, mesh: &Mesh, permit: &Permit) -> Reason {
    tokio::select! {
        reason = outbound(pod, mesh) => reason,
        reason = forbidden(pod, permit) => reason,
    }
}

async fn forbidden(pod: &Pod, permit: &Permit) -> Reason {
    let mut local = pod.local.clone();
    // The set may have changed between the admission and this subscription.
    local.mark_changed();
    loop {
        if local.changed().await.is_err() {
            // Nobody will ever send again: the pod is being forgotten, which ends the connection by its phase.
            return std::future::pending().await;
        }
        let local = local.borrow_and_update().clone();
        // A workload that vanished from the configuration is deleted or replaced; its phase says which.
        if local.workload.is_none() {
            continue;
        }
        if let Err(denied) = authz::recheck(&local.policies, permit.attributes()) {
            debug!(%pod, denied = denied.explain(), "policy change cuts a connection");
            return Reason::PolicyChanged;
        }
    }
}
