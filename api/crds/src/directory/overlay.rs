//! Annotations that were written back, laid over the objects as they are read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::stamp::Stamp;
use crate::kind::Kind;
use crate::meta::{Map, ObjectRef};

/// All that was written back.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    folder: Option<PathBuf>,
    overlays: BTreeMap<ObjectRef, (Stamp, Arc<Overlay>)>,
}

/// Annotations of one object; those that are null are removed from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Overlay {
    /// Only the object with this UID is meant: a successor of the same name starts without.
    pub(super) uid: String,
    pub(super) annotations: BTreeMap<String, Option<String>>,
}

impl Overlays {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: Some(folder.to_owned()), overlays: BTreeMap::new() })
    }

    /// What another process wrote back: nothing is written.
    pub(super) fn look(folder: &Path) -> Self {
        let mut overlays = Self { folder: Some(folder.to_owned()), overlays: BTreeMap::new() };
        overlays.refresh();
        overlays
    }

    /// The folder, to be watched.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Takes up what has changed.
    pub(super) fn refresh(&mut self) {
        let Some(entries) = self.folder.as_deref().and_then(|folder| fs::read_dir(folder).ok()) else {
            return;
        };
        let mut before = std::mem::take(&mut self.overlays);
        for entry in entries.flatten() {
            let Some(object) = entry.file_name().to_str().and_then(object_of) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else { continue };
            let stamp = Stamp::of(&metadata);
            let old = before.remove(&object);
            let fresh = match old {
                Some((then, overlay)) if then.is_still(&stamp) => Some(overlay),
                // One that cannot be read is half gone; the last one read is the better guess.
                old => load(&entry.path()).map(Arc::new).or(old.map(|(_, overlay)| overlay)),
            };
            if let Some(overlay) = fresh {
                self.overlays.insert(object, (stamp, overlay));
            }
        }
    }

    /// What is laid over an object with this UID.
    pub(super) fn of(&self, object: &ObjectRef, uid: &str) -> Option<&Arc<Overlay>> {
        self.overlays.get(object).map(|(_, overlay)| overlay).filter(|overlay| overlay.uid == uid)
    }

    /// Removes what was written back for an object that is gone.
    pub(super) fn forget(&mut self, object: &ObjectRef, uid: &str) {
        if self.of(object, uid).is_some() {
            self.overlays.remove(object);
            if let Some(folder) = &self.folder {
                let _ = fs::remove_file(folder.join(file_name(object)));
            }
        }
    }
}

impl Overlay {
    pub(super) fn apply(&self, annotations: &mut Map) {
        for (key, value) in &self.annotations {
            match value {
                Some(value) => annotations.insert(key.clone(), value.clone()),
                None => annotations.remove(key),
            };
        }
    }
}

pub(super) fn load(path: &Path) -> Option<Overlay> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// `Kind.namespace.name.json`; kinds and namespaces have no dots.
pub(super) fn file_name(object: &ObjectRef) -> String {
    format!("{}.{}.{}.json", object.kind.id(), object.namespace, object.name)
}

fn object_of(file: &str) -> Option<ObjectRef> {
    let mut parts = file.strip_suffix(".json")?.splitn(3, '.');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ObjectRef::new(Kind::from_id(kind)?, namespace, name))
}
