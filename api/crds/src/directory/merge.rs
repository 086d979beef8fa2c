//! One winner per object: later folders override earlier ones, the first of duplicates stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::{Entry, State, with_effect};
use super::folder::{Folder, Folders};
use crate::code::Code;
use crate::fault::{Effect, Fault, Severity};
use crate::kind::{Kind, Standing};
use crate::meta::{ObjectRef, Order};
use crate::object::{InvalidObject, Object};

/// What all folders say together.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) winners: BTreeMap<ObjectRef, Winner>,
    pub(super) faults: Vec<Fault>,
}

/// What is in force for one object.
#[derive(Clone, Debug)]
pub(super) enum Winner {
    /// This version, created with its first appearance.
    Valid(Arc<Object>, Order),
    /// No version was ever valid.
    Invalid(Arc<InvalidObject>),
}

pub(super) fn merge(folders: &Folders) -> Merged {
    let mut merged = Merged::default();
    for folder in &folders.folders {
        merged.faults.extend(folder.fault.clone());
        merged.lay_over(folder);
    }
    merged
}

impl Merged {
    fn lay_over(&mut self, folder: &Folder) {
        let mut first: BTreeMap<&ObjectRef, (&str, u32)> = BTreeMap::new();
        for (name, file) in &folder.files {
            self.faults.extend(file.faults.iter().cloned());
            for entry in &file.entries {
                if let Some((other, line)) = first.get(&entry.object) {
                    let place = folder.path.join(other);
                    let place = format!("{}:{line}", place.to_string_lossy());
                    self.faults.push(duplicate(&folder.path.join(name).to_string_lossy(), entry, &place));
                    continue;
                }
                first.insert(&entry.object, (name, entry.line));
                self.lay_one(entry);
            }
        }
    }

    fn lay_one(&mut self, entry: &Entry) {
        match &entry.state {
            State::Tombstone => {
                self.winners.remove(&entry.object);
            }
            State::Valid(object) => {
                let mut creation = object.meta().creation.clone();
                if let Some(Winner::Valid(_, earlier)) = self.winners.get(&entry.object) {
                    creation = creation.min(earlier.clone());
                }
                self.winners.insert(entry.object.clone(), Winner::Valid(object.clone(), creation));
            }
            State::Invalid(invalid) => self.lay_invalid(invalid),
        }
    }

    fn lay_invalid(&mut self, invalid: &Arc<InvalidObject>) {
        if let Some(Winner::Valid(..)) = self.winners.get(&invalid.object) {
            self.faults.push(with_effect(&invalid.fault, Effect::LastGoodStays));
            return;
        }
        if !matches!(invalid.object.kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication) {
            self.faults.push(with_effect(&invalid.fault, Effect::Skipped));
            return;
        }
        let fault = with_effect(&invalid.fault, Effect::Closes);
        self.faults.push(fault.clone());
        let closed = InvalidObject { fault, ..(**invalid).clone() };
        self.winners.insert(invalid.object.clone(), Winner::Invalid(Arc::new(closed)));
    }
}

fn duplicate(file: &str, entry: &Entry, first: &str) -> Fault {
    let enforced = entry.object.kind.standing() == Standing::Enforced;
    Fault {
        code: Code::Duplicate,
        file: file.to_owned(),
        line: entry.line,
        object: Some(entry.object.clone()),
        field: Some("metadata.name".to_owned()),
        message: format!("the same object stands at {first}, which stays in force"),
        mend: "remove or rename one of the two".to_owned(),
        effect: Effect::Skipped,
        severity: if enforced { Severity::Error } else { Severity::Warning },
    }
}
