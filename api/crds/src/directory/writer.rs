//! Writes back into the state folder: annotations, events and conditions.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::last_good::replace;
use super::overlay;
use crate::meta::ObjectRef;
use crate::status::{Condition, Event, StatusWriter};

/// The events file is begun anew at this size; one older file is kept.
const MAX_EVENTS_BYTES: u64 = 1024 * 1024;

/// Objects of our own, as manifests: whoever reads this folder as a source finds them like any other.
const OBJECTS: &str = "objects";

/// The writer of one state folder.
#[derive(Debug)]
pub(super) struct Writer {
    state: PathBuf,
    /// UIDs of the objects in force; the lock also keeps two writes to one file apart.
    uids: Mutex<BTreeMap<ObjectRef, String>>,
}

impl Writer {
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        fs::create_dir_all(state.join("annotations"))?;
        fs::create_dir_all(state.join("status"))?;
        fs::create_dir_all(state.join(OBJECTS))?;
        Ok(Self { state: state.to_owned(), uids: Mutex::default() })
    }

    /// Learns that an object is in force (or, without a UID, gone).
    pub(super) fn learn(&self, object: &ObjectRef, uid: Option<&str>) {
        let mut uids = self.lock();
        match uid {
            Some(uid) => uids.insert(object.clone(), uid.to_owned()),
            None => uids.remove(object),
        };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectRef, String>> {
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other processes that write into this folder away until the file is dropped: agent and controller may change
    /// the same object, and each writes what it read.
    fn alone(&self) -> io::Result<fs::File> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.state.join(".lock"))?;
        file.lock()?;
        Ok(file)
    }
}

impl StatusWriter for Writer {
    fn annotate(&self, object: &ObjectRef, key: &str, value: Option<&str>) -> io::Result<()> {
        let uids = self.lock();
        let Some(uid) = uids.get(object) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{object} does not exist")));
        };
        let _alone = self.alone()?;
        let path = self.state.join("annotations").join(overlay::file_name(object));
        let before = overlay::load(&path).filter(|overlay| overlay.uid == *uid);
        let mut after = before.clone().unwrap_or_default();
        uid.clone_into(&mut after.uid);
        after.annotations.insert(key.to_owned(), value.map(str::to_owned));
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        replace(&path, &serde_json::to_vec(&after)?)
    }

    fn event(&self, event: &Event) -> io::Result<()> {
        let _one_at_a_time = self.lock();
        let _alone = self.alone()?;
        let path = self.state.join("events.jsonl");
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= MAX_EVENTS_BYTES) {
            fs::rename(&path, self.state.join("events.1.jsonl"))?;
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        OpenOptions::new().create(true).append(true).open(&path)?.write_all(&line)
    }

    fn conditions(&self, object: &ObjectRef, conditions: &[Condition]) -> io::Result<()> {
        let _one_at_a_time = self.lock();
        let path = self.state.join("status").join(overlay::file_name(object));
        if conditions.is_empty() {
            return remove(&path);
        }
        replace(&path, &serde_json::to_vec(&serde_json::json!({ "conditions": conditions }))?)
    }

    fn own(&self, object: &ObjectRef, manifest: Option<&Value>) -> io::Result<()> {
        let _one_at_a_time = self.lock();
        let path = self.state.join(OBJECTS).join(overlay::file_name(object));
        let Some(manifest) = manifest else {
            return remove(&path);
        };
        let before = fs::read(&path).ok();
        let mut manifest = manifest.clone();
        keep_replicas(&mut manifest, before.as_deref());
        let text = serde_json::to_vec_pretty(&manifest)?;
        // A file that says the same already is left alone: its readers would take it for a change.
        if before.is_some_and(|before| before == text) { Ok(()) } else { replace(&path, &text) }
    }
}

/// How many replicas there are stays as others wrote it, where we do not say, as with server-side apply.
fn keep_replicas(manifest: &mut Value, before: Option<&[u8]>) {
    let before: Option<Value> = before.and_then(|text| serde_json::from_slice(text).ok());
    let replicas = before.and_then(|before| before.pointer("/spec/replicas").cloned());
    let spec = manifest.get_mut("spec").and_then(Value::as_object_mut);
    if let Some((replicas, spec)) = replicas.zip(spec) {
        spec.entry("replicas").or_insert(replicas);
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::*;
    use crate::kind::Kind;

    #[test]
    fn two_writers_of_one_object_lose_nothing() {
        let scratch = Scratch::new("two-writers");
        let pod = ObjectRef::new(Kind::Pod, "shop", "web");
        let write = |name: &'static str| {
            // Each has a lock of its own, as two processes do.
            let writer = Writer::open(&scratch.path("state")).unwrap();
            writer.learn(&pod, Some("uid-1"));
            let pod = pod.clone();
            std::thread::spawn(move || {
                for number in 0..200 {
                    writer.annotate(&pod, &format!("{name}-{number}"), Some("yes")).unwrap();
                }
            })
        };
        for thread in ["agent", "controller"].map(write) {
            thread.join().unwrap();
        }
        let path = scratch.path("state").join("annotations").join(overlay::file_name(&pod));
        assert_eq!(overlay::load(&path).unwrap().annotations.len(), 400);
    }

    #[test]
    fn an_object_of_our_own_is_one_file_and_goes_with_it() {
        let scratch = Scratch::new("own");
        let writer = Writer::open(&scratch.path("state")).unwrap();
        let object = ObjectRef::new(Kind::Deployment, "shop", "waypoint");
        let path = scratch.path("state").join("objects/Deployment.shop.waypoint.json");
        for replicas in [1, 2] {
            let manifest = serde_json::json!({"kind": "Deployment", "spec": {"replicas": replicas}});
            writer.own(&object, Some(&manifest)).unwrap();
            let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(read, manifest);
        }
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let same: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        writer.own(&object, Some(&same)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "nothing to write");
        let silent = serde_json::json!({"kind": "Deployment", "spec": {"paused": true}});
        writer.own(&object, Some(&silent)).unwrap();
        let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["spec"], serde_json::json!({"paused": true, "replicas": 2}), "others' number stays");
        for _ in 0..2 {
            writer.own(&object, None).unwrap();
            assert!(!path.exists());
        }
    }
}
