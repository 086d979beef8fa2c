//! Which endpoint of a service a new connection goes to. Pure: the endpoints and an rng come in, one goes out.
//!
//! An [`EndpointSet`] is built once per change of its service; choosing from it allocates nothing, and looks at
//! O(log n) endpoints unless the service ranks them by locality or endpoints have been tried already.

use std::sync::Arc;

use rand::Rng;

use crate::service::{BalanceMode, HealthPolicy, LoadBalancing, Scope, Service, ServicePort};
use crate::workload::{Health, PortMapping, Uid, Workload};

#[cfg(test)]
mod tests;

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its port for each port of the service.
    pub ports: Vec<PortMapping>,
}

/// The endpoints of one service that may be chosen, with what choosing needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    endpoints: Vec<Endpoint>,
    /// Entry `i` is the sum of the capacities up to and with endpoint `i`.
    sums: Vec<u64>,
    ports: Vec<ServicePort>,
    balancing: LoadBalancing,
}

/// An endpoint, and the port to dial there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The workload.
    pub workload: &'a Arc<Workload>,
    /// The workload's port.
    pub port: u16,
}

impl Endpoint {
    /// The port behind a port of the service: the endpoint's own mapping, else the service's, else, before a proxy in
    /// the pod that takes every port, the same. `None`: this endpoint does not serve the port.
    fn port(&self, declared: Option<&ServicePort>, asked: u16) -> Option<u16> {
        let own = self.ports.iter().find(|mapping| mapping.service_port == asked);
        own.map(|mapping| mapping.target_port)
            .filter(|port| *port != 0)
            .or_else(|| declared.map(|declared| declared.target_port).filter(|port| *port != 0))
            .or_else(|| self.workload.application_tunnel.map(|_| asked))
    }

    fn weight(&self) -> u64 {
        u64::from(self.workload.capacity)
    }
}

impl EndpointSet {
    /// Keeps those of `workloads` that are endpoints of `service` and may be chosen: ready (unless the service takes
    /// all), with a capacity, and with some way to reach them.
    pub fn new(service: &Service, workloads: impl IntoIterator<Item = Arc<Workload>>) -> Self {
        let endpoints: Vec<_> = workloads
            .into_iter()
            .filter(|workload| usable(workload, service.load_balancing.health))
            .filter_map(|workload| {
                let ports = workload.services.get(&service.key)?.clone();
                Some(Endpoint { workload, ports })
            })
            .collect();
        let mut sum = 0;
        let add = |endpoint: &Endpoint| {
            sum += endpoint.weight();
            sum
        };
        let sums = endpoints.iter().map(add).collect();
        Self { endpoints, sums, ports: service.ports.clone(), balancing: service.load_balancing.clone() }
    }

