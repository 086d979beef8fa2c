//! Every way from a pod to an address, leg by leg.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ambit_api::identity::Identity;
use ambit_api::route::{Action, Backend};
use ambit_api::service::ServiceKey;
use ambit_api::workload::{NetworkAddress, TunnelProtocol, Workload};
use ambit_discovery::resolve::waypoint::{Backend as Leads, Behind, Here};
use ambit_discovery::resolve::{Hop, Tunnel};
use ambit_discovery::view::Found;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{Leg, Transport, Verdict};
use crate::mesh::arrive::address;
use crate::mesh::hops;
use crate::mesh::world::World;

/// Waypoints one after another: more are a circle.
const WAYPOINTS: usize = 8;

/// Where a way may end: a pod, and the address its application listens at.
pub(super) type Ending = (Arc<Workload>, SocketAddr);

/// All ways.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) legs: Vec<Leg>,
    pub(super) ends: Vec<Ending>,
    /// The worst leg of each way.
    worst: BTreeSet<Transport>,
}

/// What a route of a waypoint may lead to: a Service, perhaps a subset, perhaps another port.
type Lead = (ServiceKey, Option<Arc<str>>, Option<NonZeroU16>);

struct Walk<'a> {
    world: &'a World,
    walked: Walked,
}

/// Where a leg begins.
#[derive(Clone)]
struct From {
    name: String,
    identity: Option<Identity>,
    /// The worst leg so far.
    worst: Transport,
    waypoints: usize,
}

impl Walked {
    /// What the ways have in common.
    pub(super) fn verdict(&self) -> Verdict {
        let mut worst = self.worst.iter();
        match (worst.next(), worst.next()) {
            (Some(Transport::MutualTls), None) => Verdict::MutualTls,
            (Some(Transport::PlainText), None) => Verdict::PlainText,
            (None | Some(Transport::Refused), None) => Verdict::NoConnection,
            _ => Verdict::Depends,
        }
    }
}

/// Walks every way that a connection of a pod to one of these addresses may take.
pub(super) fn walk(world: &World, source: &Arc<Workload>, dialled: &[SocketAddr]) -> Walked {
    let mut walk = Walk { world, walked: Walked::default() };
    dialled.iter().for_each(|dialled| walk.leave(source, *dialled));
    walk.walked
}

/// `namespace/name` of a pod, or the address of what is none.
fn name(workload: &Workload) -> String {
    match (workload.name.as_str(), workload.addresses.first()) {
        ("", Some(ip)) => ip.to_string(),
        _ => format!("{}/{}", workload.namespace, workload.name),
    }
}

