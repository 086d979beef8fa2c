//! From the calling pod to the far side: captured or not, to a waypoint or straight to a pod.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_api::reason::Reason;
use ambit_api::workload::{NetworkAddress, TunnelProtocol, Workload};
use ambit_discovery::resolve::{Hop, Tunnel, Unresolved};
use ambit_discovery::view::Found;
use http::request::Parts;

use super::pod::{self, Caller};
use super::question::{Question, Unasked};
use super::through;
use super::way::{End, Way};
use crate::failure::Failure;
use crate::mesh::world::World;
use crate::mesh::{hops, target};

/// Who decides where a captured connection goes.
pub(super) const SOURCE: &str = "ztunnel of the caller";

/// What becomes of a request.
pub(super) fn explain(world: &World, question: &Question) -> Result<Way, Unasked> {
    let source = target::source(&world.mesh, &question.from)?;
    let target = target::target(&world.mesh, &source.namespace, &question.to)?;
    let head = if question.tcp { None } else { Some(question.head(&target.authority)?) };
    let journey = Journey { world, source, head: head.as_ref() };
    let ways =
        target.dialled.iter().map(|dialled| (format!("dialled as {dialled}"), journey.leave(*dialled)));
    let unknown = || {
        Unasked::Target(Failure::new(format!("{} stands for no address", question.to), "call something else"))
    };
    match &target.dialled[..] {
        [only] => Ok(journey.leave(*only)),
        _ => Way::fork(ways).ok_or_else(unknown),
    }
}

struct Journey<'a> {
    world: &'a World,
    source: &'a Arc<Workload>,
    head: Option<&'a Parts>,
}

impl Journey<'_> {
    fn leave(&self, dialled: SocketAddr) -> Way {
        let source = self.source;
        if source.tunnel == TunnelProtocol::Plain {
            let says = format!("{} is not in the mesh: plain text to {dialled}", name(source));
            return self.plainly(dialled).after("caller", says);
        }
        let says = match source.identity() {
            Some(identity) => format!("captured; the caller is {identity}"),
            None => "captured".to_owned(),
        };
        let hops = match hops::hops(&self.world.mesh, source, dialled) {
            Ok(hops) => hops,
            Err(unresolved) => return failed(&unresolved).after(SOURCE, says),
        };
        let mut ways: Vec<_> = hops.iter().map(|hop| (whereto(hop), self.go(hop))).collect();
        let way = match ways.len() {
            1 => ways.remove(0).1,
            _ => Way::fork(ways).unwrap_or_else(|| failed(&none(dialled))),
        };
        way.after(SOURCE, says)
    }

    fn go(&self, hop: &Hop) -> Way {
        match hop {
            Hop::Plain(plain) => {
                let way = match &plain.workload {
                    Some(workload) => pod::outside(workload, plain.server),
                    None => {
                        End::Delivered(format!("plain TCP to {}, which is no pod", plain.server)).at(SOURCE)
                    }
                };
                way.after(SOURCE, "the destination is not in the mesh: plain text")
            }
            Hop::Tunnel(tunnel) => self.tunnelled(tunnel),
        }
    }

    fn tunnelled(&self, tunnel: &Tunnel) -> Way {
        let Some(identity) = self.source.identity() else {
            let says = "the caller's names make no identity".to_owned();
            return End::Failed { reason: Reason::NoCertificate, says }.at(SOURCE);
        };
        let caller = Caller::of(self.source, Some(identity), tunnel.authority.ip());
        if tunnel.workload.addresses.contains(&tunnel.authority.ip()) {
            let way = pod::deliver(self.world, &tunnel.workload, &caller, tunnel.authority);
            return way.after(SOURCE, "no waypoint stands before it: mutual TLS to the pod");
        }
        let way = through::waypoint(self.world, tunnel, &caller, self.head);
        way.after(SOURCE, format!("{} is behind a waypoint: mutual TLS to it", tunnel.authority))
    }

    /// From a pod outside the mesh: the cluster's own way to an endpoint.
    fn plainly(&self, dialled: SocketAddr) -> Way {
        let address = NetworkAddress::new(self.source.network.clone(), dialled.ip());
        let caller = Caller::of(self.source, None, dialled.ip());
        let arrive = |workload: &Arc<Workload>, port: u16| {
            let ip = pod::address(workload, dialled.ip());
            ip.map_or_else(
                || nowhere(dialled),
                |ip| pod::deliver(self.world, workload, &caller, SocketAddr::new(ip, port)),
            )
        };
        match self.world.mesh.find(&address, &self.source.namespace) {
            Some(Found::Workload(workload)) => arrive(&workload, dialled.port()),
            Some(Found::Service(entry)) => {
                let chosen = entry.endpoints.ranked_for(self.source, dialled.port());
                let ways: Vec<_> =
                    chosen.map(|(_, one)| (name(one.workload), arrive(one.workload, one.port))).collect();
                Way::fork(ways).unwrap_or_else(|| nowhere(dialled))
            }
            None => End::Delivered(format!("plain TCP to {dialled}, which is no pod")).at("caller"),
        }
    }
}

/// `namespace/name` of a pod.
pub(super) fn name(workload: &Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}

fn whereto(hop: &Hop) -> String {
    hop.workload().map_or_else(|| "elsewhere".to_owned(), |workload| name(workload))
}

fn failed(unresolved: &Unresolved) -> Way {
    End::Failed { reason: unresolved.reason, says: unresolved.detail.clone() }.at(SOURCE)
}

/// The same for a caller outside the mesh, which has no ztunnel.
fn nowhere(dialled: SocketAddr) -> Way {
    let Unresolved { reason, detail } = none(dialled);
    End::Failed { reason, says: detail }.at("caller")
}

fn none(dialled: SocketAddr) -> Unresolved {
    Unresolved { reason: Reason::NoHealthyEndpoint, detail: format!("no ready endpoint for {dialled}") }
}
