//! What a mesh adds to one order of the sample shop, which is 47 calls: the same pods on the same nodes without a mesh,
//! with ztunnels, and with a waypoint before every call as well.
//!
//! Checkout and customer run on one node, everything they call on the other, so that every call crosses the wire.

use std::net::SocketAddr;
use std::time::Duration;

use super::proxies::Proxies;
use super::row::Figure;
use crate::address::NodeNumber;
use crate::component::{Component, Programs};
use crate::error::LabError;
use crate::lab::pods::PodHandle;
use crate::lab::{Lab, LabOptions, MeshMode};
use crate::load::Load;

/// Calls that one order makes.
pub const CALLS: usize = 47;

/// What an order's answer says when all of them went well.
const GOOD: &str = "\"good\": 47";

/// The shop's own manifests, as far as an order needs them.
const CATALOG: &str = include_str!("../../../deploy/samples/shop/3-catalog.yaml");
const ORDERS: &str = include_str!("../../../deploy/samples/shop/4-orders.yaml");

/// Longest time for one order, and for the first one.
const PATIENCE: Duration = Duration::from_secs(60);

/// What carries the calls.
#[derive(Clone, Debug)]
pub enum Way {
    /// The pods' own sockets.
    NoMesh,
    /// Mutual TLS between the nodes' ztunnels.
    Ztunnels(Programs),
    /// The same, and a waypoint before every call.
    Waypoint(Programs),
}

/// A lab with the part of the shop that makes orders.
pub struct Till {
    lab: Lab,
    customer: PodHandle,
    checkout: SocketAddr,
    proxies: Proxies,
}

/// Orders of one measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orders {
    /// Orders that were answered, all of them well.
    pub count: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// Latency of an order, half of them below it.
    pub median: Duration,
    /// Latency of an order, 99 of 100 below it.
    pub slowest: Duration,
    /// CPU seconds of all proxies.
    pub cpu: f64,
}

/// What a mesh adds to an order, in one short run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Added {
    /// Median without a mesh, over all rounds.
    pub without: Duration,
    /// Median with it.
    pub with: Duration,
}

impl Added {
    /// What the mesh adds to the median; none when it was faster with it, as may be on a busy machine.
    pub fn latency(&self) -> Duration {
        self.with.saturating_sub(self.without)
    }
}

impl Way {
    /// Column head.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoMesh => "no mesh",
            Self::Ztunnels(_) => "ztunnels",
            Self::Waypoint(_) => "ztunnels and waypoint",
        }
    }

    /// Whether programs of the mesh have a part in it.
    pub fn has_proxies(&self) -> bool {
        !matches!(self, Self::NoMesh)
    }

    fn mesh(&self) -> MeshMode {
        match self {
            Self::NoMesh => MeshMode::Off,
            Self::Ztunnels(programs) | Self::Waypoint(programs) => MeshMode::On(programs.clone()),
        }
    }
}

/// Brings up the same pods without a mesh and with ztunnels (the lab's own, or those of `programs`), lets `at_once`
/// customers order for `time` in each of `rounds` rounds, taking turns, and compares the medians. Takes about six seconds
/// beside `2 × rounds × time`; the calling process must be inside the lab's namespaces.
pub fn added(programs: Programs, at_once: usize, rounds: usize, time: Duration) -> Result<Added, LabError> {
    let tills = [Till::up(&Way::NoMesh, "short-0")?, Till::up(&Way::Ztunnels(programs), "short-1")?];
    let mut medians = [Vec::new(), Vec::new()];
    for round in 0..rounds.max(1) {
        for turn in [round % 2, (round + 1) % 2] {
            medians[turn].push(tills[turn].order(at_once, time)?.median);
        }
    }
    let [without, with] = medians.map(|mut all| {
        all.sort_unstable();
        all[all.len() / 2]
    });
    Ok(Added { without, with })
}

impl Till {
    /// Brings one up and waits until the first order has gone well.
    pub fn up(way: &Way, suffix: &str) -> Result<Self, LabError> {
        let mut options = LabOptions::inline(manifests(way));
        options.name = format!("{}-till-{suffix}", options.name);
        options.mesh = way.mesh();
        let lab = Lab::up(options)?;
        if let Some(fault) = lab.faults().first() {
            return Err(LabError::Manifest(fault.to_string()));
        }
        let mut proxies = Proxies::default();
        if way.has_proxies() {
            lab.settled()?;
            let ztunnels = [1, 2].map(|node| Component::Ztunnel(NodeNumber(node)));
            proxies.0.extend(ztunnels.into_iter().filter_map(|one| lab.pid(one)));
            proxies.0.extend(lab.waypoints().iter().flat_map(|pod| lab.processes(pod)));
        }
        let customer = lab.pod("shop/customer")?;
        let address = lab.service("shop-orders/checkout")?;
        let address = address.ok_or_else(|| LabError::Unknown("address of checkout".to_owned()))?;
        let till = Self { lab, customer, checkout: (address.v4, 80).into(), proxies };
        let mut last = LabError::Unknown("answer to the first order".to_owned());
        let reached = crate::process::poll(PATIENCE, || till.order_once().map_err(|error| last = error).ok());
        reached.map(|()| till).ok_or(last)
    }

    fn load(&self, at_once: usize) -> Load {
        let mut load = Load::new(self.checkout);
        load.host = "checkout.shop-orders".to_owned();
        (load.width, load.timeout, load.expect) = (at_once, PATIENCE, GOOD.to_owned());
        load
    }

    fn order_once(&self) -> Result<(), LabError> {
        let mut load = self.load(1);
        load.count = 1;
        self.run(load).map(drop)
    }