impl Walk<'_> {
    fn leave(&mut self, source: &Arc<Workload>, dialled: SocketAddr) {
        let identity = source.identity();
        let from = From { name: name(source), identity, worst: Transport::MutualTls, waypoints: 0 };
        if source.tunnel == TunnelProtocol::Plain {
            return self.uncaptured(&from, source, dialled);
        }
        match hops::hops(&self.world.mesh, source, dialled) {
            Err(unresolved) => self.refused(&from, &dialled.to_string(), unresolved.detail),
            Ok(hops) => hops.iter().for_each(|hop| self.hop(&from, hop)),
        }
    }

    /// The cluster's own way to an endpoint.
    fn uncaptured(&mut self, from: &From, source: &Arc<Workload>, dialled: SocketAddr) {
        let why = "the caller is not in the mesh";
        let address = NetworkAddress::new(source.network.clone(), dialled.ip());
        match self.world.mesh.find(&address, &source.namespace) {
            None => self.plain(from, &dialled.to_string(), why),
            Some(Found::Workload(workload)) => {
                self.plain(from, &name(&workload), why);
                self.walked.ends.push((workload, dialled));
            }
            Some(Found::Service(entry)) => {
                let chosen: Vec<_> = entry.endpoints.ranked_for(source, dialled.port()).collect();
                if chosen.is_empty() {
                    let says = format!("service {} has no ready endpoint", entry.service.key);
                    self.refused(from, &dialled.to_string(), says);
                }
                for (_, one) in chosen {
                    self.plain(from, &name(one.workload), why);
                    self.end(one.workload, one.port, dialled);
                }
            }
        }
    }

    fn hop(&mut self, from: &From, hop: &Hop) {
        match hop {
            Hop::Plain(plain) => match &plain.workload {
                Some(workload) => {
                    self.plain(from, &name(workload), "the destination is not in the mesh");
                    self.walked.ends.push((workload.clone(), plain.server));
                }
                None => self.plain(from, &plain.server.to_string(), "the destination is no pod of the mesh"),
            },
            Hop::Tunnel(tunnel) if tunnel.workload.addresses.contains(&tunnel.authority.ip()) => {
                self.secured(from, &name(&tunnel.workload), &tunnel.expected);
                self.walked.worst.insert(from.worst);
                self.walked.ends.push((tunnel.workload.clone(), tunnel.authority));
            }
            Hop::Tunnel(tunnel) => self.waypoint(from, tunnel),
        }
    }

    fn waypoint(&mut self, from: &From, tunnel: &Tunnel) {
        let replica = &tunnel.workload;
        let Some(waypoint) = self.world.waypoint(replica) else {
            return self.refused(from, &name(replica), "it is no waypoint that is known here".to_owned());
        };
        let at = format!("waypoint {}", waypoint.gateway);
        self.secured(from, &at, &tunnel.expected);
        let next = From {
            name: at.clone(),
            identity: replica.identity(),
            worst: from.worst,
            waypoints: from.waypoints + 1,
        };
        if next.waypoints > WAYPOINTS {
            return self.refused(&next, &at, "waypoints lead to each other in a circle".to_owned());
        }
        let here = Here { snapshot: &waypoint.knows, pod: replica };
        let taken = match here.take(&tunnel.authority.to_string()) {
            Ok(taken) => taken,
            Err(not) => return self.refused(&next, &tunnel.authority.to_string(), not.to_string()),
        };
        match &taken.behind {
            Behind::Workload(uid) => match here.snapshot.workload(uid) {
                Some(workload) => self.endpoint(&next, workload, taken.dialled.port(), taken.dialled),
                None => {
                    self.refused(&next, &uid.to_string(), "the waypoint does not know that pod".to_owned())
                }
            },
            Behind::Service(key) => {
                for lead in leads(&here, key) {
                    self.backend(&next, &here, &lead, taken.dialled);
                }
            }
        }
    }

    /// What a route leads to.
    fn backend(&mut self, from: &From, here: &Here<'_>, lead: &Lead, dialled: SocketAddr) {
        let (service, subset, port) = lead;
        let to = subset.as_ref().map_or(service.to_string(), |subset| format!("{service} subset {subset}"));
        let port = port.map_or(dialled.port(), NonZeroU16::get);
        match here.backend(service, (subset.as_deref(), port), &mut SmallRng::seed_from_u64(0)) {
            None => self.refused(from, &to, "there is no such service or subset".to_owned()),
            Some(Err(unresolved)) => self.refused(from, &to, unresolved.detail),
            Some(Ok(Leads::Beyond(tunnel))) => self.waypoint(from, &tunnel),
            Some(Ok(Leads::Endpoints(ranked))) => {
                let most = ranked.iter().map(|(rank, _)| *rank).max();
                if most.is_none() {
                    self.refused(from, &to, format!("no ready endpoint for port {port}"));
                }
                for (_, chosen) in ranked.iter().filter(|(rank, _)| Some(*rank) == most) {
                    self.endpoint(from, chosen.workload, chosen.port, dialled);
                }
            }
        }
    }

    /// From a waypoint to a pod.
    fn endpoint(&mut self, from: &From, workload: &Arc<Workload>, port: u16, dialled: SocketAddr) {
        match workload.tunnel {
            TunnelProtocol::Plain => {
                self.plain(from, &name(workload), "the destination is not in the mesh");
            }
            TunnelProtocol::Hbone => {
                let expected: Vec<Identity> = workload.identity().into_iter().collect();
                self.secured(from, &name(workload), &expected);
                self.walked.worst.insert(from.worst);
            }
        }
        self.end(workload, port, dialled);
    }

    fn end(&mut self, workload: &Arc<Workload>, port: u16, dialled: SocketAddr) {
        if let Some(ip) = address(workload, dialled.ip()) {
            self.walked.ends.push((workload.clone(), SocketAddr::new(ip, port)));
        }
    }

    fn secured(&mut self, from: &From, to: &str, expected: &[Identity]) {
        self.leg(Leg {
            from: from.name.clone(),
            to: vec![to.to_owned()],
            transport: Transport::MutualTls,
            client_identity: from.identity.as_ref().map(|one| one.uri().to_owned()),
            server_identities: expected.iter().map(|one| one.uri().to_owned()).collect(),
            because: None,
        });
    }

    fn plain(&mut self, from: &From, to: &str, why: &str) {
        self.unsecured(from, to, Transport::PlainText, why.to_owned());
    }

    fn refused(&mut self, from: &From, to: &str, why: String) {
        self.unsecured(from, to, Transport::Refused, why);
    }

    fn unsecured(&mut self, from: &From, to: &str, transport: Transport, why: String) {
        self.walked.worst.insert(from.worst.max(transport));
        self.leg(Leg {
            from: from.name.clone(),
            to: vec![to.to_owned()],
            transport,
            client_identity: None,
            server_identities: Vec::new(),
            because: Some(why),
        });
    }

    /// Legs that differ only in where they lead are told as one.
    fn leg(&mut self, mut leg: Leg) {
        let alike = |known: &&mut Leg| {
            (&known.from, known.transport, &known.client_identity, &known.server_identities, &known.because)
                == (&leg.from, leg.transport, &leg.client_identity, &leg.server_identities, &leg.because)
        };
        match self.walked.legs.iter_mut().find(alike) {
            Some(known) => {
                leg.to.retain(|to| !known.to.contains(to));
                known.to.append(&mut leg.to);
                known.to.sort();
            }
            None => self.walked.legs.push(leg),
        }
    }
}

/// Where the routes of a Service lead at a waypoint.
fn leads(here: &Here<'_>, service: &ServiceKey) -> Vec<Lead> {
    let Some(known) = here.snapshot.waypoint.services.get(service) else { return Vec::new() };
    let http = known.http.rules.iter().filter_map(|rule| match &rule.action {
        Action::Forward(forward) => Some(&forward.backends),
        Action::Redirect(_) | Action::Respond(_) => None,
    });
    let tcp = known.tcp.rules.iter().map(|rule| &rule.forward.backends);
    let used = |backend: &&Backend| backend.weight > 0 && backend.broken.is_none();
    let mut leads: Vec<Lead> = Vec::new();
    for backend in http.chain(tcp).flatten().filter(used) {
        let lead = (backend.service.clone(), backend.subset.clone(), backend.port);
        if !leads.contains(&lead) {
            leads.push(lead);
        }
    }
    leads
}