    /// The endpoints that may be chosen.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Chooses an endpoint for `client`, at random by capacity among those the service prefers for it. Endpoints
    /// in `tried` are left out.
    pub fn choose(
        &self,
        client: &Workload,
        port: u16,
        tried: &[Uid],
        rng: &mut impl Rng,
    ) -> Option<Chosen<'_>> {
        let declared = self.ports.iter().find(|declared| declared.service_port == port);
        let serve = |endpoint: &Endpoint| {
            let port = endpoint.port(declared, port)?;
            (!tried.contains(&endpoint.workload.uid)).then_some(port)
        };
        match self.balancing.mode {
            BalanceMode::Any | BalanceMode::Passthrough => self.any(serve, rng),
            BalanceMode::Strict | BalanceMode::Failover => {
                let rank = |endpoint: &Endpoint| self.rank(client, &endpoint.workload);
                self.ranked(|endpoint| Some((rank(endpoint)?, serve(endpoint)?)), rng)
            }
        }
    }

    /// Every endpoint that may be chosen for `client`, with its rank: the highest comes first, equals share the load.
    /// For balancers that weigh more than capacity.
    pub fn ranked_for(&self, client: &Workload, port: u16) -> impl Iterator<Item = (usize, Chosen<'_>)> {
        let declared = self.ports.iter().find(|declared| declared.service_port == port);
        self.endpoints.iter().filter_map(move |endpoint| {
            let rank = match self.balancing.mode {
                BalanceMode::Any | BalanceMode::Passthrough => 0,
                BalanceMode::Strict | BalanceMode::Failover => self.rank(client, &endpoint.workload)?,
            };
            let port = endpoint.port(declared, port)?;
            Some((rank, Chosen { workload: &endpoint.workload, port }))
        })
    }

    /// One draw from all; only if that endpoint is no good, a second draw from those that are. Each good endpoint's
    /// chance is its share among the good ones either way.
    fn any(&self, serve: impl Fn(&Endpoint) -> Option<u16>, rng: &mut impl Rng) -> Option<Chosen<'_>> {
        let total = *self.sums.last()?;
        let mark = rng.random_range(0..total);
        let endpoint = &self.endpoints[self.sums.partition_point(|sum| *sum <= mark)];
        match serve(endpoint) {
            Some(port) => Some(Chosen { workload: &endpoint.workload, port }),
            None => self.ranked(|endpoint| Some((0, serve(endpoint)?)), rng),
        }
    }

    /// Draws from the endpoints of the highest rank: one pass finds it and its weight, another the endpoint.
    fn ranked(
        &self,
        serve: impl Fn(&Endpoint) -> Option<(usize, u16)>,
        rng: &mut impl Rng,
    ) -> Option<Chosen<'_>> {
        let mut best = None;
        let mut total = 0;
        for endpoint in &self.endpoints {
            let Some((rank, _)) = serve(endpoint) else {
                continue;
            };
            if best.is_none_or(|best| rank > best) {
                best = Some(rank);
                total = 0;
            }
            if best == Some(rank) {
                total += endpoint.weight();
            }
        }
        let best = best?;
        let mut mark = rng.random_range(0..total);
        for endpoint in &self.endpoints {
            let Some((rank, port)) = serve(endpoint) else {
                continue;
            };
            if rank != best {
                continue;
            }
            if mark < endpoint.weight() {
                return Some(Chosen { workload: &endpoint.workload, port });
            }
            mark -= endpoint.weight();
        }
        None
    }

    /// How much of the client's place the endpoint shares; `None` if the service insists on more.
    fn rank(&self, client: &Workload, workload: &Workload) -> Option<usize> {
        let scopes = &self.balancing.scopes[..];
        let leading =
            |scopes: &[Scope]| scopes.iter().take_while(|scope| shares(**scope, client, workload)).count();
        let shared = leading(scopes);
        match (self.balancing.mode, scopes) {
            (BalanceMode::Strict, _) => (shared == scopes.len()).then_some(0),
            // The client's own network comes first whatever else matches; within each, the remaining scopes decide.
            (BalanceMode::Failover, [Scope::Network, _, ..]) if shared > 0 => Some(shared + scopes.len() - 1),
            (BalanceMode::Failover, [Scope::Network, rest @ ..]) if shared == 0 => Some(leading(rest)),
            _ => Some(shared),
        }
    }
}

fn usable(workload: &Workload, health: HealthPolicy) -> bool {
    let ready = health == HealthPolicy::AllowAll || workload.health == Health::Healthy;
    let reachable =
        !workload.addresses.is_empty() || !workload.hostname.is_empty() || workload.network_gateway.is_some();
    ready && reachable && workload.capacity > 0
}

fn shares(scope: Scope, client: &Workload, workload: &Workload) -> bool {
    let (here, there) = (&client.locality, &workload.locality);
    let region = here.region == there.region;
    let zone = region && here.zone == there.zone;
    match scope {
        Scope::Region => region,
        Scope::Zone => zone,
        Scope::Subzone => zone && here.subzone == there.subzone,
        Scope::Node => client.node == workload.node,
        Scope::Cluster => client.cluster == workload.cluster,
        Scope::Network => client.network == workload.network,
    }
}
