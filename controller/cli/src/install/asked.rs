//! What an installation is asked to be: flags and files read into values.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Arguments, operator};
use crate::chart::{self, Wanted};
use crate::failure::Failure;

/// Values, and what is to be said of how they came about.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) values: Value,
    pub(super) remarks: Vec<String>,
}

impl Asked {
    pub(super) fn read(arguments: &Arguments) -> Result<Self, Failure> {
        let mut remarks = Vec::new();
        let mut wanted =
            Wanted { profile: arguments.profile, files: Vec::new(), sets: arguments.sets.clone() };
        for file in &arguments.files {
            let said = read(file)?;
            if !operator::is_one(&said) {
                wanted.files.push(said);
                continue;
            }
            let understood = operator::read(&said);
            if let Some(profile) = understood.profile {
                wanted.profile = profile;
            }
            let name = file.display();
            remarks.extend(understood.left.into_iter().map(|left| format!("{name}: {left}")));
            wanted.files.push(understood.values);
        }
        let values = wanted.values()?;
        remarks.extend(operator::mesh(&values["mesh"])?);
        Ok(Self { values, remarks })
    }
}

fn read(file: &Path) -> Result<Value, Failure> {
    let name = file.display();
    let mend = || "write values, as `ambit install --show-values` prints them, or one IstioOperator";
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::new(format!("{name} cannot be read: {error}"), "name another one: -f FILE")
    })?;
    let documents =
        chart::documents(&text).map_err(|says| Failure::new(format!("{name}: {says}"), mend()))?;
    let operators = documents.iter().filter(|one| operator::is_one(one)).count();
    match (documents.len(), operators) {
        (0, _) => Ok(Value::Object(serde_json::Map::new())),
        (1, _) => Ok(documents.into_iter().next().unwrap_or_default()),
        // A guide's file may hold what is applied with kubectl, too.
        (_, 1) => Ok(documents.into_iter().find(operator::is_one).unwrap_or_default()),
        (many, _) => Err(Failure::new(format!("{name} has {many} documents"), mend())),
    }
}
