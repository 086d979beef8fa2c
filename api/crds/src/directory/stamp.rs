//! Whether a file may have changed since it was read, by what its inode says.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// File systems keep time in ticks: a file younger than this when it was read may change again without a new time.
const TICK: Duration = Duration::from_millis(100);

/// What identifies a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Too young to be trusted: such a file is read again at the next look.
    young: bool,
}

impl Stamp {
    /// Takes the stamp; must be taken before the file is read.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let age = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            young: age.is_none_or(|age| age < TICK),
        }
    }

    /// Whether a file with this stamp now is surely the one read then.
    pub(super) fn is_still(&self, now: &Self) -> bool {
        !self.young
            && (self.inode, self.size, self.modified, self.changed)
                == (now.inode, now.size, now.modified, now.changed)
    }
}
