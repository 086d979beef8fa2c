//! Whether a file may have changed since it was read, by what its inode says.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// File systems keep time in ticks: a file younger than this when it was read may change again without a new time.
const TICK: Duration = Duration::from_millis(100);

/// A file younger than this may still be being written, and half a file may look like fewer objects.
pub(super) const SETTLE: Duration = Duration::from_millis(25);

/// A file that was emptied is most often about to be filled.
const SETTLE_EMPTY: Duration = Duration::from_millis(500);

/// Whether to wait for files that may still be being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Take what is there.
    Now,
    /// Leave such files for the next look.
    Settled,
}

/// What identifies a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Too young to be trusted: such a file is read again at the next look.
    young: bool,
    settling: bool,
}

impl Stamp {
    /// Takes the stamp; must be taken before the file is read.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let age =
            metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            young: age.is_none_or(|age| age < TICK),
            settling: age.is_some_and(|age| age < if metadata.size() == 0 { SETTLE_EMPTY } else { SETTLE }),
        }
    }

    /// Whether the file may still be being written.
    pub(super) fn is_settling(&self) -> bool {
        self.settling
    }

    /// Whether a file with this stamp now is surely the one read then.
    pub(super) fn is_still(&self, now: &Self) -> bool {
        !self.young && self.is_same(now)
    }

    /// Whether nothing that the inode tells differs.
    pub(super) fn is_same(&self, now: &Self) -> bool {
        (self.inode, self.size, self.modified, self.changed)
            == (now.inode, now.size, now.modified, now.changed)
    }
}
