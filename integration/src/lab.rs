//! A running lab, as tests, the demo and `ambit-lab` use it. Every call blocks until done.

pub(crate) mod changes;
pub(crate) mod pods;
mod programs;
mod settle;
mod status;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::address::NodeNumber;
use crate::component::{Component, Mesh, Programs, Stop, fits_socket, ztunnel_pod};
use crate::dns;
use crate::error::LabError;
use crate::manifest::Fault;
use crate::network::Network;
use crate::pod::{News, Pod};
use crate::process::lock;
use crate::space::Space;
use crate::state::{Folders, GRACE, State};
use crate::waypoint::Stamp;

/// File that marks a folder as one to be kept.
const KEPT: &str = "keep";
/// Time between looks at what the controller writes.
const LOOK: Duration = Duration::from_millis(50);

/// Where manifests come from.
#[derive(Clone, Debug)]
pub enum Manifests {
    /// A folder of YAML files.
    Folder(PathBuf),
    /// YAML in line; written into a folder of the lab's.
    Inline(String),
}

/// Whether the lab runs a mesh.
#[derive(Clone, Debug)]
pub enum MeshMode {
    /// Pods, Services and names only.
    Off,
    /// Controller, node agents and ztunnels too.
    On(Programs),
}

/// What a lab shall be.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Name; one lab of a name runs at a time.
    pub name: String,
    /// Manifests, later ones over earlier ones.
    pub manifests: Vec<Manifests>,
    /// Number of nodes.
    pub nodes: u8,
    /// The mesh.
    pub mesh: MeshMode,
    /// How long pods may take to be ready when the lab comes up; none does not wait.
    pub ready_within: Option<Duration>,
    /// Keeps the state folder (logs, generated objects) afterwards.
    pub keep: bool,
}

impl LabOptions {
    /// Two nodes and our own mesh, with manifests in line, under a name of this process.
    pub fn inline(manifests: impl Into<String>) -> Self {
        LabOptions {
            name: format!("run-{}", crate::settings::outside_pid().unwrap_or_else(std::process::id)),
            manifests: vec![Manifests::Inline(manifests.into())],
            nodes: 2,
            mesh: MeshMode::On(Programs::default()),
            ready_within: Some(Duration::from_secs(30)),
            keep: false,
        }
    }

    /// The same without a mesh.
    #[must_use]
    pub fn without_mesh(mut self) -> Self {
        self.mesh = MeshMode::Off;
        self
    }
}

/// A running lab; dropping it takes everything away.
pub struct Lab {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mesh: Mutex<Option<Mesh>>,
    pub(crate) network: Arc<Network>,
    folders: Folders,
    // Last, so that the folders go after everything that lives in them.
    _home: Home,
}

/// The lab's folders while it holds them; dropping it removes them.
struct Home {
    folders: Folders,
    keep: bool,
    lock: PathBuf,
    _locked: File,
}

impl Drop for Home {
    fn drop(&mut self) {
        for folder in ["netns", "nodes"] {
            // Gone with the mount namespace otherwise.
            let _unmounted =
                nix::mount::umount2(&self.folders.inside(folder), nix::mount::MntFlags::MNT_DETACH);
        }
        if !self.keep {
            // What cannot be removed now is removed by the next lab of this name.
            let _removed = std::fs::remove_dir_all(&self.folders.state);
            let _removed = std::fs::remove_file(&self.lock);
        }
    }
}

/// What the lab's own threads share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    changed: Condvar,
}

