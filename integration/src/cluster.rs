//! A real cluster as tests and scenarios use it: kubectl for everything that people do with one, and for what happens to
//! machines the program that keeps it (`integration/kubernetes`).

mod dump;
mod export;
mod forward;
mod mesh;
mod wait;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::Said;
use crate::error::LabError;
use crate::settings;

pub use forward::Forward;
pub use mesh::SYSTEM;
pub use wait::eventually;

/// Seconds after which a command is ended, whatever it waits for.
const LIMIT: &str = "300";

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// kubectl as administrator.
    kubectl: Vec<OsString>,
    /// The file that leads there; kubectl's own choice where none is named.
    kubeconfig: Option<PathBuf>,
    /// The program that keeps it; nothing where somebody else does.
    keeper: Vec<OsString>,
}

impl Cluster {
    /// The one that the settings name, else whatever kubectl leads to.
    pub fn current() -> Self {
        let other = || Self { kubectl: vec!["kubectl".into()], kubeconfig: None, keeper: Vec::new() };
        Self::of_this_machine().unwrap_or_else(other)
    }

    /// The cluster of this machine that the settings name, if they name one.
    pub fn of_this_machine() -> Option<Self> {
        let name = settings::cluster()?;
        let clusters = settings::clusters();
        let programs = clusters.join("programs");
        let kubeconfig = clusters.join(&name).join("kubeconfig");
        let mut named = OsString::from("--kubeconfig=");
        named.push(&kubeconfig);
        Some(Self {
            kubectl: vec![programs.join("ambit-kube").into(), "kubectl".into(), named],
            kubeconfig: Some(kubeconfig),
            keeper: vec![
                programs.join("ambit-cluster").into(),
                "--clusters".into(),
                clusters.into(),
                "--name".into(),
                name.into(),
            ],
        })
    }

    /// The kubeconfig file of its administrator, where it is not kubectl's own choice.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// The file of a node's network namespace.
    pub fn network(&self, node: &str) -> Result<PathBuf, LabError> {
        let status = self.keeper(&["status"])?;
        // "node1  172.30.0.1  pid 4711"
        let mut lines = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let pid = lines.find_map(|words| match words.as_slice() {
            [name, _address, "pid", pid] if *name == node => Some((*pid).to_owned()),
            _ => None,
        });
        let pid = pid.ok_or_else(|| LabError::Unknown(format!("running node {node}")))?;
        Ok(PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// A kubectl command that is to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        command(&self.kubectl, words)
    }

    /// Runs kubectl to its end, however it ends.
    pub fn kubectl(&self, words: &[&str]) -> Result<Said, LabError> {
        self.fed(words, "")
    }

    /// The same with a text on standard input.
    pub fn fed(&self, words: &[&str], input: &str) -> Result<Said, LabError> {
        let failed = |error| LabError::System { what: format!("kubectl {}", words.join(" ")), source: error };
        let mut command = bounded(&self.kubectl, words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut stdin = child.stdin.take().expect("standard input was asked for");
        // Whoever does not read it says why.
        let _fed = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ok(child.wait_with_output().map_err(failed)?.into())
    }

    /// Runs kubectl, which must succeed; what it printed.
    pub fn must(&self, words: &[&str]) -> Result<String, LabError> {
        succeeded("kubectl", words, self.kubectl(words)?)
    }

    /// Applies manifests as people do; what kubectl printed.
    pub fn apply(&self, yaml: &str) -> Result<String, LabError> {
        let words = ["apply", "-f", "-"];
        succeeded("kubectl", &words, self.fed(&words, yaml)?)
    }

    /// Deletes the objects of manifests and waits until they are gone; those that are gone already are no mistake.
    pub fn delete(&self, yaml: &str) -> Result<String, LabError> {
        let words = ["delete", "--ignore-not-found", "-f", "-"];
        succeeded("kubectl", &words, self.fed(&words, yaml)?)
    }

    /// What `kubectl get WORDS -o json` prints.
    pub fn get(&self, words: &[&str]) -> Result<Value, LabError> {
        let printed = self.must(&[&["get", "-o", "json"], words].concat())?;
        serde_json::from_str(&printed).map_err(|error| LabError::Manifest(format!("get {words:?}: {error}")))
    }

    /// Runs a command in a pod (`pod` or `deploy/NAME`) of a namespace.
    pub fn exec(&self, namespace: &str, pod: &str, words: &[&str]) -> Result<Said, LabError> {
        self.kubectl(&[&["exec", "-n", namespace, pod, "--"], words].concat())
    }

    /// Runs a command of the machine inside a node, which must succeed; what it printed.
    pub fn on_node(&self, node: &str, words: &[&str]) -> Result<String, LabError> {
        self.keeper(&[&["run", node], words].concat())
    }

    /// Has the cluster's program do something that must succeed, as in `["stop", "node1/kubelet"]`; what it printed.
    pub fn keeper(&self, words: &[&str]) -> Result<String, LabError> {
        if self.keeper.is_empty() {
            return Err(LabError::Unknown("cluster of this machine; AMBIT_CLUSTER names one".to_owned()));
        }
        let failed = LabError::system(format!("ambit-cluster {}", words.join(" ")));
        let output = bounded(&self.keeper, words).stdin(Stdio::null()).output().map_err(failed)?;
        succeeded("ambit-cluster", words, output.into())
    }
}

fn command(start: &[OsString], words: &[&str]) -> Command {
    let mut all = start.iter().cloned().chain(words.iter().map(OsString::from));
    let mut command = Command::new(all.next().unwrap_or_default());
    command.args(all);
    command
}

/// A command that does not wait for ever.
fn bounded(start: &[OsString], words: &[&str]) -> Command {
    let timeout: Vec<_> = ["timeout", "--kill-after=5", LIMIT].into_iter().map(OsString::from).collect();
    command(&[&timeout, start].concat(), words)
}

fn succeeded(tool: &'static str, words: &[&str], said: Said) -> Result<String, LabError> {
    if said.well() {
        return Ok(said.out);
    }
    let detail = format!("{}{}", said.out, said.err).trim().to_owned();
    Err(LabError::Tool { tool, arguments: words.join(" "), detail })
}
