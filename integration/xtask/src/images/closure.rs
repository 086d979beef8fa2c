//! Programs of the system with every library that they load, for images of programs that start them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::archive::Entry;
use crate::run::Failure;
use crate::setup;

/// The files that these programs need, at the paths where they look for them.
pub(super) fn of(programs: &[&str]) -> Result<Vec<Entry>, Failure> {
    let mut files = BTreeMap::new();
    for name in programs {
        let found = setup::find(name).ok_or_else(|| Failure::new(name, "is in no folder of programs"))?;
        let program = found.canonicalize().map_err(|error| Failure::new(found.display(), error))?;
        // Where the image's PATH leads, wherever this machine keeps it.
        files.insert(format!("usr/sbin/{name}"), program.clone());
        for library in libraries(&program)? {
            files.insert(library.trim_start_matches('/').to_owned(), PathBuf::from(library));
        }
    }
    files.into_iter().map(|(path, source)| Entry::program(path, &source)).collect()
}

/// The libraries that a program loads, at the paths where it looks for them.
pub(super) fn libraries_of(program: &Path) -> Result<Vec<Entry>, Failure> {
    let paths = libraries(program)?;
    paths.iter().map(|path| Entry::program(path.trim_start_matches('/'), Path::new(path))).collect()
}

/// What the system's loader loads for a program: paths of libraries, the loader's own among them.
fn libraries(program: &Path) -> Result<Vec<String>, Failure> {
    let mut ldd = Command::new("ldd");
    let output =
        ldd.arg(program).stdin(Stdio::null()).output().map_err(|error| Failure::new("ldd", error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text)
        .map_err(|missing| Failure::new(program.display(), format!("its library {missing} is missing")))
}

/// Reads what ldd prints; the error is the first library that it does not find.
fn read(printed: &str) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    for line in printed.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        // The one without a path is the kernel's own; a program without libraries has a line that says so.
        paths.extend(place.split_whitespace().next().filter(|path| path.starts_with('/')).map(str::to_owned));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ldd_prints_is_read() {
        let printed = "\tlinux-vdso.so.1 (0x00007f0af9e2f000)\n\
            \tlibnftables.so.1 => /lib/x/libnftables.so.1 (0x00007f0af9d3c000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f0af9e31000)\n";
        assert_eq!(read(printed).unwrap(), ["/lib/x/libnftables.so.1", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(read("\tstatically linked\n").unwrap(), Vec::<String>::new());
        assert_eq!(read("\tliba.so => not found\n").unwrap_err(), "liba.so");
    }

    #[test]
    fn a_program_of_the_system_comes_with_its_loader() {
        let files = of(&["tar"]).unwrap();
        assert!(files.iter().any(|file| file.path == "usr/sbin/tar"));
        assert!(files.iter().all(|file| !file.path.starts_with('/') && !file.bytes.is_empty()));
        assert!(of(&["no-program-has-this-name"]).is_err());
        let own = libraries_of(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.iter().any(|file| file.path.contains("libc.so")), "a test loads the C library");
    }
}
