//! Where a captured connection may go: every choice of the ztunnel's own resolution, chance left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ambit_api::service::BalanceMode;
use ambit_api::workload::{NetworkAddress, Uid, Workload};
use ambit_discovery::resolve::{Ask, Hop, Unresolved, outbound};
use ambit_discovery::view::{Found, ServiceEntry, Snapshot};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Draws among waypoints that share a Service by weight: enough that a share of one in a hundred is not missed.
const DRAWS: u64 = 4096;

/// Every way the ztunnel of `source` may choose for a connection.
pub(crate) fn hops(mesh: &Snapshot, source: &Workload, dialled: SocketAddr) -> Result<Vec<Hop>, Unresolved> {
    let ask = |tried: &[Uid], seed| {
        let ask = Ask { source, dialled, tried };
        outbound(mesh, ask, &mut SmallRng::seed_from_u64(seed))
    };
    let address = NetworkAddress::new(source.network.clone(), dialled.ip());
    let Some(Found::Service(entry)) = mesh.find(&address, &source.namespace) else {
        return Ok(vec![ask(&[], 0)?]);
    };
    let service = &entry.service;
    if !service.weighted_waypoints.is_empty() {
        let drawn = (0..DRAWS).map(|seed| ask(&[], seed)).collect::<Result<Vec<_>, _>>()?;
        let by_account = drawn.into_iter().map(|hop| (hop.workload().map(|one| account(one)), hop));
        return Ok(by_account.collect::<BTreeMap<_, _>>().into_values().collect());
    }
    if service.waypoint.is_some() || service.load_balancing.mode == BalanceMode::Passthrough {
        return Ok(vec![ask(&[], 0)?]);
    }
    let (best, others) = best(&entry, source, dialled.port());
    if best.is_empty() {
        return Ok(vec![ask(&[], 0)?]);
    }
    let each = best.iter().map(|one| {
        let tried: Vec<Uid> = best.iter().filter(|other| *other != one).chain(&others).cloned().collect();
        ask(&tried, 0)
    });
    each.collect()
}

/// Endpoints that share the load, and those that wait for the former to fail.
fn best(entry: &ServiceEntry, client: &Workload, port: u16) -> (Vec<Uid>, Vec<Uid>) {
    let ranked: Vec<_> = entry.endpoints.ranked_for(client, port).collect();
    let most = ranked.iter().map(|(rank, _)| *rank).max();
    let (best, others): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|(rank, _)| Some(*rank) == most);
    let uids = |list: Vec<(usize, ambit_api::select::Chosen<'_>)>| {
        list.into_iter().map(|(_, chosen)| chosen.workload.uid.clone()).collect()
    };
    (uids(best), uids(others))
}

fn account(workload: &Workload) -> (String, String) {
    (workload.namespace.clone(), workload.service_account.clone())
}
