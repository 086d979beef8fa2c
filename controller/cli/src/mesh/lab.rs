//! A lab that runs on this machine, as its folder and the socket in it show it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_crds::{Loaded, load_beside};
use ambit_process::settings::ProcessEnvironment;
use serde::Deserialize;
use serde_json::json;

use super::http::Answer;
use crate::failure::Failure;
use crate::settings;

/// Where a running lab listens, in its folder.
const SOCKET: &str = "control.sock";

/// What a lab says about itself, in its folder.
const ABOUT: &str = "lab.json";

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lab {
    /// Its name.
    pub(crate) name: String,
    folder: PathBuf,
    sources: Vec<PathBuf>,
}

/// The part of what a lab says about itself that is read here.
#[derive(Deserialize)]
struct About {
    name: String,
    sources: Vec<PathBuf>,
}

impl Lab {
    /// The running lab of this name, or with this folder.
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        let folders: Vec<PathBuf> = match name.contains('/') {
            true => vec![PathBuf::from(name)],
            false => settings::labs(&ProcessEnvironment).iter().map(|labs| labs.join(name)).collect(),
        };
        folders.iter().find_map(|folder| Self::open(folder)).ok_or_else(|| {
            let running: Vec<String> = Self::running().into_iter().map(|lab| lab.name).collect();
            let others = match running.is_empty() {
                true => "none runs".to_owned(),
                false => format!("running: {}", running.join(", ")),
            };
            Failure::new(
                format!("there is no running lab {name} ({others})"),
                format!("ambit-lab up DIR --name {name} --detach"),
            )
        })
    }

    /// The one that runs, when no place is named.
    pub(crate) fn only() -> Result<Self, Failure> {
        let mut running = Self::running();
        match running.len() {
            1 => Ok(running.remove(0)),
            0 => Err(Failure::new(
                "no place is named and no lab runs on this machine",
                "name one with --dir DIR, --lab NAME or --live ADDRESS, or bring a lab up: ambit-lab up DIR --detach",
            )),
            _ => {
                let names: Vec<String> = running.into_iter().map(|lab| lab.name).collect();
                let says = format!("no place is named and several labs run: {}", names.join(", "));
                Err(Failure::new(says, format!("say which: --lab {}", names[0])))
            }
        }
    }

    /// Every running lab of this user, by name.
    fn running() -> Vec<Self> {
        let folders = settings::labs(&ProcessEnvironment).into_iter();
        let entries = folders.filter_map(|labs| fs::read_dir(labs).ok()).flatten().flatten();
        let mut labs: Vec<Self> = entries.filter_map(|entry| Self::open(&entry.path())).collect();
        labs.sort_by(|one, other| one.name.cmp(&other.name));
        labs
    }

    fn open(folder: &Path) -> Option<Self> {
        UnixStream::connect(folder.join(SOCKET)).ok()?;
        let about: About = serde_json::from_slice(&fs::read(folder.join(ABOUT)).ok()?).ok()?;
        Some(Self { name: about.name, folder: folder.to_owned(), sources: about.sources })
    }

    /// Its objects, as its controller reads them.
    pub(crate) fn objects(&self) -> Loaded {
        load_beside(&self.sources, &self.folder.join("state"))
    }

    /// What a program of its mesh shows at a path of its admin port.
    pub(crate) fn ask(&self, program: &str, path: &str) -> Result<Answer, Failure> {
        let failed = |cause: &dyn std::fmt::Display| {
            let says = format!("cannot ask {program} of lab {}: {cause}", self.name);
            let mend = format!("see whether it runs: ambit status --lab {}", self.name);
            Failure::new(says, mend)
        };
        let line = self.call(&json!({ "ask": [program, path] })).map_err(|error| failed(&error))?;
        let reply: Result<String, String> = serde_json::from_str(&line).map_err(|error| failed(&error))?;
        let answer = reply.map_err(|error| failed(&error))?;
        serde_json::from_str(&answer).map_err(|error| failed(&error))
    }

    fn call(&self, request: &serde_json::Value) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.folder.join(SOCKET))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{request}")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    }
}