    /// Lets `at_once` customers order, each again when the last order was answered: a quarter of the time to warm up, and
    /// then `time` that counts.
    ///
    /// # Errors
    /// When one order fails.
    pub fn order(&self, at_once: usize, time: Duration) -> Result<Orders, LabError> {
        let mut warming = self.load(at_once);
        warming.time = time / 4;
        self.run(warming)?;
        let mut load = self.load(at_once);
        load.time = time;
        let before = self.proxies.usage().cpu;
        let outcome = self.run(load)?;
        let [median, _, slowest, ..] = outcome.microseconds;
        let micros = |value: u32| Duration::from_micros(value.into());
        Ok(Orders {
            count: outcome.good,
            seconds: outcome.seconds,
            median: micros(median),
            slowest: micros(slowest),
            cpu: self.proxies.usage().cpu - before,
        })
    }

    fn run(&self, load: Load) -> Result<crate::load::Outcome, LabError> {
        let failed = LabError::system("making orders");
        let outcome = self.lab.in_pod(&self.customer, move || load.run()).map_err(failed)?;
        if outcome.good == 0 || outcome.failures() > 0 {
            let example = outcome.example.unwrap_or_default();
            let failed = format!(
                "orders failed: {:?}, {} went well; the first: {example}",
                outcome.failed, outcome.good
            );
            return Err(LabError::Manifest(failed));
        }
        Ok(outcome)
    }
}

impl Orders {
    /// The figures of a row; what the mesh adds needs the other side's too.
    pub(super) fn figures(&self, has_proxies: bool) -> Vec<(Figure, f64)> {
        let count = self.count.max(1) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let mut figures = vec![
            (Figure::Rate, self.count as f64 / self.seconds),
            (Figure::Median, micros(self.median)),
            (Figure::Slowest, micros(self.slowest)),
        ];
        if has_proxies {
            figures.push((Figure::CpuEach, self.cpu * 1e6 / count));
        }
        figures
    }
}

/// What is the same for everybody.
pub(super) fn conditions(rounds: u32, seconds: f64) -> String {
    format!(
        "One order is {CALLS} calls of HTTP/1.1 on kept connections: the cart, five questions about each of nine things (eight \
         at once), the payment. Equal for all: the same pods, checkout and customer on one node and all others on the second \
         (network namespaces joined by a veth pair), one thread each, and everything, proxies included, on the CPUs of this \
         machine. With ztunnels every call is in mutual TLS between the nodes; with the waypoint every call, and the order \
         itself, also passes one waypoint; no policy, workers as the programs choose them. Customers are closed loops: each \
         orders again when the last order is answered; an order with one failed call ends the bench. {rounds} rounds of \
         {seconds} s after {} s of warming, taking turns; what is added is the median of the differences to no mesh in the \
         same round.",
        seconds / 4.0,
    )
}

/// The shop's pods, pinned to their nodes, and as much mesh as the way has.
fn manifests(way: &Way) -> String {
    let labels = |own: &str| match way {
        Way::NoMesh => String::new(),
        Way::Ztunnels(_) => "istio.io/dataplane-mode: ambient".to_owned(),
        Way::Waypoint(_) => format!("istio.io/dataplane-mode: ambient{own}"),
    };
    let namespace = |name: &str, own: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{}}}}}\n", labels(own))
    };
    let gateway = match way {
        Way::Waypoint(_) => vec![GATEWAY.to_owned()],
        Way::NoMesh | Way::Ztunnels(_) => Vec::new(),
    };
    let waypoint = ", istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: shop-catalog";
    let all = vec![
        namespace("shop", ""),
        namespace("shop-catalog", waypoint),
        namespace("shop-orders", waypoint),
        pinned(CATALOG),
        pinned(ORDERS),
        CUSTOMER.to_owned(),
    ];
    [all, gateway].concat().join("---\n")
}

/// Each Deployment on its node, whatever the mesh.
fn pinned(manifests: &str) -> String {
    let account = "      serviceAccountName: ";
    let lines = manifests.lines().flat_map(|line| {
        let node = match line.strip_prefix(account) {
            Some("checkout") => Some("      nodeName: node-1"),
            Some(_) => Some("      nodeName: node-2"),
            None => None,
        };
        node.into_iter().chain([line])
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

const CUSTOMER: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: customer, namespace: shop, labels: {app: customer}}
spec:
  nodeName: node-1
  containers: [{name: customer, image: curlimages/curl, command: [sleep, infinity]}]
"#;

const GATEWAY: &str = r#"apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop-catalog, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: ambit-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    #[test]
    fn every_way_has_the_same_pods_on_the_same_nodes() {
        let pods = |way: &Way| {
            let (documents, faults) = parse(std::path::Path::new("x"), &manifests(way));
            assert_eq!(faults, []);
            let of_kind =
                |kind: &'static str| documents.iter().filter(move |document| document.key.kind == kind);
            let specs: Vec<_> = of_kind("Deployment").map(|one| one.value["spec"].clone()).collect();
            assert!(specs.iter().all(|spec| spec["template"]["spec"]["nodeName"].is_string()));
            (specs, of_kind("Gateway").count())
        };
        let without = pods(&Way::NoMesh);
        let (with, waypoint) =
            (pods(&Way::Ztunnels(Programs::default())), pods(&Way::Waypoint(Programs::default())));
        assert_eq!(without, with);
        assert_eq!((without.0, 1), waypoint);
    }

    #[test]
    fn an_order_is_as_many_calls_as_is_said() {
        let stages =
            ORDERS.lines().filter_map(|line| line.trim().strip_prefix("- \"--call=")?.strip_suffix('"'));
        let calls = stages.map(|stage| {
            let (times, urls) = stage.split_once('*').unwrap_or(("1", stage));
            times.parse::<usize>().unwrap() * urls.split(',').count()
        });
        assert_eq!(calls.sum::<usize>(), CALLS);
    }
}
