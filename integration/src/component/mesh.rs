//! The mesh's programs as they run: started with their settings, watched until ready, stopped.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Component, Kind, Programs, SYSTEM, Served, Stop, tail};
use crate::address::{CONTROL, NodeNumber};
use crate::error::LabError;
use crate::network::Network;
use crate::process::{Process, poll};
use crate::state::Folders;
use crate::tokens::{Claims, ISSUER, Tokens};
use crate::waypoint::Waypoints;

/// Where the controller serves proxies.
pub(crate) const XDS_PORT: u16 = 15012;
/// Longest time a program may take to be ready.
const START: Duration = Duration::from_secs(20);
/// Time between a polite and a forced end.
const GRACE: Duration = Duration::from_secs(10);

/// The mesh's running programs.
pub(crate) struct Mesh {
    programs: Programs,
    folders: Folders,
    pub(crate) tokens: Arc<Tokens>,
    jwks: PathBuf,
    running: BTreeMap<Component, Process>,
}

impl Mesh {
    pub(crate) fn prepare(programs: Programs, folders: Folders) -> Result<Self, LabError> {
        for kind in [Kind::Controller, Kind::Agent, Kind::Ztunnel] {
            programs.file(kind)?;
        }
        let tokens = Arc::new(Tokens::create()?);
        let jwks = tokens.publish(&folders.inside("tokens"))?;
        Ok(Mesh { programs, folders, tokens, jwks, running: BTreeMap::new() })
    }

    /// What waypoints are started with.
    pub(crate) fn waypoints(&self) -> Waypoints {
        let extra = self.programs.settings.iter().filter(|(kind, _name, _value)| *kind == Kind::Waypoint);
        Waypoints {
            file: self.programs.path(Kind::Waypoint),
            tokens: Arc::clone(&self.tokens),
            folders: self.folders.clone(),
            settings: extra.map(|(_kind, name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// Starts a program and does not wait for it.
    pub(crate) fn start(
        &mut self,
        component: Component,
        network: &Network,
        pods: &[Value],
    ) -> Result<(), LabError> {
        let settings = match component {
            Component::Controller => self.controller(),
            Component::Agent(node) => self.agent(node),
            Component::Ztunnel(node) => self.ztunnel(node, pods)?,
        };
        let mut command = Command::new(self.programs.file(component.kind())?);
        command
            .env_clear()
            .envs(crate::settings::inherited())
            .env("RUST_LOG", crate::settings::log_filter())
            .envs(settings);
        let extra = self.programs.settings.iter().filter(|(kind, _name, _value)| *kind == component.kind());
        command.envs(extra.map(|(_kind, name, value)| (name, value)));
        let process = Process::start(component.space(network)?, command, &component.log(&self.folders))?;
        self.running.insert(component, process);
        Ok(())
    }

    fn controller(&self) -> BTreeMap<&'static str, OsString> {
        let names = CONTROL.both().map(|address| address.to_string()).join(",");
        BTreeMap::from([
            ("AMBIT_SOURCE_DIRS", self.source_folders()),
            ("AMBIT_STATE_DIR", self.folders.inside("state").into()),
            ("AMBIT_CA_DIR", self.folders.inside("ca").into()),
            ("AMBIT_TOKEN_JWKS", self.jwks.clone().into()),
            ("AMBIT_TOKEN_ISSUER", ISSUER.into()),
            ("AMBIT_SERVING_NAMES", names.into()),
        ])
    }

    fn agent(&self, node: NodeNumber) -> BTreeMap<&'static str, OsString> {
        let agent = Component::Agent(node);
        BTreeMap::from([
            ("AMBIT_SOURCE_DIRS", self.source_folders()),
            ("AMBIT_STATE_DIR", self.folders.inside("state").into()),
            ("AMBIT_NETNS_DIR", self.folders.inside("netns").into()),
            ("INPOD_UDS", self.socket(node).into()),
            ("NODE_NAME", node.name().into()),
            ("AMBIT_AGENT_ADMIN", agent.address(Served::Administration).to_string().into()),
        ])
    }

    fn ztunnel(
        &self,
        node: NodeNumber,
        pods: &[Value],
    ) -> Result<BTreeMap<&'static str, OsString>, LabError> {
        let name = pod_name(node);
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str());
        let pod = pod.ok_or_else(|| LabError::Unknown(format!("pod {name}")))?;
        let token = self.folders.inside("tokens").join(&name);
        crate::manifest::write_whole(&token, &self.tokens.mint(&Claims::of_pod(pod)))
            .map_err(LabError::system("writing a token"))?;
        let address = format!("https://{}:{XDS_PORT}", CONTROL.v4);
        let root = self.folders.root();
        Ok(BTreeMap::from([
            ("XDS_ADDRESS", address.clone().into()),
            ("CA_ADDRESS", address.into()),
            ("XDS_ROOT_CA", root.clone().into()),
            ("CA_ROOT_CA", root.into()),
            ("AUTH_TOKEN", token.into()),
            ("CLUSTER_ID", "Kubernetes".into()),
            ("CLUSTER_DOMAIN", "cluster.local".into()),
            ("TRUST_DOMAIN", "cluster.local".into()),
            ("NETWORK", "".into()),
            ("NODE_NAME", node.name().into()),
            ("POD_NAME", name.into()),
            ("POD_NAMESPACE", SYSTEM.into()),
            ("SERVICE_ACCOUNT", "ztunnel".into()),
            ("INSTANCE_IP", node.address().v4.to_string().into()),
            ("INPOD_UDS", self.socket(node).into()),
        ]))
    }

