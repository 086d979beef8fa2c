//! A running pod: its containers' programs, kept running, and its readiness, kept up to date.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::address::{NodeNumber, Pair};
use crate::error::LabError;
use crate::expand::Container;
use crate::image::{Program, is_waypoint};
use crate::manifest::{Key, at, text, texts};
use crate::network::Wire;
use crate::probe::{Check, Prober};
use crate::process::{Process, lock, stand_in};
use crate::service::{Backend, named_ports};
use crate::space::Space;
use crate::waypoint::Waypoints;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// News of a pod for the lab.
#[derive(Debug)]
pub(crate) enum News {
    /// The pod with this UID became ready or unready.
    Ready(String, bool),
    /// All its programs have ended for good; whether all went well.
    Ended(String, bool),
    /// It was taken away, and its place on this node is free again.
    Gone(NodeNumber, u8),
}

/// A pod that exists.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) owner: Key,
    pub(crate) revision: String,
    pub(crate) wire: Wire,
    /// The Pod object without status.
    pub(crate) object: Value,
    pub(crate) ready: bool,
    pub(crate) phase: &'static str,
    pub(crate) space: Arc<Space>,
    pub(crate) life: Arc<Life>,
    /// How long its programs may take to end.
    pub(crate) grace: Duration,
}

/// What a pod is started with.
pub(crate) struct Surroundings<'a> {
    pub(crate) logs: &'a std::path::Path,
    pub(crate) news: &'a Sender<News>,
    pub(crate) waypoints: Option<&'a Arc<Waypoints>>,
}

/// What a pod's threads share.
#[derive(Debug, Default)]
pub(crate) struct Life {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    running: BTreeMap<String, Process>,
    /// Containers that have ended for good, and whether well.
    ended: BTreeMap<String, bool>,
}

impl Life {
    pub(crate) fn stopping(&self) -> bool {
        lock(&self.state).stopping
    }

    /// Whether this container's program runs.
    pub(crate) fn runs(&self, container: &str) -> bool {
        lock(&self.state).running.get(container).is_some_and(|process| process.ended().is_none())
    }

    /// Waits for a change, or until the time is over.
    pub(crate) fn pause(&self, limit: Duration) {
        let state = lock(&self.state);
        if !state.stopping {
            // Whoever waits looks at the state again, whatever woke it.
            let _woken = self.changed.wait_timeout(state, limit);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }
}

/// Settings of a container's program that do not change.
struct Keeper {
    space: Arc<Space>,
    life: Arc<Life>,
    container: Container,
    environment: BTreeMap<String, String>,
    /// The pod as published, and what waypoints are started with.
    mesh: Option<(Value, Arc<Waypoints>)>,
    log: PathBuf,
    restart: Restart,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Pod {
    pub(crate) fn namespace(&self) -> &str {
        text(&self.object, &["metadata", "namespace"]).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        text(&self.object, &["metadata", "name"]).unwrap_or_default()
    }

    pub(crate) fn address(&self) -> Pair {
        self.wire.address
    }

    /// What Services need to know of it.
    pub(crate) fn backend(&self) -> Backend {
        Backend {
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
            uid: self.uid.clone(),
            node: self.wire.node.name(),
            address: self.wire.address,
            labels: texts(&self.object, &["metadata", "labels"]),
            ports: named_ports(&self.object["spec"]),
            ready: self.ready && self.phase == "Running",
        }
    }

    /// The Pod object with its status, as the kubelet would have written it.
    pub(crate) fn published(&self) -> Value {
        let (address, host) = (self.wire.address, self.wire.node.address());
        let state = if self.ready { "True" } else { "False" };
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let mut object = self.object.clone();
        object["status"] = json!({
            "phase": self.phase,
            "podIP": address.v4, "podIPs": [{"ip": address.v4}, {"ip": address.v6}],
            "hostIP": host.v4, "hostIPs": [{"ip": host.v4}, {"ip": host.v6}],
            "conditions": [
                condition("PodScheduled", "True"), condition("Initialized", "True"),
                condition("ContainersReady", state), condition("Ready", state),
            ],
        });
        object
    }

    /// Starts the containers' programs and the watch over their readiness.
    pub(crate) fn start(&self, containers: &[Container], around: &Surroundings<'_>) {
        let restart = match text(&self.object, &["spec", "restartPolicy"]) {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        for container in containers {
            let keeper = Keeper {
                space: Arc::clone(&self.space),
                life: Arc::clone(&self.life),
                container: container.clone(),
                environment: self.environment(&container.value),
                mesh: around.waypoints.map(|waypoints| (self.published(), Arc::clone(waypoints))),
                log: around.logs.join(format!("{}_{}_{}.log", self.namespace(), self.name(), container.name)),
                restart,
            };
            let (news, uid, all) = (around.news.clone(), self.uid.clone(), containers.len());
            std::thread::spawn(move || keep(&keeper, &uid, all, &news));
        }
        let checks = containers.iter().map(|container| Check::of(container, &self.backend().ports)).collect();
        let prober = Prober { checks, address: self.wire.address.v4.into(), life: Arc::clone(&self.life) };
        let (news, uid) = (around.news.clone(), self.uid.clone());
        // The watch lives in the pod's namespaces, where its checks must be made.
        drop(self.space.thread(move || {
            // The lab is gone when nobody takes the news.
            prober.watch(|ready| drop(news.send(News::Ready(uid.clone(), ready))));
        }));
    }

    fn environment(&self, container: &Value) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::from([
            ("HOSTNAME".to_owned(), self.name().to_owned()),
            ("POD_NAME".to_owned(), self.name().to_owned()),
            ("POD_NAMESPACE".to_owned(), self.namespace().to_owned()),
            ("NODE_NAME".to_owned(), self.wire.node.name()),
            ("POD_IP".to_owned(), self.wire.address.v4.to_string()),
            ("POD_VERSION".to_owned(), self.backend().labels.remove("version").unwrap_or_default()),
        ]);
        let published = self.published();
        let entries = container.get("env").and_then(Value::as_array).into_iter().flatten();
        for entry in entries {
            let Some(name) = text(entry, &["name"]) else { continue };
            let field = text(entry, &["valueFrom", "fieldRef", "fieldPath"]);
            let referred = field.and_then(|path| referred(&published, path));
            let value = referred.and_then(Value::as_str).or_else(|| text(entry, &["value"]));
            environment.insert(name.to_owned(), value.unwrap_or_default().to_owned());
        }
        environment
    }

    /// Asks the programs to end; the first half of stopping.
    pub(crate) fn ask_to_end(&self) {
        self.life.change(|state| state.stopping = true);
        lock(&self.life.state).running.values().for_each(|process| process.signal(Signal::SIGTERM));
    }

    /// Waits for their end and then ends them by force; the second half.
    pub(crate) fn end(&self, grace: Duration) {
        let running: Vec<_> = lock(&self.life.state).running.values().cloned().collect();
        for process in running {
            process.stop(grace);
        }
    }

    /// Sends a signal to its programs; those that end are started again.
    pub(crate) fn signal(&self, signal: Signal) {
        lock(&self.life.state).running.values().for_each(|process| process.signal(signal));
    }

    /// Whether it is one of the mesh's waypoints.
    pub(crate) fn is_waypoint(&self) -> bool {
        let containers = at(&self.object, &["spec", "containers"]).and_then(Value::as_array);
        containers.into_iter().flatten().any(|container| text(container, &["image"]).is_some_and(is_waypoint))
    }

    /// Process ids of its running programs.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let state = lock(&self.life.state);
        state.running.values().filter(|process| process.ended().is_none()).map(Process::pid).collect()
    }
}

/// The value at a field path of the downward API, as in `status.podIP` or `metadata.labels['version']`.
fn referred<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let (path, key) = match path.split_once("['") {
        Some((path, key)) => (path, Some(key.strip_suffix("']")?)),
        None => (path, None),
    };
    at(object, &path.split('.').chain(key).collect::<Vec<_>>())
}

