//! Which endpoint an attempt goes to, and what the attempt's end says about it.
//!
//! A [`Balancer`] is one worker's view of one cluster under one snapshot: who may be chosen, in order of preference. It
//! is cheap to build and thrown away when the snapshot changes. What must outlive it and hold for all workers together
//! (open requests, ejections, limits) lives in the [`Cluster`] behind it.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::sync::Arc;

use ambit_api::select::{Chosen, EndpointSet};
use ambit_api::waypoint::{LoadBalancer, TrafficPolicy};
use ambit_api::workload::{Uid, Workload};
use rand::Rng;
use tokio::time::Instant;

pub mod cluster;
#[cfg(test)]
mod tests;

use crate::outlier::{self, Ejection, Outcome};
use cluster::{Cluster, Host, Load};

/// One turn of an endpoint of weight 1; heavier ones have shorter turns.
const TURN: u64 = 1 << 24;

/// One worker's way to choose among the endpoints of a cluster.
#[derive(Debug)]
pub struct Balancer {
    cluster: Arc<Cluster>,
    policy: Arc<TrafficPolicy>,
    /// The nearest endpoints first; one tier unless the service ranks them by locality.
    tiers: Vec<Tier>,
}

/// An endpoint that was chosen. It counts as busy there until this is dropped.
#[derive(Debug)]
pub struct Pick {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its port.
    pub port: u16,
    load: Load,
}

/// Endpoints between which only load decides.
#[derive(Debug)]
struct Tier {
    candidates: Vec<Candidate>,
    /// Entry `i` is the sum of the weights up to and with candidate `i`.
    sums: Vec<u64>,
    turns: RefCell<Turns>,
}

#[derive(Debug)]
struct Candidate {
    workload: Arc<Workload>,
    port: u16,
    host: Arc<Host>,
}

/// When it is whose turn, for round robin.
#[derive(Debug)]
struct Turns {
    now: u64,
    due: Vec<u64>,
}

impl Pick {
    /// The endpoint's policies refused the request it was chosen for.
    pub fn refused(&self) {
        self.load.host().refused();
    }
}

impl Balancer {
    /// Prepares to choose among those endpoints that serve the cluster's port and belong to its subset, as seen from
    /// `here`, the proxy itself.
    pub fn new(
        cluster: Arc<Cluster>,
        policy: Arc<TrafficPolicy>,
        endpoints: &EndpointSet,
        here: &Workload,
        member: impl Fn(&Workload) -> bool,
    ) -> Self {
        let mut ranked: Vec<_> = endpoints
            .ranked_for(here, cluster.key().port)
            .filter(|(_, chosen)| member(chosen.workload))
            .collect();
        ranked.sort_by_key(|(rank, _)| Reverse(*rank));
        let tiers = ranked
            .chunk_by(|(one, _), (other, _)| one == other)
            .map(|tier| Tier::new(&cluster, tier))
            .collect();
        Self { cluster, policy, tiers }
    }

    /// Chooses an endpoint: of the nearest that are neither ejected nor in `tried`; if all were tried, one of those
    /// again. `None`: no endpoint is in service.
    pub fn choose(&self, tried: &[Uid], now: Instant, rng: &mut impl Rng) -> Option<Pick> {
        let fresh = |candidate: &Candidate| !tried.contains(&candidate.workload.uid);
        self.among(fresh, now, rng)
            .or_else(|| if tried.is_empty() { None } else { self.among(|_| true, now, rng) })
    }

    /// Takes note of how an attempt ended; an ejection if that was one failure too many.
    pub fn judge(&self, pick: &Pick, outcome: Outcome, now: Instant) -> Option<Ejection> {
        let rules = self.policy.outlier.as_ref()?;
        let host = pick.load.host();
        let cause = host.marks.count(rules, outcome)?;
        let now = self.cluster.moment(now);
        let all =
            || self.tiers.iter().flat_map(|tier| &tier.candidates).map(|candidate| &candidate.host.marks);
        let rest = self.cluster.deciding(|| outlier::eject(&host.marks, all(), rules, now))?;
        Some(Ejection { cause, rest })
    }

    /// The cluster behind it.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The traffic policy in force.
    pub fn policy(&self) -> &Arc<TrafficPolicy> {
        &self.policy
    }

