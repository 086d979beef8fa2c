//! A lab whose namespace stands behind a waypoint: its replicas, its callers, and the loads they make.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::load::{Connections, Failure, Live, Load, Outcome};
use ambit_lab::{Lab, LabOptions, PodHandle, key_of};
use libtest_mimic::{Failed, Trial};

use crate::support::{self, Check, check};

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The lab and the namespace that all of it is in.
pub(crate) struct Mesh {
    pub(crate) lab: Arc<Lab>,
    namespace: &'static str,
}

/// Trials of one file share one lab.
pub(crate) struct Shared {
    mesh: Arc<OnceLock<Result<Mesh, String>>>,
    namespace: &'static str,
    manifests: &'static str,
}

/// A load that runs beside a trial.
pub(crate) struct Beside {
    what: String,
    live: Arc<Live>,
    thread: Option<JoinHandle<std::io::Result<Outcome>>>,
}

impl Shared {
    pub(crate) fn new(namespace: &'static str, manifests: &'static str) -> Self {
        Shared { mesh: Arc::default(), namespace, manifests }
    }

    pub(crate) fn trial(&self, name: &str, run: fn(&Mesh) -> Check) -> Trial {
        let (mesh, namespace, manifests) = (Arc::clone(&self.mesh), self.namespace, self.manifests);
        Trial::test(name, move || {
            let up = || Mesh::up(namespace, manifests).map_err(|error| format!("{error:?}"));
            let mesh = mesh.get_or_init(up).as_ref()?;
            println!();
            run(mesh)
        })
    }
}

impl Mesh {
    fn up(namespace: &'static str, manifests: &str) -> Result<Self, Failed> {
        let lab = Arc::new(Lab::up(support::named(LabOptions::inline(manifests)))?);
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        let mesh = Mesh { lab, namespace };
        mesh.replicas(1)?;
        Ok(mesh)
    }

    /// Waits until the waypoint has so many replicas, each of which serves and holds everything.
    pub(crate) fn replicas(&self, wanted: usize) -> Result<Vec<PodHandle>, Failed> {
        let end = Instant::now() + PATIENCE;
        while self.lab.waypoints().is_empty() {
            check(Instant::now() < end, || format!("no waypoint\n{}", self.lab.status()))?;
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.lab.waypoints().len() != wanted {
            self.scale(wanted)?;
        }
        self.lab.wait_pods_ready(PATIENCE)?;
        self.lab.settled()?;
        let found = self.lab.waypoints();
        check(found.len() == wanted, || format!("{} replicas, not {wanted}", found.len()))?;
        Ok(found)
    }

    pub(crate) fn scale(&self, replicas: usize) -> Check {
        Ok(self.lab.scale("Deployment", &format!("{}/waypoint", self.namespace), replicas)?)
    }

    pub(crate) fn pod(&self, name: &str) -> Result<PodHandle, Failed> {
        Ok(self.lab.pod(&format!("{}/{name}", self.namespace))?)
    }

    /// Address and port of a Service.
    pub(crate) fn service(&self, name: &str, port: u16) -> Result<SocketAddr, Failed> {
        let address = self.lab.service(&format!("{}/{name}", self.namespace))?;
        Ok(SocketAddr::new(address.ok_or("the Service has no address")?.v4.into(), port))
    }

    /// Applies objects and waits until every proxy has what follows from them.
    pub(crate) fn apply(&self, yaml: &str) -> Check {
        let faults = self.lab.apply(yaml)?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        Ok(self.lab.settled()?)
    }

    pub(crate) fn delete(&self, kind: &str, name: &str) -> Check {
        self.lab.delete(&[key_of(kind, &format!("{}/{name}", self.namespace))])?;
        Ok(self.lab.settled()?)
    }

    /// Starts a load from a pod.
    pub(crate) fn beside(&self, from: &str, load: Load) -> Result<Beside, Failed> {
        let (what, live) = (format!("{from}, {:?}", load.connections), Arc::clone(&load.live));
        let thread = self.lab.thread_in(&self.pod(from)?, move || load.run());
        Ok(Beside { what, live, thread: Some(thread) })
    }

    /// Resident memory of a pod's one program in KiB: a line of its status.
    pub(crate) fn memory(&self, pod: &PodHandle, line: &str) -> Result<u64, Failed> {
        let pids = self.lab.processes(pod);
        let [pid] = pids[..] else { return Err(format!("{} runs {pids:?}", pod.name).into()) };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next());
        Ok(value.ok_or_else(|| format!("no {line}"))?.parse()?)
    }
}

/// A load at this rate over so many connections, each of whose answers must hold a text.
pub(crate) fn load(to: SocketAddr, (rate, width): (f64, usize), connections: Connections) -> Load {
    let mut load = Load::new(to);
    (load.rate, load.width, load.connections) = (Some(rate), width, connections);
    (load.time, load.timeout) = (Duration::from_secs(1200), Duration::from_secs(5));
    load
}

impl Beside {
    fn good(&self) -> u64 {
        self.live.good()
    }

    /// Lets it begin no more.
    pub(crate) fn stop(&self) {
        self.live.stop();
    }

    /// Ends it: what came of it, and when the failures were begun.
    fn end(mut self) -> Result<(Outcome, Vec<Failure>), Failed> {
        self.live.stop();
        let thread = self.thread.take().ok_or("it has ended")?;
        let outcome = thread.join().map_err(|_panic| format!("the load of {} failed", self.what))??;
        println!(
            "  {}: {} of {} good in {:.1} s, failed {:?}, latency 50/90/99/99.9/100 % {:?} µs",
            self.what, outcome.good, outcome.sent, outcome.seconds, outcome.failed, outcome.microseconds
        );
        Ok((outcome, self.live.failures()))
    }
}

/// Waits until each load has had so many more good answers.
pub(crate) fn all_go_on(loads: &[Beside], more: u64) -> Check {
    let wanted: Vec<_> = loads.iter().map(|load| load.good() + more).collect();
    let end = Instant::now() + PATIENCE;
    for (load, wanted) in loads.iter().zip(wanted) {
        while load.good() < wanted {
            let failed = || load.live.failures();
            check(Instant::now() < end, || {
                format!("{} stands at {}: {:?}", load.what, load.good(), failed())
            })?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Ends them at once: what came of each.
pub(crate) fn end(loads: Vec<Beside>) -> Result<Vec<(Outcome, Vec<Failure>)>, Failed> {
    loads.iter().for_each(Beside::stop);
    loads.into_iter().map(Beside::end).collect()
}

/// Ends them at once; nothing may have failed.
pub(crate) fn well(loads: Vec<Beside>) -> Check {
    for (outcome, failures) in end(loads)? {
        check(outcome.good == outcome.sent && outcome.good > 0, || format!("{outcome:?} {failures:?}"))?;
    }
    Ok(())
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.live.stop();
    }
}
