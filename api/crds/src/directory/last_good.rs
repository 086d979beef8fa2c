//! Last good versions on disk, one record per file of manifests, so that a restart agrees with what was in force before.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::meta::ObjectRef;

/// The folder of records.
#[derive(Clone, Debug)]
pub(super) struct LastGood {
    folder: PathBuf,
    access: Access,
}

/// Whose the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Ours.
    Keep,
    /// Another process keeps them.
    Look,
}

/// What was good in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The file.
    pub(super) path: PathBuf,
    /// Its good documents.
    pub(super) kept: Vec<Kept>,
}

/// A document and those of its objects of which it is the last good version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) line: u32,
    pub(super) index: u32,
    pub(super) text: String,
    pub(super) objects: Vec<ObjectRef>,
}

impl LastGood {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), access: Access::Keep })
    }

    /// The records of another process: nothing is written.
    pub(super) fn look(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), access: Access::Look }
    }

    /// The record of a file; a record that cannot be read counts as none.
    pub(super) fn load(&self, path: &Path) -> Option<Record> {
        read(&self.record(path)).filter(|record| record.path == path)
    }

    /// Every record of files in a folder.
    pub(super) fn of_folder(&self, folder: &Path) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let records = entries.flatten().filter_map(|entry| read(&entry.path()));
        records.filter(|record| record.path.parent() == Some(folder)).collect()
    }

    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        if self.access == Access::Look {
            return Ok(());
        }
        let text = serde_json::to_vec(record)?;
        replace(&self.record(&record.path), &text)
    }

    pub(super) fn remove(&self, path: &Path) {
        if self.access == Access::Look {
            return;
        }
        // A record that stays behind for a file that is gone is never read: its path no longer exists.
        let _ = fs::remove_file(self.record(path));
    }

    fn record(&self, path: &Path) -> PathBuf {
        let hash =
            path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        self.folder.join(format!("{hash:016x}.json"))
    }
}

fn read(path: &Path) -> Option<Record> {
    let text = fs::read(path).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Replaces a file in one step: a reader sees the old text or the new one, never half.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let short: String = name.chars().take(100).collect();
    let temporary = path.with_file_name(format!(".{short}.{}.{number}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    let written = file.write_all(text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
