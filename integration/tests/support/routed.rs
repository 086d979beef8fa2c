//! A lab whose waypoints route: what is applied has arrived everywhere, who asks, and what is counted at the backends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::load::{Connections, Live, Load, Outcome};
use ambit_lab::{Lab, LabOptions, PodHandle};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::support::{self, Check, check};

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Standard deviations a count may lie away from its mean: one honest run in 1.7 million lies outside.
const DEVIATIONS: f64 = 5.0;

/// A running lab.
pub(crate) struct Mesh {
    pub(crate) lab: Lab,
}

/// A trial on a mesh that all trials of a file share.
pub(crate) struct Shared {
    mesh: Arc<OnceLock<Result<Mesh, String>>>,
    manifests: String,
}

/// An answer as curl got it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) body: String,
}

/// A load that runs beside the trial.
pub(crate) struct Beside {
    name: &'static str,
    live: Arc<Live>,
    thread: JoinHandle<std::io::Result<Outcome>>,
}

impl Shared {
    pub(crate) fn new(manifests: String) -> Self {
        Shared { mesh: Arc::default(), manifests }
    }

    pub(crate) fn trial(&self, name: &str, run: impl FnOnce(&Mesh) -> Check + Send + 'static) -> Trial {
        let (mesh, manifests) = (Arc::clone(&self.mesh), self.manifests.clone());
        Trial::test(name, move || {
            let up = || Mesh::up(&manifests).map_err(|error| format!("{error:?}"));
            run(mesh.get_or_init(up).as_ref()?)
        })
    }
}

impl Mesh {
    /// Workloads alone; whatever needs a waypoint is applied by the trials.
    fn up(manifests: &str) -> Result<Self, Failed> {
        let lab = Lab::up(support::named(LabOptions::inline(manifests)))?;
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        lab.settled()?;
        Ok(Mesh { lab })
    }

    /// Applies objects and waits until every proxy has what follows from them.
    pub(crate) fn apply(&self, yaml: &str) -> Check {
        let faults = self.lab.apply(yaml)?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        Ok(self.lab.settled()?)
    }

    /// Deletes objects, each as kind and `namespace/name`.
    pub(crate) fn delete(&self, objects: &[(&str, &str)]) -> Check {
        let keys: Vec<_> = objects.iter().map(|(kind, name)| ambit_lab::key_of(kind, name)).collect();
        self.lab.delete(&keys)?;
        Ok(self.lab.settled()?)
    }

    /// Waits until the waypoint of a namespace serves and has everything.
    pub(crate) fn waypoint(&self, namespace: &str) -> Result<PodHandle, Failed> {
        let gateway = format!("{namespace}/waypoint");
        self.comes_to("Gateway", &gateway, "Programmed", |status, _, _| status == "True")?;
        self.lab.settled()?;
        let found = self.lab.waypoints().into_iter().find(|pod| pod.namespace == namespace);
        Ok(found.ok_or_else(|| format!("no waypoint in {namespace}\n{}", self.lab.status()))?)
    }

    /// The condition of an object: status, reason, message.
    pub(crate) fn condition(&self, kind: &str, name: &str, of: &str) -> Option<[String; 3]> {
        let (namespace, name) = name.split_once('/')?;
        let file = self.lab.folder().join(format!("state/status/{kind}.{namespace}.{name}.json"));
        let written: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
        let all = written.get("conditions").unwrap_or(&written).as_array()?;
        let one = all.iter().find(|condition| condition["type"] == of)?;
        Some(["status", "reason", "message"].map(|field| one[field].as_str().unwrap_or_default().to_owned()))
    }

