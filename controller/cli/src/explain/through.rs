//! Through a waypoint: route, T, the backends, and S of every endpoint, by the waypoint's own decisions in their order.

use std::net::SocketAddr;

use ambit_api::authz::http::{Facts, HttpFacts};
use ambit_api::identity::Identity;
use ambit_api::normalise;
use ambit_api::reason::Reason;
use ambit_api::route::outline::{Head, Outline};
use ambit_api::route::{self, Abort, Action, Backend, Client, Forward, HttpRule};
use ambit_api::service::AppProtocol;
use ambit_api::waypoint::decide::{self, Dialled, Refused};
use ambit_api::workload::{NetworkAddress, Workload};
use ambit_discovery::resolve::Tunnel;
use ambit_discovery::resolve::waypoint::{Backend as Leads, Behind, Here, Taken, client};
use http::Request;
use http::request::Parts;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::journey::name;
use super::pod::{self, Caller};
use super::way::{End, Way};
use crate::mesh::world::World;

/// Millionths in a percent.
const PERCENT: f64 = 10_000.0;

/// What becomes of a connection at a waypoint, with its request if it is HTTP.
pub(super) fn waypoint(world: &World, tunnel: &Tunnel, caller: &Caller, head: Option<&Parts>) -> Way {
    let replica = &tunnel.workload;
    let Some(waypoint) = world.waypoint(replica) else {
        return End::Unknown(format!("{} is no waypoint that is known here", name(replica))).at("waypoint");
    };
    let at = format!("waypoint {}", waypoint.gateway);
    let Some(identity) = replica.identity() else {
        return End::Unknown("the waypoint's names make no identity".to_owned()).at(at);
    };
    let here = Here { snapshot: &waypoint.knows, pod: replica };
    let taken = match here.take(&tunnel.authority.to_string()) {
        Ok(taken) => taken,
        Err(not) => return End::Failed { reason: not.reason(), says: not.to_string() }.at(at),
    };
    let stop = Stop { world, here, at, identity, taken, caller };
    let opaque = matches!(stop.taken.declared, AppProtocol::Tcp | AppProtocol::Tls);
    match (head, stop.taken.declared) {
        (Some(head), _) if !opaque => stop.request(head),
        (None, AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc) => {
            stop.fails(Reason::BadRequest, "the port is declared to be HTTP".to_owned())
        }
        _ => stop.connection(),
    }
}

/// A connection at a waypoint.
struct Stop<'a> {
    world: &'a World,
    here: Here<'a>,
    at: String,
    identity: Identity,
    taken: Taken,
    caller: &'a Caller,
}

