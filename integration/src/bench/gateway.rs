//! `bench l7`: one lab per competitor, all up at once: a client, a server, and between them nothing, our waypoint's plain
//! listener, Envoy with the same routes, or the whole mesh.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::client::{self, Measured, Window};
use super::proxies::Proxies;
use super::wire::WEB;
use super::{envoy, manifests};
use crate::address::NodeNumber;
use crate::component::{Component, Kind, Programs};
use crate::error::LabError;
use crate::lab::pods::PodHandle;
use crate::lab::{Lab, LabOptions, MeshMode};

/// How long the first request may take to succeed.
const FIRST: Duration = Duration::from_secs(30);

/// Time before idle memory is read.
const RESTING: Duration = Duration::from_millis(500);

/// Where proxies take plain HTTP.
pub(super) const PORT: u16 = 8080;

/// What stands between client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Between {
    Nothing,
    /// Our waypoint's plain listener.
    Ours(Option<PathBuf>),
    /// This Envoy.
    Envoy(PathBuf),
    /// The client's ztunnel, our waypoint and the server's ztunnel.
    Mesh(Option<PathBuf>),
}

/// A lab with a client, a server and what stands between them.
pub(super) struct Stage {
    lab: Lab,
    client: PodHandle,
    to: SocketAddr,
    proxies: Proxies,
    pinned: bool,
    /// Resident bytes before the first request.
    idle: f64,
    /// Ends with this.
    _envoy: Option<Envoy>,
}

/// Envoy in a pod of the lab.
struct Envoy {
    child: Child,
    folder: PathBuf,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself; nobody measures it any more.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

impl Between {
    /// Column head.
    pub(super) fn name(&self) -> String {
        let name = match self {
            Self::Nothing => "no proxy",
            Self::Ours(_) => "ours",
            Self::Envoy(_) => "Envoy",
            Self::Mesh(_) => "whole mesh, ours",
        };
        name.to_owned()
    }

    pub(super) fn has_proxies(&self) -> bool {
        *self != Self::Nothing
    }

    fn mesh(&self) -> MeshMode {
        let (Self::Ours(program) | Self::Mesh(program)) = self else { return MeshMode::Off };
        let mut programs = Programs::default();
        programs.files.extend(program.clone().map(|file| (Kind::Waypoint, file)));
        MeshMode::On(programs.set(Kind::Waypoint, "WAYPOINT_WORKER_THREADS", "1").set(
            Kind::Ztunnel,
            "ZTUNNEL_WORKER_THREADS",
            "1",
        ))
    }
}

impl Stage {
    pub(super) fn up(between: &Between, number: usize) -> Result<Self, LabError> {
        let program = std::env::current_exe().map_err(LabError::system("finding this program"))?;
        let mut options = LabOptions::inline(manifests::of(&program, between));
        options.name = format!("{}-bench7-{number}", options.name);
        options.mesh = between.mesh();
        let lab = Lab::up(options)?;
        let (client, server) = (lab.pod("bench/client")?, lab.pod("bench/server")?);
        let server_at = IpAddr::V4(server.address.v4);
        let mut stage = Self {
            to: (server_at, WEB).into(),
            client,
            proxies: Proxies::default(),
            pinned: !matches!(between, Between::Mesh(_)),
            idle: f64::NAN,
            _envoy: None,
            lab,
        };
        match between {
            Between::Nothing => {}
            Between::Ours(_) | Between::Mesh(_) => stage.find_waypoint(between)?,
            Between::Envoy(program) => stage.start_envoy(program, server_at)?,
        }
        if stage.pinned {
            stage.proxies.0.iter().try_for_each(|pid| pin_process(*pid))?;
        }
        if between.has_proxies() {
            std::thread::sleep(RESTING);
            stage.idle = stage.proxies.resident();
        }
        let to = stage.to;
        stage.run(move || client::reach_through(to, FIRST)).map_err(LabError::system("the first request"))?;
        Ok(stage)
    }

