//! The plugin on the node: its program among the runtime's plugins, its entry in the runtime's configuration, both kept that
//! way while the agent runs, and taken away when the mesh leaves the node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_process::readiness::Hold;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::chain::{self, ChainError, Edit, Files, Wish};
use super::plugin::NAME;

/// The longest configuration file that is read, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;
/// How often the folder is looked at even when nothing is heard of it.
const LOOK: Duration = Duration::from_secs(10);
/// How long a program that writes several files is given to finish.
const SETTLE: Duration = Duration::from_millis(50);

/// Where the plugin goes, and what its entry says.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The plugin's program in our own image.
    pub program: PathBuf,
    /// The runtime's plugins.
    pub bin_dir: PathBuf,
    /// The runtime's configuration.
    pub conf_dir: PathBuf,
    /// What our entry says.
    pub entry: Entry,
}

/// What the plugin is told by its entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The agent's socket, as the node sees it.
    pub socket: PathBuf,
    /// Namespaces whose pods are not asked about.
    pub exempt_namespaces: Vec<String>,
    /// `refuse` or `allow`.
    pub when_away: String,
    /// How long the agent may take.
    pub within: Duration,
}

/// Why the node is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file or folder of the node's.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// There is nothing to chain the plugin to.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// What tells a file from what replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(Self { inode: found.ino(), length: found.len(), changed })
    }
}

impl Entry {
    fn json(&self) -> Value {
        json!({
            "type": NAME,
            "socket": self.socket,
            "exemptNamespaces": self.exempt_namespaces,
            "whenAway": self.when_away,
            "waitSeconds": self.within.as_secs(),
        })
    }
}

impl Installation {
    /// Keeps the plugin where it belongs until `ended` says so, or its sender is gone. `first` is dropped when it is there.
    pub async fn keep(self, first: Hold, mut ended: oneshot::Receiver<()>) {
        let (heard, mut hearing) = mpsc::channel(1);
        let (mut first, mut last, mut seen) = (Some(first), None, None);
        let _watcher = watch(&self.conf_dir, heard).inspect_err(
            |error| warn!(%error, "changes of the CNI configuration are not heard, and noticed later"),
        );
        loop {
            let installation = self.clone();
            // Never left before its end: what follows may take away what it makes.
            let outcome = tokio::task::spawn_blocking(move || installation.install(seen)).await;
            let problem = match outcome {
                Ok(Ok(stamp)) => {
                    seen = Some(stamp);
                    first.take();
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => return,
            };
            if problem != last {
                match &problem {
                    Some(problem) => {
                        error!(%problem, "the CNI plugin is not in the runtime's chain; it is tried again");
                    }
                    None => info!("the CNI plugin is in the runtime's chain"),
                }
            }
            last = problem;
            // All ways of waking but the first mean the same: look again.
            tokio::select! {
                _ = &mut ended => return,
                _ = hearing.recv() => sleep(SETTLE).await,
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Puts program and entry where they belong. Blocking; changes nothing where nothing differs. The program is compared
    /// unless it is the very file that was `seen` to be right.
    pub fn install(&self, seen: Option<Stamp>) -> Result<Stamp, InstallError> {
        let target = self.bin_dir.join(NAME);
        if seen.is_none() || Stamp::of(&target).ok() != seen {
            let program = fs::read(&self.program).map_err(at(&self.program))?;
            if fs::read(&target).map_or(true, |installed| installed != program) {
                fs::create_dir_all(&self.bin_dir).map_err(at(&self.bin_dir))?;
                replace(&target, &program, 0o755).map_err(at(&target))?;
                info!(path = %target.display(), "CNI plugin installed");
            }
        }
        self.wish(&Wish::Chained(self.entry.json()))?;
        Stamp::of(&target).map_err(at(&target))
    }

    /// Takes the entry away, then the program. Blocking.
    pub fn remove(&self) -> Result<(), InstallError> {
        self.wish(&Wish::Absent)?;
        let target = self.bin_dir.join(NAME);
        match fs::remove_file(&target) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(at(&target)(cause)),
            _ => Ok(()),
        }
    }

    fn wish(&self, wish: &Wish) -> Result<(), InstallError> {
        let files = self.files()?;
        for edit in chain::plan(&files, wish)? {
            match edit {
                Edit::Write(name, bytes) => {
                    let path = self.conf_dir.join(&name);
                    // Whoever may read what was there may read what is there.
                    let like = [&name, name.trim_end_matches(chain::KEPT)];
                    let like = like.into_iter().find_map(|like| fs::metadata(self.conf_dir.join(like)).ok());
                    let mode = like.map_or(0o600, |found| found.permissions().mode() & 0o777);
                    replace(&path, &bytes, mode).map_err(at(&path))?;
                    info!(path = %path.display(), "CNI configuration written");
                }
                Edit::Remove(name) => {
                    let path = self.conf_dir.join(name);
                    fs::remove_file(&path).map_err(at(&path))?;
                    info!(path = %path.display(), "CNI configuration removed");
                }
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Files, InstallError> {
        let mut files = BTreeMap::new();
        let entries = match fs::read_dir(&self.conf_dir) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries.map_err(at(&self.conf_dir))?,
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_small_file =
                fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= FILE_LIMIT);
            if let (true, Some(name)) = (is_small_file, entry.file_name().to_str()) {
                files.insert(name.to_owned(), fs::read(&path).map_err(at(&path))?);
            }
        }
        Ok(files)
    }
}

/// Hears of every change of a folder's files; more of them at once are one. Our own looks are none.
fn watch(folder: &Path, heard: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        // Full means that a look is due anyway.
        let _ = heard.try_send(());
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Writes a file as a whole or not at all. The name in between is one that no runtime reads.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let between = path.with_file_name(format!(".{name}.ambit-new"));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&between)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&between, path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |cause| InstallError::File { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests;