impl Lab {
    /// Brings a lab up. Manifests that cannot be used are in [`Lab::faults`]; everything else runs.
    pub fn up(options: LabOptions) -> Result<Self, LabError> {
        let home = make_folders(&options)?;
        let folders = home.folders.clone();
        let network = Arc::new(Network::create(&folders.state, options.nodes)?);
        let (news, inbox) = channel();
        let names = dns::Book::default();
        network.nodes.values().try_for_each(|node| dns::serve(node, &names))?;
        let mut state = State::new(folders.clone(), Arc::clone(&network), news, names);
        let mut mesh = match options.mesh {
            MeshMode::Off => None,
            MeshMode::On(programs) => Some(Mesh::prepare(programs, folders.clone())?),
        };
        if let Some(mesh) = &mut mesh {
            state.waypoints = Some(Arc::new(mesh.waypoints()));
            state.system = network
                .nodes
                .keys()
                .map(|node| ztunnel_pod(*node, &crate::expand::uid(&mut rand::rng())))
                .collect();
            state.publish()?;
            mesh.start(Component::Controller, &network, &[])?;
        }
        state.reconcile()?;
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        listen(&shared, inbox);
        follow_objects(&shared);
        let lab = Lab { shared, mesh: Mutex::new(mesh), network, folders, _home: home };
        lab.start_mesh()?;
        if let Some(limit) = options.ready_within {
            lab.wait_pods_ready(limit)?;
        }
        Ok(lab)
    }

    fn start_mesh(&self) -> Result<(), LabError> {
        let Some(mesh) = &mut *lock(&self.mesh) else { return Ok(()) };
        let pods = lock(&self.shared.state).system.clone();
        mesh.wait_root()?;
        let nodes: Vec<_> = self.network.nodes.keys().copied().collect();
        let others: Vec<_> =
            nodes.iter().flat_map(|node| [Component::Agent(*node), Component::Ztunnel(*node)]).collect();
        others.iter().try_for_each(|component| mesh.start(*component, &self.network, &pods))?;
        nodes.iter().try_for_each(|node| mesh.wait_ready(Component::Ztunnel(*node), &self.network))
    }

    /// Whether it runs a mesh.
    pub fn has_mesh(&self) -> bool {
        lock(&self.mesh).is_some()
    }

    /// The state folder.
    pub fn folder(&self) -> &Path {
        &self.folders.state
    }

    /// The folders that controller and agents read objects from; later ones stand over earlier ones.
    pub fn sources(&self) -> Vec<PathBuf> {
        self.folders.sources()
    }

    /// The folder of in-line manifests, which a test may write files into; see [`Lab::reload`].
    pub fn manifests(&self) -> PathBuf {
        self.folders.inside("manifests")
    }

    /// What could not be used, and why.
    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.shared.state).faults.clone()
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = NodeNumber> {
        self.network.nodes.keys().copied()
    }

    /// Network namespace of a node.
    pub fn node(&self, node: NodeNumber) -> Result<&Space, LabError> {
        self.network.nodes.get(&node).ok_or_else(|| LabError::Unknown(node.name()))
    }

    /// Network namespace of the control plane, also of use as a place outside the cluster (172.30.1.1).
    pub fn control(&self) -> &Space {
        &self.network.control
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mesh) = &mut *lock(&self.mesh) {
            for component in mesh.components() {
                // It may have been stopped or have ended by itself.
                let _stopped = mesh.stop(component, Stop::Killed);
            }
        }
        let mut state = lock(&self.shared.state);
        state.over = true;
        // Their wires go with the namespaces, all at once and much faster than one by one.
        let pods = std::mem::take(&mut state.pods);
        pods.values().for_each(Pod::ask_to_end);
        pods.values().for_each(|pod| pod.end(GRACE));
    }
}

/// Takes news of pods in, many at once.
fn listen(shared: &Arc<Shared>, inbox: Receiver<News>) {
    let shared = Arc::downgrade(shared);
    std::thread::spawn(move || {
        while let Ok(first) = inbox.recv() {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = lock(&shared.state);
            let mut changed = state.hear(&first);
            while let Ok(news) = inbox.try_recv() {
                changed |= state.hear(&news);
            }
            if changed && let Err(error) = state.publish() {
                eprintln!("ambit-lab: {error}");
            }
            shared.changed.notify_all();
        }
    });
}

