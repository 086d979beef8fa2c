//! One lab per competitor, all up at once and equal but for the proxies, so that rounds can be interleaved.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{self, Measured, Window};
use super::proxies::Proxies;
use super::wire::{SINK, WEB};
use crate::address::NodeNumber;
use crate::component::{Component, Kind, Programs};
use crate::error::LabError;
use crate::lab::pods::PodHandle;
use crate::lab::{Lab, LabOptions, MeshMode};

/// How long the first request through a mesh may take to succeed.
const FIRST: Duration = Duration::from_secs(15);

/// Time before idle memory is read.
const RESTING: Duration = Duration::from_millis(500);

/// Log filter of both sides: each proxy writes its line per connection.
pub(super) const LOG: &str = "info";

/// Ports for connections that are made by the ten thousand; the same in every lab.
const PORTS: &str = "20000 65535";

/// What carries the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Competitor {
    /// The pods' own sockets.
    NoMesh,
    /// Our ztunnel: the one beside this program, or this one.
    Ours(Option<PathBuf>),
    /// Another ztunnel.
    Foreign(PathBuf),
}

/// A lab with a client pod on one node and a server pod on the other.
pub(super) struct Arena {
    lab: Lab,
    client: PodHandle,
    server: std::net::IpAddr,
    proxies: Proxies,
}

/// Memory of one proxy.
pub(super) struct Memory {
    /// Bytes with two enrolled pods and no connection.
    pub(super) idle: f64,
    /// Bytes more per open connection.
    pub(super) per_connection: f64,
}

impl Competitor {
    /// Column head.
    pub(super) fn name(&self) -> String {
        match self {
            Self::NoMesh => "no mesh".to_owned(),
            Self::Ours(_) => "ours".to_owned(),
            Self::Foreign(path) => path.file_name().map_or_else(|| path.display().to_string(), file_words),
        }
    }

    pub(super) fn has_proxies(&self) -> bool {
        *self != Self::NoMesh
    }

    fn mesh(&self, workers: usize) -> MeshMode {
        let programs = match self {
            Self::NoMesh => return MeshMode::Off,
            Self::Ours(None) => Programs::default(),
            Self::Ours(Some(path)) | Self::Foreign(path) => Programs::with_ztunnel(path),
        };
        let workers = workers.to_string();
        MeshMode::On(programs.set(Kind::Ztunnel, "ZTUNNEL_WORKER_THREADS", &workers).set(
            Kind::Ztunnel,
            "RUST_LOG",
            LOG,
        ))
    }
}

fn file_words(name: &std::ffi::OsStr) -> String {
    format!("foreign {}", name.to_string_lossy())
}

/// Worker threads of each proxy: as ours would choose, told to both.
pub(super) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4)
}

impl Arena {
    pub(super) fn up(competitor: &Competitor, number: usize) -> Result<Self, LabError> {
        let program = std::env::current_exe().map_err(LabError::system("finding this program"))?;
        let mut options = LabOptions::inline(manifests(&program));
        options.name = format!("{}-bench-{number}", options.name);
        options.mesh = competitor.mesh(workers());
        let lab = Lab::up(options)?;
        let (client, server) = (lab.pod("bench/client")?, lab.pod("bench/server")?);
        for pod in [&client, &server] {
            let widen = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", PORTS);
            lab.in_pod(pod, widen).map_err(LabError::system("widening the range of ports"))?;
        }
        let mut arena = Self { lab, client, server: server.address.v4.into(), proxies: Proxies::default() };
        if competitor.has_proxies() {
            arena.proxies_ready()?;
        }
        Ok(arena)
    }

    fn proxies_ready(&mut self) -> Result<(), LabError> {
        self.lab.settled()?;
        self.proxies = Proxies(ztunnels().into_iter().filter_map(|one| self.lab.pid(one)).collect());
        Ok(())
    }

    fn web(&self) -> SocketAddr {
        (self.server, WEB).into()
    }

    /// Runs one load from the client pod.
    pub(super) fn measure(
        &self,
        load: fn(SocketAddr, usize, &Window) -> std::io::Result<Measured>,
        port: u16,
        width: usize,
        time: Duration,
    ) -> Result<Measured, LabError> {
        let (to, proxies) = (SocketAddr::new(self.server, port), self.proxies.clone());
        let window = Window { warm: time / 4, time, usage: Box::new(move || proxies.usage()) };
        let measured = self.lab.in_pod(&self.client, move || load(to, width, &window));
        let measured = measured.map_err(LabError::system(format!("{width} connections to {to}")))?;
        if !self.proxies.0.is_empty() && measured.cpu == 0.0 {
            return Err(LabError::Manifest(format!(
                "the proxies did nothing: {} went past them",
                measured.count
            )));
        }
        Ok(measured)
    }

    /// Starts both proxies anew and reads their memory, idle and with open connections.
    pub(super) fn memory(&mut self, connections: usize) -> Result<Memory, LabError> {
        for ztunnel in ztunnels() {
            self.lab.restart(ztunnel)?;
        }
        self.proxies_ready()?;
        std::thread::sleep(RESTING);
        let idle = self.proxies.resident();
        let (to, proxies) = (self.web(), self.proxies.clone());
        let held = self.lab.in_pod(&self.client, move || {
            client::reach(to, FIRST)?;
            let before = client::hold(to, 1, || proxies.resident())?;
            client::hold(to, connections, || (proxies.resident() - before) / connections as f64)
        });
        let per_connection = held.map_err(LabError::system(format!("holding {connections} connections")))?;
        Ok(Memory { idle, per_connection })
    }

    /// Waits until the way from client to server is open.
    pub(super) fn reach(&self) -> Result<(), LabError> {
        let to = self.web();
        let reached = self.lab.in_pod(&self.client, move || client::reach(to, FIRST));
        reached.map_err(LabError::system("the first request"))
    }
}

fn ztunnels() -> [Component; 2] {
    [1, 2].map(|node| Component::Ztunnel(NodeNumber(node)))
}

fn manifests(program: &Path) -> String {
    let program = serde_json::json!(program.to_string_lossy());
    let marker = crate::standin::MARKER;
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: bench, labels: {{istio.io/dataplane-mode: ambient}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: bench, labels: {{app: client}}}}
spec:
  nodeName: node-1
  containers: [{{name: client, image: none, command: [sleep, infinity]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: server, namespace: bench, labels: {{app: server}}}}
spec:
  nodeName: node-2
  containers:
    - name: server
      image: none
      command: [{program}, {marker}, bench-server]
      ports: [{{containerPort: {WEB}}}, {{containerPort: {SINK}}}]
      readinessProbe: {{tcpSocket: {{port: {SINK}}}, periodSeconds: 1}}
"#
    )
}
