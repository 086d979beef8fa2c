//! Programs that the lab needs from the system: found, installed where we may, or asked for.

use std::path::Path;
use std::process::Command;

use crate::run::{Failure, succeeds, variable};

/// A program, and the Debian package that holds it.
const TOOLS: [(&str, &str); 7] = [
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("curl", "curl"),
    ("cc", "gcc"),
    ("make", "make"),
];

/// Folders that hold programs but are not in everybody's PATH.
const SYSTEM: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Makes sure that every tool of the lab is there.
pub(crate) fn tools() -> Result<(), Failure> {
    require(&TOOLS)
}

/// Makes sure that programs are there, each given with the package that holds it.
pub(crate) fn require(tools: &[(&str, &'static str)]) -> Result<(), Failure> {
    let packages = missing(tools, |program| find(program).is_some());
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages)?;
    match missing(tools, |program| find(program).is_some()).as_slice() {
        [] => Ok(()),
        still => Err(Failure(format!("still missing after the installation: {}", still.join(" ")))),
    }
}

/// Installs packages of the system, or says how to.
pub(crate) fn install(packages: &[&str]) -> Result<(), Failure> {
    let names = packages.join(" ");
    if !is_root() || find("apt-get").is_none() {
        let command = format!("apt-get install -y --no-install-recommends {names}");
        return Err(Failure(format!("these packages are missing; as root, on Debian or Ubuntu: {command}")));
    }
    eprintln!("installing what is missing: {names}");
    succeeds(apt().args(["update", "-q"]))?;
    succeeds(apt().args(["install", "-q", "-y", "--no-install-recommends"]).args(packages))
}

/// Packages of those tools that are not there, each once.
fn missing(tools: &[(&str, &'static str)], present: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let absent = tools.iter().filter(|(program, _)| !present(program)).map(|(_, package)| *package);
    let mut packages: Vec<_> = absent.collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// The file of a program, given by name or by path.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(SYSTEM.split(':')).filter(|folder| !folder.is_empty());
    folders.find_map(|folder| Some(Path::new(folder).join(program)).filter(|file| file.is_file()))
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    apt
}

/// Whether we may do everything.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved, file system: the second decides.
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_its_package_once() {
        assert!(missing(&TOOLS, |_| true).is_empty());
        assert_eq!(missing(&TOOLS, |program| program != "nft"), ["nftables"]);
        assert_eq!(
            missing(&TOOLS, |program| !matches!(program, "unshare" | "nsenter" | "ip")),
            ["iproute2", "util-linux"]
        );
    }

    #[test]
    fn programs_are_found_where_they_are() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert!(find("no-program-has-this-name").is_none());
    }
}
