//! Arrival at a pod, as a part of the way.

use std::net::SocketAddr;

use ambit_api::policy::PolicyKey;
use ambit_api::workload::Workload;

use super::way::{End, Way};
use crate::mesh::arrive::{Arrival, judge};
use crate::mesh::world::World;

pub(super) use crate::mesh::arrive::{Caller, address};

/// Who judges what arrives.
pub(super) const DESTINATION: &str = "ztunnel of the pod";

/// What becomes of a connection to a pod's application.
pub(super) fn deliver(world: &World, workload: &Workload, caller: &Caller, application: SocketAddr) -> Way {
    match judge(world, workload, caller, application) {
        Arrival::Unjudged => outside(workload, application),
        Arrival::Allowed(permit) => End::Delivered("the pod".to_owned())
            .at(DESTINATION)
            .after(DESTINATION, format!("connection allowed {}", by(permit.by()))),
        Arrival::Denied(denied) => End::Denied(denied).at(DESTINATION),
        Arrival::Failed(reason, says) => End::Failed { reason, says }.at(DESTINATION),
    }
}

/// A pod that is not in the mesh: whatever is sent to it arrives.
pub(super) fn outside(workload: &Workload, application: SocketAddr) -> Way {
    let says =
        format!("port {} of the pod, which is not in the mesh: nobody judges there", application.port());
    let at = if workload.name.is_empty() { "endpoint" } else { "pod" };
    End::Delivered(says).at(at)
}

/// Which policy let something pass.
pub(super) fn by(policy: Option<&PolicyKey>) -> String {
    policy.map_or_else(|| "(no ALLOW policy applies)".to_owned(), |policy| format!("by {policy}"))
}
