//! The CNI plugin: reads what the runtime asks, asks the agent, prints the answer. One process for each call, without
//! threads, and without anything to remember.
//!
//! It stands last in the chain, so that the pod's network is ready when it is added, and is still there when it is deleted:
//! the ztunnel says goodbye to the pod's peers before the cable is cut.

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;

use ambit_process::settings::Environment;
use serde::Deserialize;
use serde_json::{Value, json};

use super::protocol::{Answer, Request, VERSION, Verb};

mod agent;

/// The name of the plugin: its type in the configuration, and its program.
pub const NAME: &str = "ambit-cni";
/// The versions of CNI that it speaks, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The longest configuration that is read, in bytes.
pub const INPUT_LIMIT: u64 = 1024 * 1024;

/// What the agent wrote into the chain for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Version of the whole chain.
    #[serde(default)]
    cni_version: String,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Namespaces whose pods are not asked about.
    pub exempt_namespaces: Vec<String>,
    /// What happens while the agent is away.
    pub when_away: WhenAway,
    /// How long the agent may take, in seconds.
    pub wait_seconds: u32,
    /// What the plugins before it made.
    #[serde(default)]
    prev_result: Option<Value>,
}

/// What happens to pods while the agent is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenAway {
    /// They wait: the kubelet tries again.
    #[default]
    Refuse,
    /// They start, outside the mesh until the agent is back.
    Allow,
}

/// Why the runtime is told no. Codes up to 99 are CNI's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// Another version of CNI.
    #[error("CNI version {0:?} is none of {VERSIONS:?}")]
    Incompatible(String),
    /// A variable is missing or wrong.
    #[error("{0} is missing or wrong")]
    Environment(&'static str),
    /// The configuration cannot be read.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(String),
    /// It stands alone.
    #[error("{NAME} must stand behind the plugin that makes the network (there is no prevResult)")]
    NotChained,
    /// The pod's network cannot be opened.
    #[error("cannot open the pod's network (CNI_NETNS): {0}")]
    Network(String),
    /// The pod has to wait.
    #[error("{0}")]
    NotYet(String),
    /// The agent is away, or cannot be understood.
    #[error(
        "the node agent of the mesh does not answer ({0}), and only it knows whether this pod belongs to the mesh; \
         the kubelet tries again (is there a pod of the DaemonSet ambit-node on this node?)"
    )]
    AgentAway(String),
}

/// One call of the runtime's.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    command: Command,
    netns: Option<PathBuf>,
    pod: Option<Pod>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Version,
    /// The agent may be away without the node losing its network: pods outside the mesh run on, and the agent itself must
    /// be able to start. So the plugin is ready whenever it is there.
    Status,
    /// It keeps nothing that could be left over.
    Gc,
    Ask(Verb),
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    namespace: String,
    name: String,
    uid: Option<String>,
}

/// What is to be done for a call.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Print this, and be done.
    Print(Option<Value>),
    /// Ask the agent.
    Ask(Request),
}

impl PluginError {
    fn code(&self) -> u32 {
        match self {
            Self::Incompatible(_) => 1,
            Self::Environment(_) => 4,
            Self::Network(_) => 5,
            Self::Unreadable(_) => 6,
            Self::NotChained => 7,
            Self::NotYet(_) | Self::AgentAway(_) => 11,
        }
    }

    /// As the runtime wants to read it.
    fn json(&self, version: &str) -> Value {
        let msg = format!("{NAME}: {self}");
        json!({ "cniVersion": version, "code": self.code(), "msg": msg })
    }
}

/// What to print, and whether the call succeeded.
pub fn run(environment: &dyn Environment, input: &[u8]) -> (Option<Value>, Result<(), PluginError>) {
    let version = version_of(input);
    match answer(environment, input) {
        Ok(printed) => (printed, Ok(())),
        Err(error) => (Some(error.json(&version)), Err(error)),
    }
}

