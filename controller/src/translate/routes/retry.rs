//! Retries of requests: what a route says, else the mesh, else what Istio does.

use ambit_api::wire::waypoint::Retry;

use super::Context;

/// Conditions where nothing else is said.
const ON: [&str; 5] =
    ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"];

/// Where a route says nothing.
pub(crate) fn default(_ctx: &Context<'_>) -> Retry {
    Retry {
        attempts: 2,
        on: ON.map(str::to_owned).to_vec(),
        statuses: vec![503],
        avoid_tried: true,
        ..Retry::default()
    }
}
