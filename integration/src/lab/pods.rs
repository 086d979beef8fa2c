//! Working with the pods of a running lab.

use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use super::Lab;
use crate::address::{NodeNumber, Pair};
use crate::component::Served;
use crate::error::LabError;
use crate::http::Answer;
use crate::manifest::{Key, texts};
use crate::metrics::Samples;
use crate::pod::{Life, Pod};
use crate::process::{lock, output_of};
use crate::space::Space;
use crate::state::State;

/// Longest time a command in a pod may take.
const EXEC: Duration = Duration::from_secs(60);

/// A pod to work with; stays usable until the pod is gone.
#[derive(Clone, Debug)]
pub struct PodHandle {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Node.
    pub node: NodeNumber,
    /// Addresses.
    pub address: Pair,
    space: Arc<Space>,
    _life: Arc<Life>,
}

impl Lab {
    /// Every pod the words name: `ns/name`, `ns/<Deployment or StatefulSet>`, or `ns/<value of label app>`.
    pub fn pods(&self, words: &str) -> Vec<PodHandle> {
        let (namespace, name) = words.split_once('/').unwrap_or(("default", words));
        let state = lock(&self.shared.state);
        let here: Vec<_> = state.pods.values().filter(|pod| pod.namespace() == namespace).collect();
        let by = |matches: &dyn Fn(&Pod) -> bool| {
            here.iter().copied().filter(|pod| matches(pod)).map(PodHandle::of).collect::<Vec<_>>()
        };
        let mut found = by(&|pod| pod.name() == name);
        if found.is_empty() {
            found = by(&|pod| pod.owner.name == name);
        }
        if found.is_empty() {
            found = by(&|pod| {
                texts(&pod.object, &["metadata", "labels"]).get("app").is_some_and(|app| app == name)
            });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// The first pod the words name.
    pub fn pod(&self, words: &str) -> Result<PodHandle, LabError> {
        self.pods(words).into_iter().next().ok_or_else(|| LabError::Unknown(format!("pod {words}")))
    }

    /// Addresses of a Service `ns/name`; none for a headless one.
    pub fn service(&self, name: &str) -> Result<Option<Pair>, LabError> {
        let state = lock(&self.shared.state);
        let found =
            state.services.iter().find(|service| format!("{}/{}", service.namespace, service.name) == name);
        found.map(|service| service.address).ok_or_else(|| LabError::Unknown(format!("Service {name}")))
    }

    /// Runs a command in a pod to its end.
    pub fn exec(&self, pod: &PodHandle, words: &[&str]) -> Result<Output, LabError> {
        let mut command = Command::new(words.first().copied().unwrap_or("true"));
        command.args(words.iter().skip(1)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{words:?} in {}", pod.name);
        let child = self.spawn_in(pod, command)?;
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let (done, ended) = channel::<()>();
        let guard = std::thread::spawn(move || {
            if ended.recv_timeout(EXEC).is_err_and(|error| error == RecvTimeoutError::Timeout) {
                // Ended in between: nothing left to kill.
                let _gone = kill(pid, Signal::SIGKILL);
            }
        });
        let output = child.wait_with_output().map_err(LabError::system(what));
        drop(done);
        // The guard only watches; it has nothing to say.
        let _watched = guard.join();
        output
    }

    /// Starts a command in a pod, with the environment programs get in the lab.
    pub fn spawn_in(&self, pod: &PodHandle, mut command: Command) -> Result<std::process::Child, LabError> {
        let what = format!("starting {} in {}", command.get_program().to_string_lossy(), pod.name);
        command.env_clear().envs(crate::settings::inherited()).env("HOSTNAME", &pod.name);
        pod.space.spawn(command).map_err(LabError::system(what))
    }

    /// Runs a function on a new thread inside a pod's network namespace and waits for it.
    pub fn in_pod<T: Send + 'static>(&self, pod: &PodHandle, job: impl FnOnce() -> T + Send + 'static) -> T {
        pod.space.run(job)
    }

    /// The same without waiting.
    pub fn thread_in<T: Send + 'static>(
        &self,
        pod: &PodHandle,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        pod.space.thread(job)
    }

    /// Removes all nft rules of a pod, as something from outside might.
    pub fn flush_rules(&self, pod: &PodHandle) -> Result<(), LabError> {
        pod.space.tool("nft", &["flush", "ruleset"], String::new()).map(drop)
    }

    /// Kills a pod's programs; its restart policy says whether they are started again.
    pub fn kill_pod(&self, pod: &PodHandle) -> Result<(), LabError> {
        self.signal_pod(pod, Signal::SIGKILL)
    }

    /// Asks a pod's programs to end (SIGTERM); its restart policy says whether they are started again.
    pub fn stop_pod(&self, pod: &PodHandle) -> Result<(), LabError> {
        self.signal_pod(pod, Signal::SIGTERM)
    }

    fn signal_pod(&self, pod: &PodHandle, signal: Signal) -> Result<(), LabError> {
        let state = lock(&self.shared.state);
        let pod = state.pods.get(&pod.uid).ok_or_else(|| LabError::Unknown(pod.key().to_string()))?;
        pod.signal(signal);
        Ok(())
    }

    /// Asks a waypoint over HTTP.
    pub fn ask_pod(
        &self,
        pod: &PodHandle,
        service: Served,
        method: &'static str,
        path: &str,
    ) -> Result<Answer, LabError> {
        let to = (Ipv4Addr::LOCALHOST, crate::waypoint::port(service)).into();
        let (what, path) = (format!("asking {} for {path}", pod.name), path.to_owned());
        let ask = move || crate::http::request(method, to, &path, Duration::from_secs(5));
        pod.space.run(ask).map_err(LabError::system(what))
    }

    /// A waypoint's metrics.
    pub fn pod_metrics(&self, pod: &PodHandle) -> Result<Samples, LabError> {
        Ok(Samples::parse(&self.ask_pod(pod, Served::Metrics, "GET", "/metrics")?.body))
    }

    /// The pods of every waypoint.
    pub fn waypoints(&self) -> Vec<PodHandle> {
        lock(&self.shared.state).pods.values().filter(|pod| pod.is_waypoint()).map(PodHandle::of).collect()
    }

    /// Process ids of a pod's programs.
    pub fn processes(&self, pod: &PodHandle) -> Vec<u32> {
        lock(&self.shared.state).pods.get(&pod.uid).map(Pod::processes).unwrap_or_default()
    }

    /// Waits until every pod is ready (or has ended, or has no chance: see the dump).
    pub fn wait_pods_ready(&self, limit: Duration) -> Result<(), LabError> {
        self.wait_pods("readiness of every pod", limit, |state| {
            state.pods.values().all(|pod| pod.ready || pod.phase != "Running")
        })
    }

    /// Waits until the pods satisfy a condition on (namespace, name, ready).
    pub fn wait_readiness(&self, words: &str, ready: bool, limit: Duration) -> Result<(), LabError> {
        let uids: Vec<_> = self.pods(words).into_iter().map(|pod| pod.uid).collect();
        self.wait_pods("readiness as expected", limit, |state| {
            uids.iter().all(|uid| state.pods.get(uid).is_some_and(|pod| pod.ready == ready))
        })
    }

    fn wait_pods(&self, what: &str, limit: Duration, done: impl Fn(&State) -> bool) -> Result<(), LabError> {
        let (state, _late) = self
            .shared
            .changed
            .wait_timeout_while(lock(&self.shared.state), limit, |state| !done(state))
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if done(&state) {
            return Ok(());
        }
        drop(state);
        Err(LabError::Late { what: what.to_owned(), seconds: limit.as_secs(), dump: self.status() })
    }

    /// Log of a pod's containers so far.
    pub fn pod_logs(&self, pod: &PodHandle) -> String {
        let start = format!("{}_{}_", pod.namespace, pod.name);
        let logs = std::fs::read_dir(self.folders.inside("logs"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let mut mine: Vec<_> = logs
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
            .collect();
        mine.sort();
        mine.iter().map(|path| output_of(path)).collect()
    }

    /// Objects of the pods as they are published, ztunnels' too.
    pub fn pod_objects(&self) -> Vec<Value> {
        let state = lock(&self.shared.state);
        state.system.iter().cloned().chain(state.pods.values().map(Pod::published)).collect()
    }
}

impl PodHandle {
    pub(crate) fn of(pod: &Pod) -> Self {
        PodHandle {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.uid.clone(),
            node: pod.wire.node,
            address: pod.address(),
            space: Arc::clone(&pod.space),
            _life: Arc::clone(&pod.life),
        }
    }

    /// Its object's key.
    pub fn key(&self) -> Key {
        Key::new("Pod", &self.namespace, &self.name)
    }
}