    /// Whether it has any endpoint at all.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    fn among(&self, may: impl Fn(&Candidate) -> bool, now: Instant, rng: &mut impl Rng) -> Option<Pick> {
        let moment = self.cluster.moment(now);
        let panic_below = self.policy.outlier.as_ref().map_or(0, |rules| rules.min_health_percent);
        self.tiers.iter().find_map(|tier| {
            let in_service = |candidate: &Candidate| !candidate.host.marks.is_ejected(moment);
            // Ejections count only while enough endpoints stay; below that all are as good as the others.
            let panic = panic_below > 0 && {
                let serving = tier.candidates.iter().filter(|candidate| in_service(candidate)).count();
                (serving as u64) * 100 < (tier.candidates.len() as u64) * u64::from(panic_below)
            };
            tier.choose(
                self.policy.load_balancer,
                |candidate| may(candidate) && (panic || in_service(candidate)),
                rng,
            )
        })
    }
}

impl Tier {
    fn new(cluster: &Cluster, chosen: &[(usize, Chosen<'_>)]) -> Self {
        let hosts = cluster.hosts(chosen.iter().map(|(_, chosen)| &chosen.workload.uid));
        let candidates: Vec<_> = chosen
            .iter()
            .zip(hosts)
            .map(|((_, chosen), host)| Candidate {
                workload: chosen.workload.clone(),
                port: chosen.port,
                host,
            })
            .collect();
        let add = |sum: &mut u64, candidate: &Candidate| {
            *sum += candidate.weight();
            Some(*sum)
        };
        let sums = candidates.iter().scan(0, add).collect();
        // A random start: workers, and successive snapshots, must not all begin with the first endpoint.
        let mut rng = rand::rng();
        let due = candidates.iter().map(|candidate| rng.random_range(0..candidate.turn())).collect();
        Self { candidates, sums, turns: RefCell::new(Turns { now: 0, due }) }
    }

    fn choose(
        &self,
        how: LoadBalancer,
        may: impl Fn(&Candidate) -> bool,
        rng: &mut impl Rng,
    ) -> Option<Pick> {
        let chosen = match how {
            LoadBalancer::LeastRequest => self.least_loaded_of_two(may, rng),
            LoadBalancer::Random => self.draw(|index| may(&self.candidates[index]), rng),
            LoadBalancer::RoundRobin => self.turns.borrow_mut().next(&self.candidates, may),
        };
        chosen.map(|index| self.candidates[index].pick())
    }

    /// The less busy of two different ones drawn by weight, relative to weight. What an endpoint's policies refuse never
    /// keeps it busy; among such the draw alone decides, or the choice would lean towards those that refuse.
    fn least_loaded_of_two(&self, may: impl Fn(&Candidate) -> bool, rng: &mut impl Rng) -> Option<usize> {
        let first = self.draw(|index| may(&self.candidates[index]), rng)?;
        let Some(second) = self.draw(|index| index != first && may(&self.candidates[index]), rng) else {
            return Some(first);
        };
        let (one, other) = (&self.candidates[first], &self.candidates[second]);
        if one.host.refuses() || other.host.refuses() {
            return Some(first);
        }
        let second_is_freer = one.host.load() * other.weight() > other.host.load() * one.weight();
        Some(if second_is_freer { second } else { first })
    }

    /// One draw from all by weight; only if that one may not be taken, a second draw from those that may. Everybody's
    /// chance is its share among those that may be taken, either way.
    fn draw(&self, may: impl Fn(usize) -> bool, rng: &mut impl Rng) -> Option<usize> {
        let mark = rng.random_range(0..*self.sums.last()?);
        let index = self.sums.partition_point(|sum| *sum <= mark);
        if may(index) {
            return Some(index);
        }
        let weights =
            self.candidates.iter().map(Candidate::weight).enumerate().filter(|(index, _)| may(*index));
        let total: u64 = weights.clone().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut mark = rng.random_range(0..total);
        for (index, weight) in weights {
            if mark < weight {
                return Some(index);
            }
            mark -= weight;
        }
        None
    }
}

impl Turns {
    /// Whoever is due first; one that could not be taken for a while does not make up for what it missed.
    fn next(&mut self, candidates: &[Candidate], may: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let able = candidates.iter().enumerate().filter(|(_, candidate)| may(candidate));
        let (index, _) = able.min_by_key(|(index, _)| self.due[*index].max(self.now))?;
        self.now = self.due[index].max(self.now);
        self.due[index] = self.now + candidates[index].turn();
        Some(index)
    }
}

impl Candidate {
    /// At least 1: endpoints without capacity are in no set.
    fn weight(&self) -> u64 {
        u64::from(self.workload.capacity.max(1))
    }

    fn turn(&self) -> u64 {
        (TURN / self.weight()).max(1)
    }

    fn pick(&self) -> Pick {
        Pick { workload: self.workload.clone(), port: self.port, load: Load::new(self.host.clone()) }
    }
}
