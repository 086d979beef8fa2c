//! The directory source: folders of manifests, watched; later folders override earlier ones.
//!
//! Folders → [`file`] (documents and their last good versions) → [`merge`] (one winner per object) → [`deliver`]
//! (annotations laid over, changes only) → the channel.

mod deliver;
mod file;
mod folder;
mod last_good;
mod merge;
mod overlay;
mod places;
mod stamp;
mod text;
mod watch;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::Fault;
use crate::object::{InvalidObject, Object};
use crate::source::{Source, SourceEvent, Started};

use deliver::Delivered;
use folder::Folders;
use last_good::LastGood;
use overlay::Overlays;

pub use places::Places;

/// How many events wait for a slow reader before the source waits too.
const CHANNEL: usize = 1024;

/// Folders of manifests and the folder for what is written back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectorySource {
    /// Folders, later ones overriding earlier ones.
    pub directories: Vec<PathBuf>,
    /// Where annotations, events, conditions and last good versions are kept.
    pub state: PathBuf,
}

/// What folders hold at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Objects in force, in order of creation.
    pub objects: Vec<Arc<Object>>,
    /// Policies of which no version was ever valid.
    pub invalid: Vec<Arc<InvalidObject>>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Where they are written.
    pub places: Places,
}

/// Reads folders once, without a memory of earlier versions and without anything written back.
pub fn load_once(directories: &[PathBuf]) -> Loaded {
    load(Folders::new(directories, None), &Overlays::default())
}

/// Reads folders once, as the mesh sees them that keeps this state folder: with its earlier versions and with what it has
/// written back. Nothing is written.
pub fn load_beside(directories: &[PathBuf], state: &Path) -> Loaded {
    let last_good = LastGood::look(&state.join("last-good"));
    load(Folders::new(directories, Some(last_good)), &Overlays::look(&state.join("annotations")))
}

fn load(mut folders: Folders, overlays: &Overlays) -> Loaded {
    folders.refresh(stamp::Patience::Now);
    let merged = merge::merge(&folders);
    let mut delivered = Delivered::default();
    let places = Places::of(&folders);
    let mut loaded = Loaded { faults: merged.faults.clone(), places, ..Loaded::default() };
    for event in delivered.update(merged, overlays).events {
        match event {
            SourceEvent::Applied(object) => loaded.objects.push(object),
            SourceEvent::Invalid(object) => loaded.invalid.push(object),
            _ => {}
        }
    }
    loaded.objects.sort_by(|a, b| a.meta().creation.cmp(&b.meta().creation));
    loaded
}

impl Source for DirectorySource {
    fn start(self: Box<Self>) -> io::Result<Started> {
        let last_good = LastGood::open(&self.state.join("last-good"))?;
        let overlays = Overlays::open(&self.state.join("annotations"))?;
        let status = Arc::new(writer::Writer::open(&self.state)?);
        let folders = Folders::new(&self.directories, Some(last_good));
        watch::start(watch::Parts { folders, overlays, status })
    }
}

#[cfg(test)]
mod tests;