/// Runs a container's program again and again, as its pod's restart policy says.
fn keep(keeper: &Keeper, uid: &str, all: usize, news: &Sender<News>) {
    let mut pause = FIRST_PAUSE;
    while !keeper.life.stopping() {
        let started =
            keeper.command().and_then(|command| Process::start(&keeper.space, command, &keeper.log));
        let well = match started {
            Ok(process) => {
                keeper.life.change(|state| {
                    drop(state.running.insert(keeper.container.name.clone(), process.clone()))
                });
                if keeper.life.stopping() {
                    process.signal(Signal::SIGTERM);
                }
                process.wait(Duration::MAX).is_some_and(|status| status.success())
            }
            Err(error) => {
                let line = format!("{}{error}\n", crate::process::output_of(&keeper.log));
                // Shown by `logs`; there is nowhere else to say it.
                let _told = std::fs::write(&keeper.log, line);
                false
            }
        };
        keeper.life.change(|state| drop(state.running.remove(&keeper.container.name)));
        if keeper.restart == Restart::Never || (well && keeper.restart == Restart::OnFailure) {
            let name = keeper.container.name.clone();
            keeper.life.change(|state| state.ended.extend([(name, well)]));
            let ended = lock(&keeper.life.state).ended.clone();
            if ended.len() == all {
                // The lab is gone when nobody takes the news.
                let _taken = news.send(News::Ended(uid.to_owned(), ended.values().all(|well| *well)));
            }
            return;
        }
        keeper.life.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Keeper {
    fn command(&self) -> Result<Command, LabError> {
        let mut command = match &self.container.program {
            Program::Waypoint => {
                let no_mesh = || LabError::Unknown("mesh in this lab".to_owned());
                let (pod, waypoints) = self.mesh.as_ref().ok_or_else(no_mesh)?;
                return waypoints.command(pod, &self.environment);
            }
            Program::StandIn { arguments, .. } => stand_in(arguments),
            Program::Host(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        command.env_clear().envs(crate::settings::inherited()).envs(&self.environment);
        if let Some(folder) = text(&self.container.value, &["workingDir"]) {
            command.current_dir(folder);
        }
        Ok(command)
    }
}
