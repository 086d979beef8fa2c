//! Ten times the shop's load, and hundreds who send and never take what comes back, under a ceiling on every process's
//! memory: nothing is killed, new work is refused first and said so, what is open goes on, and all comes back without a
//! restart. A ceiling that leaves no room for work is refused at start.
//!
//! The ceiling is a control group's where one can be made, else the setting.

#[path = "overload/cages.rs"]
mod cages;
#[path = "overload/crowd.rs"]
mod crowd;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ambit_lab::component::{Kind, Programs};
use ambit_lab::load::{Connections, Load, Outcome};
use ambit_lab::metrics::Samples;
use ambit_lab::{Component, Lab, LabOptions, Manifests, MeshMode, NodeNumber, PodHandle};
use cages::Cages;
use crowd::Crowd;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/samples/shop");
/// Pages and orders a second that the shop's own visitors ask for, and how many times that comes on top.
const PAGES: f64 = 6.0;
const ORDERS: f64 = 1.0;
const MORE: f64 = 9.0;
/// What each proxy may use: four times what it needs without work.
const CEILING: u64 = 64 << 20;
/// The control plane's processes have no clients to refuse.
const CONTROL: u64 = 128 << 20;
/// Time for which a crowd stands before each proxy: what is let in has taken its memory, and more has come since.
const STAND: Duration = Duration::from_secs(3);
/// Longest time until work is refused, and until all is taken on again.
const SHED: Duration = Duration::from_secs(30);
const CLEAR: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
/// Lets the frontend send to the catalog what shall be sent back.
const LOUD: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: loud, namespace: shop-catalog}
spec:
  targetRefs: [{group: '', kind: Service, name: products}]
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}]
    to: [{operation: {methods: [POST], paths: [/echo]}}]
