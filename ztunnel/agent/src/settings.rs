//! Every setting of the node agent, in one table.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ambit_crds::origin::{Origin, View};
use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;

use crate::cni::install::{Entry, Installation};
use crate::networks::{Networks, Processes};
use crate::pod::node::Tools;
use crate::probes::kubelet::Finder;
use crate::probes::{Host, Probes};
use crate::redirect::apply::Redirector;
use crate::stop::{OnStop, Stop};

/// What whoever starts the agent decides.
#[derive(Debug)]
pub struct Settings {
    /// The node whose pods are ours.
    pub node: String,
    /// Where objects come from.
    pub origin: Origin,
    /// Where ztunnels connect.
    pub socket: PathBuf,
    /// What works on networks.
    pub tools: Tools,
    /// The CNI plugin; `None` where there is no container runtime (the lab).
    pub plugin: Option<Plugin>,
    /// What a stop means.
    pub on_stop: OnStop,
    /// How often the rules of each pod are compared with what was written.
    pub check: Duration,
    /// Readiness, metrics, log level.
    pub admin: SocketAddr,
    /// What is logged.
    pub log: LogSettings,
    /// The table as it took effect.
    pub rows: Vec<Row>,
}

/// The CNI plugin on this node.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Where it goes, and what it is told.
    pub installation: Installation,
    /// Where it asks.
    pub socket: PathBuf,
}

impl Settings {
    /// Reads all of them, or says everything that is wrong.
    pub fn read(environment: &dyn Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let node = reader.required("NODE_NAME", "The node whose pods this agent serves");
        let origin = Origin::read(&mut reader, View::Node(node.clone()));
        let socket = reader.path("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "Where ztunnels connect");
        let tools = tools(&mut reader);
        let namespace = reader.text("POD_NAMESPACE", "ambit-system", "The agent's own namespace");
        let plugin = plugin(&mut reader, &namespace);
        let on_stop = on_stop(&mut reader, (namespace, node.clone()));
        let check = Duration::from_secs(30);
        let check =
            reader.duration("AMBIT_RULES_CHECK", check, "How often each pod's rules are checked for edits");
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15022));
        let admin =
            reader.address("AMBIT_AGENT_ADMIN", admin, "Readiness, metrics and log level; loopback only");
        let log = LogSettings::read(&mut reader);
        if check.is_zero() {
            reader.fault("AMBIT_RULES_CHECK", "0", "must be longer than nothing");
        }
        let rows = reader.finish()?;
        Ok(Self { node, origin, socket, tools, plugin, on_stop, check, admin, log, rows })
    }
}

/// What works on networks: in the lab and on a node of Kubernetes they are found in different ways.
fn tools(reader: &mut Reader<'_>) -> Tools {
    let nft = reader.path("NFT_PATH", "nft", "The nft command");
    let ip = reader.path("IP_PATH", "ip", "The ip command of iproute2");
    let within = Duration::from_secs(5);
    let within = reader.duration("AMBIT_COMMAND_TIMEOUT", within, "How long one call of nft or ip may take");
    let redirector = Redirector { nft, ip, within };
    let folder =
        reader.path("AMBIT_NETNS_DIR", "/var/run/ambit/netns", "Pods' networks, by pod UID, where mounted");
    let doc = "How pods' networks are found: mounted (in AMBIT_NETNS_DIR), or processes (a node of Kubernetes; needs hostPID)";
    let is_node = match reader.text("AMBIT_POD_NETWORKS", "mounted", doc).as_str() {
        "mounted" => false,
        "processes" => true,
        other => {
            reader.fault("AMBIT_POD_NETWORKS", other, "must be mounted or processes");
            false
        }
    };
    let proc = reader.path("AMBIT_HOST_PROC", "/proc", "The processes of the node");
    let groups = reader.path(
        "AMBIT_HOST_CGROUPS",
        "/sys/fs/cgroup",
        "The control groups of the node, where nft looks",
    );
    if !is_node {
        return Tools { redirector, networks: Networks::Mounted(folder), probes: Probes::None };
    }
    let probes = Probes::Kubelet(Box::new(Host::new(&redirector, Finder { proc: proc.clone(), groups })));
    Tools { redirector, networks: Networks::Processes(Processes::new(proc)), probes }
}