    fn source_folders(&self) -> OsString {
        let all = self.folders.sources();
        all.iter().map(|folder| folder.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"))
    }

    fn socket(&self, node: NodeNumber) -> PathBuf {
        self.folders.inside("sockets").join(format!("{}.sock", node.name()))
    }

    /// Waits until a program says that it is ready.
    pub(crate) fn wait_ready(&self, component: Component, network: &Network) -> Result<(), LabError> {
        let space = component.space(network)?;
        let address = component.address(Served::Readiness);
        let ask = move || crate::http::request("GET", address, "/healthz/ready", Duration::from_secs(1));
        let mut said = String::new();
        let ready = poll(START, || {
            if let Some(status) = self.running.get(&component).and_then(Process::ended) {
                said = format!("it ended: {status}");
                return Some(false);
            }
            said = match space.run(ask) {
                Ok(answer) if answer.status == 200 => return Some(true),
                Ok(answer) => answer.body,
                Err(error) => error.to_string(),
            };
            None
        });
        if ready == Some(true) {
            return Ok(());
        }
        let log = crate::process::output_of(&component.log(&self.folders));
        let dump = format!("it says: {said}\nlast lines of its log:\n{}", tail(&log, 40));
        Err(LabError::Late { what: format!("readiness of {component}"), seconds: START.as_secs(), dump })
    }

    /// Waits for the certificate authority's root, without which nobody can trust the controller.
    pub(crate) fn wait_root(&self) -> Result<(), LabError> {
        let root = self.folders.root();
        let there = poll(START, || (root.is_file() || !self.runs(Component::Controller)).then_some(()));
        if there.is_some() && root.is_file() {
            return Ok(());
        }
        let dump = tail(&self.output(Component::Controller), 40);
        Err(LabError::Late {
            what: format!("a root certificate at {}", root.display()),
            seconds: START.as_secs(),
            dump,
        })
    }

    pub(crate) fn runs(&self, component: Component) -> bool {
        self.running.get(&component).is_some_and(|process| process.ended().is_none())
    }

    /// Stops a program: by force, or asked first.
    pub(crate) fn stop(&mut self, component: Component, how: Stop) -> Result<(), LabError> {
        let process = self
            .running
            .remove(&component)
            .ok_or_else(|| LabError::Unknown(format!("running {component}")))?;
        match how {
            Stop::Killed => {
                process.signal(Signal::SIGKILL);
                process.wait(GRACE);
            }
            Stop::Asked => process.stop(GRACE),
        }
        Ok(())
    }

    pub(crate) fn pid(&self, component: Component) -> Option<u32> {
        self.running.get(&component).filter(|process| process.ended().is_none()).map(Process::pid)
    }

    pub(crate) fn output(&self, component: Component) -> String {
        crate::process::output_of(&component.log(&self.folders))
    }

    pub(crate) fn components(&self) -> Vec<Component> {
        self.running.keys().copied().collect()
    }
}

/// Name of the pod of a node's ztunnel.
pub(crate) fn pod_name(node: NodeNumber) -> String {
    format!("ztunnel-{}", node.name())
}

/// The Pod object of a node's ztunnel.
pub(crate) fn ztunnel_pod(node: NodeNumber, uid: &str) -> Value {
    let address = node.address();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(node), "namespace": SYSTEM, "uid": uid, "labels": {"app": "ztunnel"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "ztunnel", "uid": "ztunnel", "controller": true}],
        },
        "spec": {
            "nodeName": node.name(), "serviceAccountName": "ztunnel", "hostNetwork": true,
            "containers": [{"name": "istio-proxy", "image": "ambit/ztunnel"}],
        },
        "status": {
            "phase": "Running", "podIP": address.v4, "podIPs": [{"ip": address.v4}, {"ip": address.v6}], "hostIP": address.v4,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}
