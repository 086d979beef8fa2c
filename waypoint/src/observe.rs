//! Policies that decide nothing: what those under trial would have done and what audits mark is counted and logged, where
//! the others are judged.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_api::authz::http::{self, Facts, Judged, Set};
use ambit_api::policy::PolicyKey;
use ambit_api::waypoint::Policy;
use ambit_api::waypoint::decide;
use ambit_api::workload::Uid;
use ambit_discovery::view::Snapshot;
use tracing::info;

use crate::arrive::Arrival;
use crate::judge;
use crate::known::Known;
use crate::message::{Head, Outline};

/// In T, of a request or of a connection of which only the addresses are known.
pub fn target(snapshot: &Arc<Snapshot>, arrival: &Arrival, head: Option<&Head>) {
    if !snapshot.waypoint.observed {
        return;
    }
    let facts = judge::facts(arrival, arrival.dialled, head.map(judge::received));
    let known = Known::of(arrival, snapshot);
    let Ok(dialled) = judge::dialled(&known, arrival) else { return };
    if let Ok(set) = decide::target_set(&snapshot.waypoint, dialled) {
        tell(arrival, &set, &facts, Judged::Target);
    }
}

/// In S of a pod.
pub fn endpoint(
    snapshot: &Snapshot,
    arrival: &Arrival,
    (uid, at): (&Uid, SocketAddr),
    outline: Option<&Outline>,
) {
    if !snapshot.waypoint.observed {
        return;
    }
    let Some(workload) = snapshot.waypoint.workloads.get(uid) else { return };
    let facts = judge::facts(arrival, at, outline.map(judge::sent));
    let set = decide::endpoint_set(&snapshot.waypoint, workload);
    tell(arrival, &set, &facts, Judged::Endpoint(&workload.port_aliases));
}

fn tell<'s, L: Fn(&PolicyKey) -> Option<&'s Policy>>(
    arrival: &Arrival,
    set: &Set<'s, L>,
    facts: &Facts<'_>,
    judged: Judged<'_>,
) {
    let (layer, rare) = (judged.layer(), &arrival.world.report.rare);
    for outcome in http::dry_run(set, facts, judged) {
        rare.tried(&outcome, layer);
        line(arrival, facts, format_args!("dry-run policy"), (&outcome.policy, Some(outcome.matched)));
    }
    for policy in http::audited(set, facts, judged) {
        rare.audited(&policy, layer);
        line(arrival, facts, format_args!("audit policy"), (&policy, None));
    }
}

fn line(
    arrival: &Arrival,
    facts: &Facts<'_>,
    what: std::fmt::Arguments<'_>,
    (policy, matched): (&PolicyKey, Option<bool>),
) {
    info!(
        target: "access",
        client = %arrival.client,
        identity = arrival.identity.as_ref().map(tracing::field::display),
        dialled = %arrival.dialled,
        destination = %facts.destination,
        method = facts.request.map(|request| request.method.as_str()),
        authority = facts.request.map(|request| request.authority),
        path = facts.request.map(|request| request.path),
        %policy,
        matched,
        "{what}",
    );
}