";

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let trials = vec![
        Trial::test("overload_sheds_new_work_and_kills_nothing", overload),
        Trial::test("a_ceiling_without_room_for_work_is_refused_at_start", too_low),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The proxies of the shop, by name.
type Processes = BTreeMap<String, u32>;

struct Shop {
    lab: Lab,
    waypoint: PodHandle,
}

fn overload() -> Check {
    if ambit_lab::settings::left_out("overload", "ceilings and shedding are ours") {
        return Ok(());
    }
    ambit_process::limits::raise_open_files()?;
    let cages = Cages::find();
    let programs = match &cages {
        Some(cages) => cages.programs(|kind| match kind {
            Kind::Ztunnel | Kind::Waypoint => CEILING,
            _ => CONTROL,
        })?,
        None => {
            println!("no control group can be made here: the ceiling is AMBIT_MEMORY_CEILING");
            let ceiling = CEILING.to_string();
            let programs = Programs::default().set(Kind::Ztunnel, "AMBIT_MEMORY_CEILING", &ceiling);
            programs.set(Kind::Waypoint, "AMBIT_MEMORY_CEILING", &ceiling)
        }
    };
    let shop = Shop::up(programs)?;
    let processes = shop.processes()?;
    let knows = |samples: &Samples| samples.sum("ambit_memory_ceiling_bytes", &[]) == CEILING as f64;
    check(shop.metrics()?.values().all(knows), || "somebody does not know the ceiling".to_owned())?;
    let killed = || cages.as_ref().map_or(0, Cages::killed);
    shop.endures(&processes)?;
    check(killed() == 0, || format!("{} processes were killed", killed()))?;
    shop.has_come_back(&processes)
}

/// Either proxy says what it needs instead of starting and refusing everything.
fn too_low() -> Check {
    for name in ["ztunnel", "waypoint"] {
        let mut program = Command::new(Path::new(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name(name));
        let said = program.env_clear().env("AMBIT_MEMORY_CEILING", "16Mi").output()?;
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let parts = ["16 MiB (AMBIT_MEMORY_CEILING) is too low", "MiB are needed at least", "raise it"];
        check(!said.status.success() && parts.iter().all(|part| text.contains(part)), || {
            format!("{name}: {text}")
        })?;
    }
    Ok(())
}

impl Shop {
    fn up(programs: Programs) -> Result<Self, Failed> {
        let mut options = support::named(LabOptions::inline(String::new()));
        options.manifests = vec![Manifests::Folder(SHOP.into())];
        options.mesh = MeshMode::On(programs);
        let lab = Lab::up(options)?;
        let faults = lab.apply(LOUD)?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        lab.settled()?;
        let waypoint = lab.waypoints().into_iter().next().ok_or("no waypoint")?;
        let shop = Shop { lab, waypoint };
        shop.order("before")?;
        Ok(shop)
    }

    fn processes(&self) -> Result<Processes, Failed> {
        let mut pids = BTreeMap::new();
        for node in [1, 2].map(NodeNumber) {
            let ztunnel = Component::Ztunnel(node);
            pids.insert(ztunnel.to_string(), self.lab.pid(ztunnel).ok_or("a ztunnel has gone")?);
        }
        let waypoint = self.lab.processes(&self.waypoint);
        pids.insert("waypoint".to_owned(), *waypoint.first().ok_or("the waypoint has gone")?);
        Ok(pids)
    }

    fn metrics(&self) -> Result<BTreeMap<String, Samples>, Failed> {
        let mut all = BTreeMap::new();
        for node in [1, 2].map(NodeNumber) {
            let ztunnel = Component::Ztunnel(node);
            all.insert(ztunnel.to_string(), self.lab.metrics(ztunnel)?);
        }
        all.insert("waypoint".to_owned(), self.lab.pod_metrics(&self.waypoint)?);
        Ok(all)
    }

    fn until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&BTreeMap<String, Samples>) -> bool,
    ) -> Check {
        let end = Instant::now() + limit;
        loop {
            let all = self.metrics()?;
            if holds(&all) {
                return Ok(());
            }
            check(Instant::now() < end, || format!("{what}: {}", told(&all)))?;
            std::thread::sleep(PAUSE);
        }
    }

    /// One order, all of whose calls must go well.
    fn order(&self, when: &str) -> Check {
        let visitors = self.lab.pod("shop/visitors")?;
        let said =
            support::output(&self.lab, &visitors, &["curl", "-sS", "-m", "10", "checkout.shop-orders"])?;
        check(said.contains("\"made\": 47") && said.contains("\"good\": 47"), || format!("{when}: {said}"))
    }

    fn load(&self, service: &str, path: &str, rate: f64) -> Result<Load, Failed> {
        let address = self.lab.service(service)?.ok_or_else(|| format!("{service} has no address"))?;
        let mut load = Load::new((address.v4, 80).into());
        (load.path, load.rate, load.width) = (path.to_owned(), Some(rate), 16);
        (load.time, load.connections) = (SHED + CLEAR, Connections::Replaced);
        Ok(load)
    }

    /// The load and the crowd, until every proxy has refused something and for a while after; nobody passes the ceiling.
    fn endures(&self, processes: &Processes) -> Check {
        let (visitors, frontend) = (self.lab.pod("shop/visitors")?, self.lab.pod("shop/frontend")?);
        let begin = |from: &PodHandle, load: Load| {
            let live = load.live.clone();
            (live, self.lab.thread_in(from, move || load.run()))
        };
        let pages = begin(&visitors, self.load("shop/frontend", "/product", PAGES * MORE)?);
        let orders = begin(&visitors, self.load("shop/frontend", "/checkout", ORDERS * MORE)?);
        // A connection from before, which nothing may disturb.
        let mut steady = self.load("shop-orders/pricing", "/", 20.0)?;
        (steady.width, steady.connections, steady.timeout) = (1, Connections::Kept, SHED);
        let steady = begin(&self.lab.pod("shop-orders/cart")?, steady);
        while steady.0.good() < 5 {
            check(steady.0.failed() == 0, || format!("{:?}", steady.0.failures()))?;
            std::thread::sleep(PAUSE);
        }
        let mut most: BTreeMap<&str, u64> = BTreeMap::new();
        let mut crowds = Vec::new();
        // A proxy that refuses protects those behind it, so each is overloaded by a crowd of its own: a ztunnel by clients and
        // a server of its node.
        let stages = [
            (frontend, "shop-catalog/products", "waypoint"),
            self.neighbours(NodeNumber(1), "ztunnel/node-1")?,
            self.neighbours(NodeNumber(2), "ztunnel/node-2")?,
        ];
        for (from, service, refuses) in stages {
            let address = self.lab.service(service)?.ok_or("no address")?;
            crowds.push(Crowd::gather(&self.lab, &from, (address.v4, 80).into()));
            let since = Instant::now();
            self.until(&format!("{refuses} refuses new work"), SHED, |all| {
                for (name, pid) in processes {
                    let now = resident(*pid).unwrap_or(0);
                    most.entry(name).and_modify(|most| *most = now.max(*most)).or_insert(now);
                }
                all[refuses].sum("ambit_connections_shed_total", &[]) > 0.0 && since.elapsed() > STAND
            })?;
        }
        let shed = told(&self.metrics()?);
        let (held, refused) =
            crowds.into_iter().map(Crowd::leave).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        check(refused > 0, || format!("nobody of {held} was refused"))?;
        println!("{held} connections held, {refused} refused; {shed}");
        for (name, most) in most {
            println!("{name}: at most {} KiB of {} KiB", most >> 10, CEILING >> 10);
            check(most <= CEILING, || {
                let log = name
                    .parse()
                    .map_or_else(|_waypoint| self.lab.pod_logs(&self.waypoint), |one| self.lab.logs(one));
                let lines: Vec<_> = log.lines().filter(|line| line.contains("process::overload")).collect();
                format!("{name} used {most} of {CEILING} bytes\n{}", lines.join("\n"))
            })?;
        }
        let [_, _, steady] = [pages, orders, steady].map(|(live, thread)| -> std::io::Result<Outcome> {
            live.stop();
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let steady = steady?;
        check(steady.failures() == 0, || format!("an open connection was disturbed: {steady:?}"))?;
        self.said_so()
    }

    /// A client and a service whose only server is on the same node, and that node's ztunnel.
    fn neighbours<'a>(
        &self,
        node: NodeNumber,
        ztunnel: &'a str,
    ) -> Result<(PodHandle, &'a str, &'a str), Failed> {
        let client = self.lab.pods("shop-orders/stock").into_iter().find(|pod| pod.node == node);
        let services = ["shop/frontend", "shop-orders/checkout", "shop-orders/cart", "shop-orders/pricing"];
        let near = |service: &&str| self.lab.pod(service).is_ok_and(|pod| pod.node == node);
        let service = services.into_iter().find(near);
        Ok((client.ok_or("no client on a node")?, service.ok_or("no server on a node")?, ztunnel))
    }

    /// The logs of all proxies say what was refused and why.
    fn said_so(&self) -> Check {
        let ztunnel = |node| self.lab.logs(Component::Ztunnel(NodeNumber(node)));
        let logs: [&dyn Fn() -> String; 3] =
            [&|| ztunnel(1), &|| ztunnel(2), &|| self.lab.pod_logs(&self.waypoint)];
        for log in logs {
            let says = |log: &str| {
                ["memory is short", "memory is nearly used up"].iter().any(|line| log.contains(line))
                    && log.contains("overloaded: new work was refused")
            };
            let end = Instant::now() + CLEAR;
            while !says(&log()) {
                let lines =
                    || log().lines().filter(|line| line.contains("overload")).collect::<Vec<_>>().join("\n");
                check(Instant::now() < end, || format!("the log does not say so:\n{}", lines()))?;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// The same processes take everything on again.
    fn has_come_back(&self, processes: &Processes) -> Check {
        let start = Instant::now();
        self.until("all work is taken on again", CLEAR, |all| {
            all.values().all(|samples| samples.sum("ambit_overload_level", &[]) == 0.0)
        })?;
        println!("all work is taken on again after {:.1} s", start.elapsed().as_secs_f64());
        self.order("afterwards")?;
        let now = self.processes()?;
        check(now == *processes, || format!("{now:?} in the place of {processes:?}"))
    }
}

fn told(all: &BTreeMap<String, Samples>) -> String {
    let one = |(name, samples): (&String, &Samples)| {
        let value = |metric: &str| samples.sum(metric, &[]);
        format!(
            "{name}: level {}, {} of {} KiB, {} connections and {} requests shed",
            value("ambit_overload_level"),
            value("ambit_memory_used_bytes") as u64 >> 10,
            value("ambit_memory_ceiling_bytes") as u64 >> 10,
            value("ambit_connections_shed_total"),
            value("ambit_requests_shed_total"),
        )
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Resident bytes of a process.
fn resident(pid: u32) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? << 10)
}