impl Stop<'_> {
    fn fails(&self, reason: Reason, says: String) -> Way {
        End::Failed { reason, says }.at(&self.at)
    }

    fn refused(&self, refused: Refused) -> Way {
        match refused {
            Refused::Denied(denied) => End::Denied(denied).at(&self.at),
            Refused::NoRoute => self.fails(Reason::NoRoute, "no route takes the request".to_owned()),
        }
    }

    fn facts<'f>(&'f self, destination: SocketAddr, request: Option<HttpFacts<'f>>) -> Facts<'f> {
        Facts {
            client: self.caller.identity.as_ref(),
            waypoint: &self.identity,
            source: self.caller.ip,
            remote: None,
            destination,
            request,
        }
    }

    /// Who calls, as routes ask for it.
    fn client(&self) -> Client {
        let at = NetworkAddress::new(self.here.pod.network.clone(), self.caller.ip);
        client(self.here.snapshot, &at, self.caller.identity.as_ref())
    }

    /// What was dialled. The waypoint has taken it, so it knows the service.
    fn dialled(&self) -> Option<Dialled<'_>> {
        let port = self.taken.dialled.port();
        match &self.taken.behind {
            Behind::Service(key) => {
                let service = self.here.snapshot.waypoint.services.get(key)?;
                Some(Dialled::Service { service, port })
            }
            Behind::Workload(_) => Some(Dialled::Pod),
        }
    }

    fn unready(&self) -> Way {
        End::Unknown("the waypoint does not know the service yet".to_owned()).at(&self.at)
    }

    /// A connection of which only the addresses are known (policy.md rule 16).
    fn connection(&self) -> Way {
        let known = &self.here.snapshot.waypoint;
        let Some(dialled) = self.dialled() else { return self.unready() };
        let permit = match decide::target(known, dialled, &self.facts(self.taken.dialled, None)) {
            Ok(permit) => permit,
            Err(denied) => return End::Denied(denied).at(&self.at),
        };
        let way = match dialled {
            Dialled::Pod => self.direct(None),
            Dialled::Service { service, port } => {
                let client = self.client();
                match service.tcp.find(self.taken.dialled.ip(), port, &client) {
                    None => self.fails(Reason::NoRoute, "no route takes the connection".to_owned()),
                    Some(rule) => self
                        .backends(&rule.forward, |backend| self.backend(backend, None))
                        .by_route(&rule.origin)
                        .after(&self.at, format!("route {}", labelled(&rule.origin, &rule.name))),
                }
            }
        };
        way.after(&self.at, format!("T: allowed {}", pod::by(permit.by())))
    }

    fn request(&self, parts: &Parts) -> Way {
        let known = &self.here.snapshot.waypoint;
        let (Some(gateway), Some(dialled)) = (&known.gateway, self.dialled()) else { return self.unready() };
        let head = match receive(parts, gateway.path_normalization) {
            Ok(head) => head,
            Err(says) => return self.fails(Reason::BadRequest, says),
        };
        let judged = HttpFacts {
            method: &head.method,
            authority: &head.authority,
            path: head.target.path(),
            headers: &head.headers,
        };
        let facts = self.facts(self.taken.dialled, Some(judged));
        let Dialled::Service { service, port } = dialled else {
            return match decide::target(known, dialled, &facts) {
                Err(denied) => End::Denied(denied).at(&self.at),
                Ok(permit) => self
                    .direct(head.outline().as_ref())
                    .after(&self.at, format!("T: allowed {}", pod::by(permit.by()))),
            };
        };
        let client = self.client();
        let asked = route::Request {
            method: &head.method,
            scheme: "http",
            authority: &head.authority,
            path: head.target.path(),
            query: head.target.query(),
            headers: &head.headers,
            port,
            client: &client,
        };
        let routed = match decide::request(known, dialled, &service.http, &asked, &facts) {
            Ok(routed) => routed,
            Err(refused) => return self.refused(refused),
        };
        let rule = routed.matched.rule;
        let way = match &rule.action {
            Action::Forward(forward) => self.backends(forward, |backend| {
                let mut outline = head.outline()?;
                outline.follow(rule, backend, &routed.matched).ok()?;
                self.backend(backend, Some(&outline))
            }),
            Action::Redirect(to) => {
                let location = to.location(&asked, routed.matched.prefix);
                End::Answered { status: to.status.as_u16(), says: format!("redirected to {location}") }
                    .at(&self.at)
            }
            Action::Respond(direct) => {
                let says = "answered by the route".to_owned();
                End::Answered { status: direct.status.as_u16(), says }.at(&self.at)
            }
        };
        self.faulted(rule, way)
            .by_route(&rule.origin)
            .after(&self.at, format!("T: allowed {}", pod::by(routed.permit.by())))
            .after(&self.at, format!("route {}{}", labelled(&rule.origin, &rule.name), changes(rule, &head)))
    }

    /// With the faults that a rule puts in.
    fn faulted(&self, rule: &HttpRule, way: Way) -> Way {
        let Some(abort) = rule.fault.and_then(|fault| fault.abort).filter(|abort| abort.share > 0) else {
            return way;
        };
        let status = match abort.answer {
            Abort::Http(status) => status.as_u16(),
            Abort::Grpc(_) => 200,
        };
        let aborted = End::Answered { status, says: "aborted by the route's fault".to_owned() }.at(&self.at);
        let share = f64::from(abort.share) / PERCENT;
        if share >= 100.0 {
            return aborted;
        }
        let ways = [(format!("{share} % aborted"), aborted), (format!("{} % not", 100.0 - share), way)];
        Way::fork(ways).unwrap_or_else(|| self.unready())
    }

    /// Every backend with a weight; `each` gives none where the request cannot be written any more.
    fn backends(&self, forward: &Forward, each: impl Fn(&Backend) -> Option<Way>) -> Way {
        let broken = |says: &str| self.fails(Reason::BackendBroken, says.to_owned());
        if forward.total() == 0 {
            return broken("the route has no backend");
        }
        let weighed = forward.backends.iter().filter(|backend| backend.weight > 0);
        let mut ways: Vec<_> = weighed
            .map(|backend| {
                let way = match &backend.broken {
                    Some(why) => broken(&format!("the backend cannot be used: {}", why.why)),
                    None => {
                        each(backend).unwrap_or_else(|| broken("the rewritten request cannot be written"))
                    }
                };
                let share = f64::from(backend.weight) * 100.0 / forward.total() as f64;
                let subset =
                    backend.subset.as_ref().map(|name| format!(" subset {name}")).unwrap_or_default();
                (format!("{share:.0} % to {}{subset}", backend.service.hostname), way)
            })
            .collect();
        match ways.len() {
            1 => {
                let (to, way) = ways.remove(0);
                way.after(&self.at, to)
            }
            _ => Way::fork(ways).unwrap_or_else(|| broken("the route has no backend")),
        }
    }

    /// One backend. Endpoints for which everything is the same are told together.
    fn backend(&self, backend: &Backend, outline: Option<&Outline>) -> Option<Way> {
        let port = backend.port.map_or(self.taken.dialled.port(), std::num::NonZeroU16::get);
        let asked = (backend.subset.as_deref(), port);
        let way = match self.here.backend(&backend.service, asked, &mut SmallRng::seed_from_u64(0)) {
            None => self.fails(Reason::BackendBroken, "there is no such service or subset".to_owned()),
            Some(Err(unresolved)) => self.fails(unresolved.reason, unresolved.detail),
            Some(Ok(Leads::Beyond(tunnel))) => self.beyond(&tunnel, outline)?,
            Some(Ok(Leads::Endpoints(ranked))) => {
                let most = ranked.iter().map(|(rank, _)| *rank).max();
                let best = ranked.iter().filter(|(rank, _)| Some(*rank) == most);
                let ways = best.map(|(_, chosen)| {
                    let ip = pod::address(chosen.workload, self.taken.dialled.ip());
                    let way = ip
                        .map(|ip| self.endpoint(chosen.workload, SocketAddr::new(ip, chosen.port), outline));
                    (name(chosen.workload), way.unwrap_or_else(|| self.nowhere()))
                });
                Way::fork(ways).unwrap_or_else(|| self.nowhere())
            }
        };
        Some(way)
    }

    fn nowhere(&self) -> Way {
        self.fails(Reason::NoHealthyEndpoint, "no healthy endpoint".to_owned())
    }

    /// The pod that was dialled by its own address.
    fn direct(&self, outline: Option<&Outline>) -> Way {
        let Behind::Workload(uid) = &self.taken.behind else { return self.unready() };
        match self.here.snapshot.workload(uid) {
            Some(workload) => self.endpoint(workload, self.taken.dialled, outline),
            None => self.nowhere(),
        }
    }

    /// S of one pod, and what its ztunnel says of the waypoint as caller.
    fn endpoint(&self, workload: &Workload, at: SocketAddr, outline: Option<&Outline>) -> Way {
        let request = outline.map(|outline| HttpFacts {
            method: &outline.method,
            authority: outline.authority.to_str().unwrap_or_default(),
            path: outline.target.path(),
            headers: &outline.headers,
        });
        let Some(dialled) = self.dialled() else { return self.unready() };
        let known = &self.here.snapshot.waypoint;
        match decide::endpoint(known, dialled, &workload.uid, &self.facts(at, request)) {
            Err(denied) => End::Denied(denied).at(&self.at),
            Ok(permit) => {
                let caller = Caller::of(self.here.pod, Some(self.identity.clone()), at.ip());
                pod::deliver(self.world, workload, &caller, at)
                    .after(&self.at, format!("S: allowed {}", pod::by(permit.by())))
            }
        }
    }

    /// On through the waypoint before the backend, whose client is this one.
    fn beyond(&self, tunnel: &Tunnel, outline: Option<&Outline>) -> Option<Way> {
        let caller = Caller::of(self.here.pod, Some(self.identity.clone()), tunnel.authority.ip());
        let head = match outline {
            None => None,
            Some(outline) => {
                let mut parts = Request::new(()).into_parts().0;
                (parts.method, parts.headers) = (outline.method.clone(), outline.headers.clone());
                parts.uri = outline.target.clone().into();
                parts.headers.insert(http::header::HOST, outline.authority.clone());
                Some(parts)
            }
        };
        let way = waypoint(self.world, tunnel, &caller, head.as_ref());
        Some(way.after(&self.at, "the backend is behind another waypoint"))
    }
}