    /// Waits until a condition (status, reason, message) is as wanted.
    pub(crate) fn comes_to(
        &self,
        kind: &str,
        name: &str,
        of: &str,
        wanted: impl Fn(&str, &str, &str) -> bool,
    ) -> Check {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.condition(kind, name, of);
            if let Some([status, reason, message]) = &found
                && wanted(status, reason, message)
            {
                return Ok(());
            }
            check(Instant::now() < end, || format!("{kind} {name} {of}: {found:?}\n{}", self.lab.status()))?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn pod(&self, name: &str) -> Result<PodHandle, Failed> {
        Ok(self.lab.pod(name)?)
    }

    /// Address and port of a Service, `namespace/name`.
    pub(crate) fn service(&self, name: &str, port: u16) -> Result<SocketAddr, Failed> {
        let address = self.lab.service(name)?.ok_or_else(|| format!("{name} has no address"))?;
        Ok(SocketAddr::new(address.v4.into(), port))
    }

    /// A load on port 80 of a Service, from a pod, to its end; the client names the Service by its short name.
    pub(crate) fn load(
        &self,
        from: &PodHandle,
        service: &str,
        change: impl FnOnce(&mut Load),
    ) -> Result<Outcome, Failed> {
        let mut load = self.load_of(service)?;
        change(&mut load);
        Ok(self.lab.in_pod(from, move || load.run())?)
    }

    /// The same, for as long as the trial wants.
    pub(crate) fn beside(
        &self,
        from: &PodHandle,
        service: &str,
        (name, connections, rate): (&'static str, Connections, f64),
    ) -> Result<Beside, Failed> {
        let mut load = self.load_of(service)?;
        (load.connections, load.rate, load.width, load.time) = (connections, Some(rate), 16, PATIENCE * 3);
        let live = load.live.clone();
        let thread = self.lab.thread_in(from, move || load.run());
        Ok(Beside { name, live, thread })
    }

    fn load_of(&self, service: &str) -> Result<Load, Failed> {
        let mut load = Load::new(self.service(service, 80)?);
        load.host = service.split_once('/').map_or(service, |(_, name)| name).to_owned();
        load.time = PATIENCE;
        Ok(load)
    }

    /// One request with curl: further words, and a URL.
    pub(crate) fn curl(&self, from: &PodHandle, words: &[&str], url: &str) -> Result<Answer, Failed> {
        let words = [&["curl", "-s", "-i", "-m", "8", "--path-as-is"], words, &[url]].concat();
        Answer::read(&support::output(&self.lab, from, &words)?)
    }

    /// What an echo pod has counted since it was last asked.
    pub(crate) fn counted(&self, pod: &PodHandle) -> Result<Value, Failed> {
        let at = SocketAddr::from(([127, 0, 0, 1], 8080));
        let ask = move |path: &str| ambit_lab::http::request("GET", at, path, PATIENCE);
        let told = self.lab.in_pod(pod, move || {
            let told = ask("/counters")?;
            ask("/counters/reset").map(|_| told)
        })?;
        Ok(serde_json::from_str(&told.body)?)
    }
}

impl Answer {
    /// Reads what `curl -i` printed.
    fn read(text: &str) -> Result<Self, Failed> {
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {text:?}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.entry(name.to_lowercase()).or_default().push(value.to_owned());
        }
        Ok(Answer { status: status.ok_or("no status")?, headers, body: body.to_owned() })
    }

    /// The version of the pod that answered.
    pub(crate) fn version(&self) -> &str {
        self.header("x-app-version")
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// What the echo says that it was asked.
    pub(crate) fn told(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Beside {
    /// Waits until it has gone on by so many good requests; fails at the first failure.
    pub(crate) fn goes_on(&self, more: u64) -> Check {
        let (before, end) = (self.live.good(), Instant::now() + PATIENCE);
        while self.live.good() < before + more {
            check(Instant::now() < end, || format!("{} stands still at {}", self.name, self.live.good()))?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it; every request must have been answered well.
    pub(crate) fn end(self) -> Result<Outcome, Failed> {
        self.live.stop();
        let outcome = self.thread.join().map_err(|_panic| format!("{} failed", self.name))??;
        println!("{}: {} of {} good, {:?}", self.name, outcome.good, outcome.sent, outcome.versions);
        check(outcome.good == outcome.sent && outcome.good > 0, || format!("{}: {outcome:?}", self.name))?;
        Ok(outcome)
    }
}

/// Whether a count of independent events, each with this chance, is one that chance allows.
pub(crate) fn allowed(what: &str, count: u64, of: u64, chance: f64) -> Check {
    let mean = of as f64 * chance;
    let most = DEVIATIONS * (mean * (1.0 - chance)).sqrt();
    println!("{what}: {count} of {of}, expected {mean:.0} ± {most:.0}");
    check((count as f64 - mean).abs() <= most, || {
        format!("{what}: {count} of {of}, and not {mean:.0} ± {most:.0}")
    })
}

/// How often a version answered.
pub(crate) fn of_version(outcome: &Outcome, version: &str) -> u64 {
    outcome.versions.get(version).copied().unwrap_or_default()
}

/// Whether every request was answered well.
pub(crate) fn all_good(what: &str, outcome: &Outcome) -> Check {
    check(outcome.good == outcome.sent && outcome.sent > 0, || format!("{what}: {outcome:?}"))
}
