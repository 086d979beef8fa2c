//! Tar archives, byte for byte the same for the same files.

use std::fs;
use std::path::Path;

use crate::run::Failure;

/// Archives consist of blocks of this many bytes.
const BLOCK: usize = 512;

/// The longest path of a file in an archive of this kind.
const LONGEST: usize = 100;

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// From the root, without a slash before it.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

impl Entry {
    /// A file that everybody may read.
    pub(super) fn data(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes: bytes.into() }
    }

    /// A file of this machine that everybody may run.
    pub(super) fn program(path: impl Into<String>, source: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(source).map_err(|error| Failure::new(source.display(), error))?;
        Ok(Self { path: path.into(), mode: 0o755, bytes })
    }
}

/// Writes an archive of files that were all changed at the same second.
pub(super) fn write(entries: &[Entry], epoch: u64) -> Result<Vec<u8>, Failure> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(header(entry, epoch)?);
        archive.extend(&entry.bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end it.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

/// A file's header, as POSIX 1003.1-1988 ("ustar") lays it out.
fn header(entry: &Entry, epoch: u64) -> Result<[u8; BLOCK], Failure> {
    if entry.path.len() > LONGEST {
        return Err(Failure::new(&entry.path, "too long a path for an image"));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &entry.path);
    put(100, &format!("{:07o}", entry.mode));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", entry.bytes.len()));
    put(136, &format!("{epoch:011o}"));
    // The sum counts its own place as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_what_tar_reads() {
        let folder = std::env::temp_dir().join(format!("ambit-archive-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let entries = [
            Entry::data("etc/empty", ""),
            Entry { path: "program".to_owned(), mode: 0o755, bytes: vec![b'x'; 700] },
        ];
        let archive = write(&entries, 86400).unwrap();
        assert_eq!(archive, write(&entries, 86400).unwrap());
        assert_ne!(archive, write(&entries, 86401).unwrap());
        fs::write(folder.join("a.tar"), &archive).unwrap();
        let mut tar = std::process::Command::new("tar");
        let listed =
            tar.current_dir(&folder).env("TZ", "UTC").args(["--numeric-owner", "-tvf", "a.tar"]).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        let lines: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["-rw-r--r--", "0/0", "0", "1970-01-02", "00:00", "etc/empty"]);
        assert_eq!(lines[1], ["-rwxr-xr-x", "0/0", "700", "1970-01-02", "00:00", "program"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        assert!(write(&[Entry::data("x".repeat(100), "")], 0).is_ok());
        assert!(write(&[Entry::data("x".repeat(101), "")], 0).is_err());
    }
}