/// The CNI plugin is installed where a folder for its entry is named.
fn plugin(reader: &mut Reader<'_>, namespace: &str) -> Option<Plugin> {
    let doc = "The runtime's CNI configuration, as the agent sees it; without it no plugin is installed";
    let conf_dir = reader.optional("AMBIT_CNI_CONF_DIR", doc).map(PathBuf::from);
    let bin_dir =
        reader.path("AMBIT_CNI_BIN_DIR", "/opt/cni/bin", "The runtime's CNI plugins, as the agent sees them");
    let program =
        reader.path("AMBIT_CNI_PLUGIN", "/ambit-cni", "The plugin's program that is installed there");
    let socket = reader.path(
        "AMBIT_CNI_SOCKET",
        "/var/run/ambit/cni.sock",
        "Where the plugin asks; a path of the node's",
    );
    let doc =
        "Namespaces whose pods start without the agent, separated by commas; its own is always one of them";
    let listed = reader.text("AMBIT_CNI_EXEMPT_NAMESPACES", "kube-system", doc);
    let mut exempt: BTreeSet<String> =
        listed.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    exempt.insert(namespace.to_owned());
    let doc = "What happens to starting pods while the agent is away: refuse (they wait) or allow (outside the mesh)";
    let when_away = reader.text("AMBIT_CNI_WHEN_AWAY", "refuse", doc);
    if !matches!(when_away.as_str(), "refuse" | "allow") {
        reader.fault("AMBIT_CNI_WHEN_AWAY", &when_away, "must be refuse or allow");
    }
    let within = Duration::from_secs(30);
    let doc = "How long a pod's start may wait for the ztunnel before the kubelet is told to try again";
    let within = reader.duration("AMBIT_CNI_WAIT", within, doc);
    let exempt_namespaces = exempt.into_iter().collect();
    let entry = Entry { socket: socket.clone(), exempt_namespaces, when_away, within };
    Some(Plugin { installation: Installation { program, bin_dir, conf_dir: conf_dir?, entry }, socket })
}

fn on_stop(reader: &mut Reader<'_>, place: (String, String)) -> OnStop {
    let doc = "The DaemonSet that the agent belongs to, on Kubernetes";
    let daemon_set = reader.optional("AMBIT_DAEMONSET", doc);
    let default = if daemon_set.is_some() { "ask" } else { "stay" };
    let doc = "What happens to pods and node when the agent stops: stay, leave, or ask (leave if AMBIT_DAEMONSET is deleted, or selects this node no longer)";
    match reader.text("AMBIT_ON_STOP", default, doc).as_str() {
        "stay" => OnStop::Always(Stop::Stay),
        "leave" => OnStop::Always(Stop::Leave),
        "ask" => asked(reader, place, daemon_set),
        other => {
            reader.fault("AMBIT_ON_STOP", other, "must be stay, leave or ask");
            OnStop::Always(Stop::Stay)
        }
    }
}

#[cfg(feature = "kubernetes")]
fn asked(reader: &mut Reader<'_>, (namespace, node): (String, String), daemon_set: Option<String>) -> OnStop {
    let Some(daemon_set) = daemon_set else {
        reader.fault("AMBIT_DAEMONSET", "", "must be named where AMBIT_ON_STOP is ask");
        return OnStop::Always(Stop::Stay);
    };
    OnStop::Asked { namespace, daemon_set, node }
}

#[cfg(not(feature = "kubernetes"))]
fn asked(reader: &mut Reader<'_>, _: (String, String), _: Option<String>) -> OnStop {
    reader.fault(
        "AMBIT_ON_STOP",
        "ask",
        "this program was built without it; build it with --features kubernetes",
    );
    OnStop::Always(Stop::Stay)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_missing_or_wrong_is_said_together() {
        let environment = BTreeMap::from([("AMBIT_RULES_CHECK".to_owned(), "soon".to_owned())]);
        let faults = Settings::read(&environment).unwrap_err().to_string();
        for name in ["NODE_NAME", "AMBIT_SOURCE_DIRS", "AMBIT_RULES_CHECK"] {
            assert!(faults.contains(name), "{faults}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let pairs = [("NODE_NAME", "n1"), ("AMBIT_SOURCE_DIRS", "/a")];
        let environment: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&environment).unwrap();
        assert_eq!(settings.socket, PathBuf::from("/var/run/ztunnel/ztunnel.sock"));
        assert!(matches!(settings.tools.networks, Networks::Mounted(_)), "the lab");
        assert!(settings.plugin.is_none());
    }

    #[test]
    fn a_node_of_kubernetes_has_a_plugin_and_a_kubelet() {
        let pairs = [
            ("NODE_NAME", "n1"),
            ("AMBIT_SOURCE_DIRS", "/a"),
            ("AMBIT_POD_NETWORKS", "processes"),
            ("AMBIT_CNI_CONF_DIR", "/host/etc/cni/net.d"),
            ("AMBIT_CNI_EXEMPT_NAMESPACES", "kube-system, registry,"),
            ("POD_NAMESPACE", "mesh"),
        ];
        let environment: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&environment).unwrap();
        assert!(matches!(settings.tools.probes, Probes::Kubelet(_)));
        assert_eq!(settings.on_stop, OnStop::Always(Stop::Stay));
        let entry = settings.plugin.unwrap().installation.entry;
        assert_eq!(entry.exempt_namespaces, ["kube-system", "mesh", "registry"]);
    }
}