fn answer(environment: &dyn Environment, input: &[u8]) -> Result<Option<Value>, PluginError> {
    let call = Call::read(environment)?;
    if call.command == Command::Version {
        return Ok(Some(json!({ "cniVersion": version_of(input), "supportedVersions": VERSIONS })));
    }
    let config: Config =
        serde_json::from_slice(input).map_err(|error| PluginError::Unreadable(error.to_string()))?;
    match step(&call, &config)? {
        Step::Print(printed) => Ok(printed),
        Step::Ask(request) => {
            let network = match call.netns.as_ref().map(File::open) {
                Some(Ok(network)) => network,
                // Deleted twice, or after the node was restarted: there is no network to speak of.
                _ if request.verb == Verb::Del => return Ok(None),
                Some(Err(error)) => return Err(PluginError::Network(error.to_string())),
                None => return Err(PluginError::Environment("CNI_NETNS")),
            };
            let answered = agent::ask(&config, &request, &network);
            judge(&config, request.verb, answered.map_err(|error| error.to_string()))
        }
    }
}

/// The version that the runtime speaks; an error has to be told in it, too.
fn version_of(input: &[u8]) -> String {
    let config: Value = serde_json::from_slice(input).unwrap_or_default();
    let newest = VERSIONS[VERSIONS.len() - 1];
    config["cniVersion"].as_str().unwrap_or(newest).to_owned()
}

impl Call {
    fn read(environment: &dyn Environment) -> Result<Self, PluginError> {
        let command = match environment.get("CNI_COMMAND").as_deref() {
            Some("ADD") => Command::Ask(Verb::Add),
            Some("DEL") => Command::Ask(Verb::Del),
            Some("CHECK") => Command::Ask(Verb::Check),
            Some("VERSION") => Command::Version,
            Some("STATUS") => Command::Status,
            Some("GC") => Command::Gc,
            _ => return Err(PluginError::Environment("CNI_COMMAND")),
        };
        let netns = environment.get("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        if netns.is_none() && matches!(command, Command::Ask(Verb::Add | Verb::Check)) {
            return Err(PluginError::Environment("CNI_NETNS"));
        }
        let pod = environment.get("CNI_ARGS").and_then(|arguments| Pod::read(&arguments));
        Ok(Self { command, netns, pod })
    }
}

impl Pod {
    /// From `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;…`; `None` for what is no pod of Kubernetes.
    fn read(arguments: &str) -> Option<Self> {
        let value = |name: &str| {
            let pair = |pair: &str| {
                pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
            };
            arguments.split(';').find_map(pair).filter(|value| !value.is_empty())
        };
        let (namespace, name) = (value("K8S_POD_NAMESPACE")?, value("K8S_POD_NAME")?);
        Some(Self { namespace, name, uid: value("K8S_POD_UID") })
    }
}

/// What a call needs. Pure.
fn step(call: &Call, config: &Config) -> Result<Step, PluginError> {
    if !VERSIONS.contains(&config.cni_version.as_str()) {
        return Err(PluginError::Incompatible(config.cni_version.clone()));
    }
    let Command::Ask(verb) = call.command else { return Ok(Step::Print(None)) };
    let printed = match (verb, &config.prev_result) {
        (Verb::Add, None) => return Err(PluginError::NotChained),
        (Verb::Add, result) => result.clone(),
        (Verb::Del | Verb::Check, _) => None,
    };
    let exempt = |pod: &&Pod| !config.exempt_namespaces.contains(&pod.namespace);
    let Some(pod) = call.pod.as_ref().filter(exempt) else { return Ok(Step::Print(printed)) };
    Ok(Step::Ask(Request {
        version: VERSION,
        verb,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        addresses: addresses(config.prev_result.as_ref()),
    }))
}

/// The addresses in a result, without the lengths of their networks.
fn addresses(result: Option<&Value>) -> Vec<IpAddr> {
    let ips = result.and_then(|result| result["ips"].as_array()).into_iter().flatten();
    let address = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
    ips.filter_map(address).collect()
}

/// What the agent's answer means to the runtime. Pure.
fn judge(
    config: &Config,
    verb: Verb,
    answered: Result<Answer, String>,
) -> Result<Option<Value>, PluginError> {
    let passed = if verb == Verb::Add { config.prev_result.clone() } else { None };
    match (answered, verb) {
        (Ok(Answer::Outside | Answer::Done), _) => Ok(passed),
        // A pod goes when it goes; the agent hears of it in other ways, too.
        (_, Verb::Del) => Ok(None),
        (Ok(Answer::NotYet(reason)), _) => Err(PluginError::NotYet(reason)),
        (Ok(Answer::Refused(reason)) | Err(reason), _) => match config.when_away {
            WhenAway::Refuse => Err(PluginError::AgentAway(reason)),
            WhenAway::Allow => Ok(passed),
        },
    }
}

#[cfg(test)]
mod tests;