/// The one form in which a request is matched and judged.
fn receive(parts: &Parts, how: ambit_api::waypoint::PathNormalization) -> Result<Head, String> {
    let normal = normalise::request(parts, how).map_err(|bad| bad.to_string())?;
    let authority = normalise::request_authority(parts).map_err(|bad| bad.to_string())?;
    let target = match normal.query {
        Some(query) => format!("{}?{query}", normal.path),
        None => normal.path.to_string(),
    };
    Ok(Head {
        method: parts.method.clone(),
        authority: authority.as_str().into(),
        target: target.try_into().map_err(|_| "the path cannot be written".to_owned())?,
        headers: parts.headers.clone(),
        version: parts.version,
    })
}

fn labelled(origin: &str, name: &str) -> String {
    match (origin, name) {
        ("", "") => "without a name".to_owned(),
        (origin, "") => origin.to_owned(),
        ("", name) => name.to_owned(),
        (origin, name) => format!("{origin} ({name})"),
    }
}

/// What a route does besides leading on.
fn changes(rule: &HttpRule, head: &Head) -> String {
    let mut says = format!(" takes {} {}", head.method, head.target.path());
    if rule.rewrite.is_some() {
        says.push_str(", rewrites it");
    }
    if let Some(delay) = rule.fault.and_then(|fault| fault.delay).filter(|delay| delay.share > 0) {
        let share = f64::from(delay.share) / PERCENT;
        says.push_str(&format!(", delays {share} % by {:?}", delay.time));
    }
    if !rule.mirrors.is_empty() {
        says.push_str(", mirrors it");
    }
    says
}
