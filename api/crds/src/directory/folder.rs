//! The list of folders: which files they hold now.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::File;
use super::last_good::LastGood;
use super::stamp::Patience;
use crate::code::Code;
use crate::fault::{Effect, Fault, Severity};

/// The most files of one folder that are read.
const MAX_FILES: usize = 20_000;

/// All folders, in order.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) folders: Vec<Folder>,
    last_good: Option<LastGood>,
}

/// One folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    rank: u64,
    /// Files by name.
    pub(super) files: BTreeMap<String, File>,
    /// What is wrong with the folder itself.
    pub(super) fault: Option<Fault>,
    looked: bool,
}

impl Folders {
    pub(super) fn new(paths: &[PathBuf], last_good: Option<LastGood>) -> Self {
        let folders = paths.iter().zip(0..).map(|(path, rank)| Folder {
            path: path.clone(),
            rank,
            files: BTreeMap::new(),
            fault: None,
            looked: false,
        });
        Self { folders: folders.collect(), last_good }
    }

    /// Takes up what has changed. Tells whether something must be looked at again soon.
    pub(super) fn refresh(&mut self, patience: Patience) -> bool {
        let mut again = false;
        for folder in &mut self.folders {
            again |= folder.refresh(self.last_good.as_ref(), patience);
        }
        again
    }
}

impl Folder {
    fn refresh(&mut self, last_good: Option<&LastGood>, patience: Patience) -> bool {
        let names = match list(&self.path) {
            Ok(names) => names,
            Err(error) => {
                self.keep(&error, last_good);
                return false;
            }
        };
        let gone = self.files.extract_if(.., |name, _| names.binary_search(name).is_err());
        for (name, _) in gone {
            if let Some(last_good) = last_good {
                last_good.remove(&self.path.join(name));
            }
        }
        if !self.looked {
            self.forget_removed(&names, last_good);
        }
        self.looked = true;
        self.fault = self.remark(&names);
        let mut again = false;
        for name in names.into_iter().take(MAX_FILES) {
            let path = self.path.join(&name);
            let file = self.files.entry(name).or_insert_with(|| File::new(&path, self.rank, last_good));
            again |= file.refresh(last_good, patience);
        }
        again
    }

    /// A folder that cannot be listed keeps what it held: a policy must not vanish with a mount.
    fn keep(&mut self, error: &io::Error, last_good: Option<&LastGood>) {
        let mut effect = Effect::None;
        if let (false, Some(last_good)) = (self.looked, last_good) {
            for record in last_good.of_folder(&self.path) {
                let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut file = File::new(&record.path, self.rank, Some(last_good));
                file.revive();
                self.files.insert(name, file);
            }
        }
        self.looked = true;
        if !self.files.is_empty() {
            effect = Effect::LastGoodStays;
        }
        let mend = "create it or give read permission; it is tried again every second";
        let message = format!("cannot be read: {error}");
        let finding = self.finding(Code::FolderUnreadable, Severity::Error, &message, mend);
        self.fault = Some(Fault { effect, ..finding });
    }

    /// Records of files that went away while nothing watched.
    fn forget_removed(&self, names: &[String], last_good: Option<&LastGood>) {
        let Some(last_good) = last_good else { return };
        for record in last_good.of_folder(&self.path) {
            let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if names.binary_search(&name).is_err() {
                last_good.remove(&record.path);
            }
        }
    }

    fn remark(&self, names: &[String]) -> Option<Fault> {
        if names.is_empty() {
            let message = "holds no manifests";
            let mend = "put .yaml, .yml or .json files there";
            return Some(self.finding(Code::FolderEmpty, Severity::Note, message, mend));
        }
        let message = format!("holds {} files, only the first {MAX_FILES} are read", names.len());
        let mend = "put more documents into one file";
        (names.len() > MAX_FILES)
            .then(|| self.finding(Code::FolderUnreadable, Severity::Error, &message, mend))
    }

    fn finding(&self, code: Code, severity: Severity, message: &str, mend: &str) -> Fault {
        Fault {
            code,
            file: self.path.to_string_lossy().into_owned(),
            line: 0,
            object: None,
            field: None,
            message: message.to_owned(),
            mend: mend.to_owned(),
            effect: Effect::None,
            severity,
        }
    }
}

/// The names of a folder's manifests, sorted; what begins with a dot is an editor's or a tool's.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let manifest = matches!(ending, "yaml" | "yml" | "json") && !name.starts_with('.');
        if manifest && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
