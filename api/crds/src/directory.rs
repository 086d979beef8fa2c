//! The directory source: folders of manifests, watched; later folders override earlier ones.

use std::path::PathBuf;
use std::sync::Arc;

use crate::fault::Fault;
use crate::object::{InvalidObject, Object};
use crate::source::{Source, Started};

/// Folders of manifests and the folder for what is written back.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// Reads folders once, without a memory of earlier versions.
pub fn load_once(directories: &[PathBuf]) -> Loaded {
    let _ = directories;
    Loaded::default()
}

impl Source for DirectorySource {
    fn start(self: Box<Self>) -> std::io::Result<Started> {
        Err(std::io::Error::other("not built yet"))
    }
}
