//! The mesh's own programs in the lab: where each runs, with what settings, and when it is ready.

mod mesh;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::address::NodeNumber;
use crate::error::LabError;
use crate::network::Network;
use crate::space::Space;
use crate::state::Folders;

pub(crate) use mesh::{Mesh, XDS_PORT, ztunnel_pod};

/// Namespace of the mesh's own pods.
pub const SYSTEM: &str = "ambit-system";

/// One of the mesh's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The controller.
    Controller,
    /// The node agent of a node.
    Agent(NodeNumber),
    /// The ztunnel of a node.
    Ztunnel(NodeNumber),
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Controller => formatter.write_str("controller"),
            Component::Agent(node) => write!(formatter, "agent/{}", node.name()),
            Component::Ztunnel(node) => write!(formatter, "ztunnel/{}", node.name()),
        }
    }
}

impl FromStr for Component {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        let unknown =
            || LabError::Unknown(format!("component {text:?} (controller, agent/node-1, ztunnel/node-1, …)"));
        let node = |name: &str| name.strip_prefix("node-")?.parse().ok().map(NodeNumber);
        match text.split_once('/') {
            None if text == "controller" => Ok(Component::Controller),
            Some(("agent", name)) => node(name).map(Component::Agent).ok_or_else(unknown),
            Some(("ztunnel", name)) => node(name).map(Component::Ztunnel).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

impl Component {
    fn log(self, folders: &Folders) -> PathBuf {
        folders.inside("logs").join(format!("{}.log", self.to_string().replace('/', "-")))
    }

    fn kind(self) -> Kind {
        match self {
            Component::Controller => Kind::Controller,
            Component::Agent(_) => Kind::Agent,
            Component::Ztunnel(_) => Kind::Ztunnel,
        }
    }

    fn space(self, network: &Network) -> Result<&Space, LabError> {
        match self {
            Component::Controller => Ok(&network.control),
            Component::Agent(node) | Component::Ztunnel(node) => {
                network.nodes.get(&node).ok_or_else(|| LabError::Unknown(node.name()))
            }
        }
    }

    /// Where its readiness, metrics and administration are served, in its own network namespace.
    pub fn address(self, service: Served) -> SocketAddr {
        let port = match (self, service) {
            (Component::Agent(_), _) => 15022,
            (Component::Controller, _) => 15014,
            (Component::Ztunnel(_), Served::Administration) => 15000,
            (Component::Ztunnel(_), Served::Metrics) => 15020,
            (Component::Ztunnel(_), Served::Readiness) => 15021,
        };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }
}

/// What a program serves over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// `/config_dump`, `/logging` and the like.
    Administration,
    /// `/metrics`.
    Metrics,
    /// `/healthz/ready`.
    Readiness,
}

/// The sorts of the mesh's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The controller.
    Controller,
    /// Node agents.
    Agent,
    /// ztunnels.
    Ztunnel,
    /// Waypoints, which run in pods.
    Waypoint,
}

/// The programs and settings of a mesh.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Program files that replace ours.
    pub files: BTreeMap<Kind, PathBuf>,
    /// Settings on top of the lab's, by sort of program.
    pub settings: Vec<(Kind, String, String)>,
}

impl Programs {
    /// Our programs, with this one in place of our ztunnel.
    pub fn with_ztunnel(file: impl Into<PathBuf>) -> Self {
        Programs { files: BTreeMap::from([(Kind::Ztunnel, file.into())]), settings: Vec::new() }
    }

    /// Adds a setting for one sort of program.
    #[must_use]
    pub fn set(mut self, kind: Kind, name: &str, value: &str) -> Self {
        self.settings.push((kind, name.to_owned(), value.to_owned()));
        self
    }

    fn file(&self, kind: Kind) -> Result<PathBuf, LabError> {
        let file = self.path(kind);
        if file.is_file() { Ok(file) } else { Err(LabError::Program(file)) }
    }

    /// Where a program is looked for.
    fn path(&self, kind: Kind) -> PathBuf {
        let name = match kind {
            Kind::Controller => "controller",
            Kind::Agent => "ambit-node-agent",
            Kind::Ztunnel => "ztunnel",
            Kind::Waypoint => "waypoint",
        };
        let foreign = || crate::settings::foreign_ztunnel().filter(|_file| kind == Kind::Ztunnel);
        let named = self.files.get(&kind).cloned().or_else(foreign);
        named.unwrap_or_else(|| crate::settings::programs().join(name))
    }
}

/// How a program is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGKILL.
    Killed,
    /// SIGTERM, and SIGKILL when that did not help in time.
    Asked,
}

/// Last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// One program's answer over HTTP.
pub(crate) fn ask(
    component: Component,
    network: &Network,
    service: Served,
    method: &'static str,
    path: &str,
) -> Result<crate::http::Answer, LabError> {
    let (address, path) = (component.address(service), path.to_owned());
    let what = format!("asking {component} for {path}");
    component
        .space(network)?
        .run(move || crate::http::request(method, address, &path, Duration::from_secs(5)))
        .map_err(LabError::system(what))
}

/// Whether a path can hold a Unix socket's name.
pub(crate) fn fits_socket(path: &Path) -> bool {
    path.as_os_str().len() < 100
}
