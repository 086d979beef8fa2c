//! Where each object and each of its fields is written: asked for after reading, so only the documents asked about are read
//! once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::State;
use super::folder::Folders;
use crate::document;
use crate::meta::ObjectRef;

/// Where objects are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places(BTreeMap<ObjectRef, Written>);

/// Where one object is written.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    file: Arc<str>,
    line: u32,
    /// Its document, and that document's first line.
    text: Arc<str>,
    first_line: u32,
    /// Its place, where the document is a list.
    item: usize,
}

impl Places {
    pub(super) fn of(folders: &Folders) -> Self {
        let mut places = BTreeMap::new();
        for folder in &folders.folders {
            let mut own: BTreeMap<ObjectRef, Written> = BTreeMap::new();
            for file in folder.files.values() {
                for (entry, text, first_line, item) in file.written() {
                    // An invalid version replaces no valid one of an earlier folder.
                    let hidden =
                        matches!(entry.state, State::Invalid(_)) && places.contains_key(&entry.object);
                    if !hidden {
                        let written = Written { file: file.name(), line: entry.line, text, first_line, item };
                        own.entry(entry.object.clone()).or_insert(written);
                    }
                }
            }
            places.extend(own);
        }
        Self(places)
    }

    /// The file, and the line of a field (from 1; the object's own where the field is not written). Of several fields at once,
    /// because the document is read for them.
    pub fn lines<'a>(
        &self,
        object: &ObjectRef,
        fields: impl Iterator<Item = Option<&'a str>>,
    ) -> Option<(Arc<str>, Vec<u32>)> {
        let written = self.0.get(object)?;
        let document = document::parse(&written.text, written.first_line).ok();
        let node = document.as_ref().map(|document| document.object(written.item));
        let line = |field: Option<&str>| {
            field.zip(node).and_then(|(field, node)| node.line_of(field)).unwrap_or(written.line)
        };
        Some((written.file.clone(), fields.map(line).collect()))
    }
}