    fn find_waypoint(&mut self, between: &Between) -> Result<(), LabError> {
        self.lab.settled()?;
        let gone = || LabError::Unknown("the waypoint's pod".to_owned());
        let pod = self.lab.waypoints().into_iter().next().ok_or_else(gone)?;
        self.proxies = Proxies(self.lab.processes(&pod));
        if let Between::Mesh(_) = between {
            let ztunnels = [1, 2].map(|node| Component::Ztunnel(NodeNumber(node)));
            self.proxies.0.extend(ztunnels.into_iter().filter_map(|one| self.lab.pid(one)));
            let service = self.lab.service("bench/server")?;
            self.to = service.map(|pair| (IpAddr::V4(pair.v4), WEB).into()).ok_or_else(gone)?;
        } else {
            self.to = (IpAddr::V4(pod.address.v4), PORT).into();
        }
        Ok(())
    }

    fn start_envoy(&mut self, program: &Path, server: IpAddr) -> Result<(), LabError> {
        let pod = self.lab.pod("bench/proxy")?;
        let folder = std::env::temp_dir().join(format!("ambit-bench-{}", std::process::id()));
        let file = folder.join("envoy.json");
        let configuration = envoy::configuration((server, WEB).into(), PORT).to_string();
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, configuration))
            .map_err(LabError::system(format!("writing {}", file.display())))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).args(envoy::ARGUMENTS);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = self.lab.spawn_in(&pod, command)?;
        self.proxies = Proxies(vec![child.id()]);
        self._envoy = Some(Envoy { child, folder });
        self.to = (IpAddr::V4(pod.address.v4), PORT).into();
        // It is up once it answers; its memory is read after that, as ours is read once it is ready.
        let to = self.to;
        let up = self.run(move || client::connectable(to, FIRST));
        up.map_err(LabError::system("waiting for Envoy"))
    }

    /// Runs a load from the client pod, on the CPUs that are left to it.
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let pinned = self.pinned;
        self.lab.in_pod(&self.client, move || {
            if pinned {
                pin(Pid::from_raw(0), Side::Rest)?;
            }
            job()
        })
    }

    /// Kept connections through whatever stands between.
    pub(super) fn measure(&self, width: usize, time: Duration) -> Result<Measured, LabError> {
        let (to, proxies) = (self.to, self.proxies.clone());
        let window = Window { warm: time / 4, time, usage: Box::new(move || proxies.usage()) };
        if self.pinned {
            // The server's process began before anybody knew where it should run.
            let server = self.lab.pod("bench/server")?;
            for pid in self.lab.processes(&server) {
                pin(Pid::from_raw(pid as i32), Side::Rest).map_err(LabError::system("pinning the server"))?;
            }
        }
        let measured = self.run(move || client::through(to, width, &window));
        measured.map_err(LabError::system(format!("{width} connections to {to}")))
    }

    pub(super) fn idle(&self) -> f64 {
        self.idle
    }
}

/// Which CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The first one: the proxy's.
    Proxy,
    /// All the others: client and server.
    Rest,
}

/// Whether the machine has CPUs enough to give a proxy one of its own.
pub(super) fn pins() -> bool {
    cpus() > 1
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn pin(thread: Pid, side: Side) -> std::io::Result<()> {
    if !pins() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    let chosen = match side {
        Side::Proxy => 0..1,
        Side::Rest => 1..cpus(),
    };
    chosen.into_iter().try_for_each(|cpu| set.set(cpu))?;
    Ok(sched_setaffinity(thread, &set)?)
}

/// Every thread of a proxy on the proxy's CPU; threads made later inherit it.
fn pin_process(pid: u32) -> Result<(), LabError> {
    let failed = || LabError::system(format!("pinning process {pid}"));
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed())?.flatten() {
        if let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) {
            pin(Pid::from_raw(thread), Side::Proxy).map_err(failed())?;
        }
    }
    Ok(())
}