/// Takes up what the controller writes, for as long as the lab is there.
fn follow_objects(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    std::thread::spawn(move || {
        while let Some(shared) = shared.upgrade() {
            {
                let mut state = lock(&shared.state);
                if !state.over && state.objects != Stamp::of(&state.folders.objects()) {
                    if let Err(error) = state.reconcile() {
                        eprintln!("ambit-lab: {error}");
                    }
                    shared.changed.notify_all();
                }
            }
            drop(shared);
            std::thread::sleep(LOOK);
        }
    });
}

/// Makes the lab's folders, clearing away what a lab of this name left behind.
fn make_folders(options: &LabOptions) -> Result<Home, LabError> {
    let state = crate::settings::runs().join(&options.name);
    if !fits_socket(&state.join("sockets/node-99.sock")) {
        return Err(LabError::Manifest(format!(
            "{} is too long for a socket's path; set AMBIT_LAB_DIR",
            state.display()
        )));
    }
    let failed = |what: &Path| LabError::system(format!("making {}", what.display()));
    std::fs::create_dir_all(crate::settings::runs()).map_err(failed(&state))?;
    clear_dead();
    let (lock, locked) = claim(&options.name)?;
    if state.exists() {
        std::fs::remove_dir_all(&state).map_err(LabError::system(format!("clearing {}", state.display())))?;
    }
    let folders = Folders { state: state.clone(), manifests: Vec::new() };
    let mut home = Home { folders, keep: options.keep, lock, _locked: locked };
    for name in
        ["generated", "applied", "state/objects", "tokens", "ca", "logs", "sockets", "resolver", "manifests"]
    {
        std::fs::create_dir_all(state.join(name)).map_err(failed(&state))?;
    }
    let manifests = &mut home.folders.manifests;
    for (index, source) in options.manifests.iter().enumerate() {
        match source {
            Manifests::Folder(folder) => {
                manifests.push(
                    folder
                        .canonicalize()
                        .map_err(LabError::system(format!("opening {}", folder.display())))?,
                );
            }
            Manifests::Inline(text) => {
                let folder = state.join("manifests");
                std::fs::write(folder.join(format!("inline-{index}.yaml")), text).map_err(failed(&folder))?;
                manifests.push(folder);
            }
        }
    }
    manifests.dedup();
    let outside = crate::settings::outside_pid().unwrap_or_else(std::process::id);
    let sources = home.folders.sources();
    let about = serde_json::json!({"name": options.name, "pid": outside, "state": state, "sources": sources})
        .to_string();
    if options.keep {
        std::fs::write(state.join(KEPT), "").map_err(failed(&state))?;
    }
    std::fs::write(state.join("lab.json"), about).map_err(failed(&state))?;
    Ok(home)
}

/// Removes what labs of this user left behind that did not end by themselves: folders whose lock nobody holds.
fn clear_dead() {
    for entry in std::fs::read_dir(crate::settings::runs()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kept = entry.path().join(KEPT).exists();
        if name.starts_with('.') || kept || !entry.path().join("lab.json").exists() {
            continue;
        }
        if let Ok((lock, _locked)) = claim(&name) {
            // What cannot be removed is in nobody's way.
            let _removed = std::fs::remove_dir_all(entry.path());
            let _removed = std::fs::remove_file(lock);
        }
    }
}

/// Makes sure that no other lab of this name runs, for as long as the file stays open.
fn claim(name: &str) -> Result<(PathBuf, File), LabError> {
    let path = crate::settings::runs().join(format!(".{name}.lock"));
    let file = File::create(&path).map_err(LabError::system(format!("opening {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok((path, file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(LabError::Manifest(format!(
            "a lab named {name} is running; take it down first (cargo xtask lab down --name {name}), or choose another --name"
        ))),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(LabError::System { what: format!("locking {}", path.display()), source })
        }
    }
}
