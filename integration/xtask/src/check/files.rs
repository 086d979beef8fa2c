//! The files of the project: what git tracks or would track.

use std::path::Path;
use std::process::Command;

use crate::run::Failure;

/// Folders of generated Rust, which no house rule binds.
const GENERATED: [&str; 3] = ["api/src/wire/", "api/discovery/src/rpc/", "controller/src/rpc/"];

/// One file, by its path from the root, with its text.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Rust that people wrote.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs") && !GENERATED.iter().any(|folder| self.path.starts_with(folder))
    }

    /// Rust that ships or serves development, and is not a test.
    pub(crate) fn is_product(&self) -> bool {
        let tests = self.path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz"));
        self.is_rust() && !tests && !self.path.ends_with("/tests.rs")
    }
}

/// Every text file that git tracks or that is new and not ignored.
pub(crate) fn tracked(root: &Path) -> Result<Vec<File>, Failure> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().map_err(|error| Failure::new("git ls-files", error))?;
    if !output.status.success() {
        return Err(Failure::new("git ls-files", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    // A file that was deleted and not yet committed is still listed; one that is not UTF-8 has no text to judge.
    let read = |path: &str| {
        Some(File { path: path.to_owned(), text: std::fs::read_to_string(root.join(path)).ok()? })
    };
    Ok(names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files() {
        let cases = [
            ("api/src/wire.rs", true, true),
            ("api/src/wire/workload.rs", false, false),
            ("controller/src/rpc/auth.rs", false, false),
            ("ztunnel/src/dial.rs", true, true),
            ("ztunnel/src/dial/tests.rs", true, false),
            ("integration/tests/enrol.rs", true, false),
            ("integration/src/pod.rs", true, true),
            ("README.md", false, false),
        ];
        for (path, rust, product) in cases {
            let file = File { path: path.to_owned(), text: String::new() };
            assert_eq!((file.is_rust(), file.is_product()), (rust, product), "{path}");
        }
    }
}
