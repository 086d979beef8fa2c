//! `ambit analyze`: what is wrong or suspicious in folders of manifests, one line each, for people or programs.

mod show;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use ambit_crds::document::suggest;
use ambit_crds::meta::ObjectRef;
use ambit_crds::{Code, Fault, Loaded, Severity, load_once};
use clap::Args;
use controller::analyze::{self, Finding};
use controller::settled::settle;

use crate::failure::{End, Failure};
use crate::output::{self, Output};

/// Manifests are taken as a cluster would have them once everything has settled: pods of Deployments and StatefulSets
/// exist, pods that ask for the mesh are captured, waypoints are up.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of .yaml, .yml and .json files; later ones override earlier ones.
    #[arg(required_unless_present = "explain", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Instead: say what a code means and what to do about it.
    #[arg(long, value_name = "CODE", conflicts_with = "directories")]
    explain: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// What was found, the worst first.
#[derive(Debug)]
struct Analysis {
    faults: Vec<Fault>,
    /// How many objects were looked at.
    objects: usize,
}

/// Prints the findings, or a code's page.
pub(crate) fn run(arguments: &Arguments) -> Result<End, Failure> {
    if let Some(code) = &arguments.explain {
        let page = page(code)?;
        io::stdout().lock().write_all(page.as_bytes()).map_err(|error| output::unprintable(&error))?;
        return Ok(End::Yes);
    }
    let analysis = Analysis::of(load_once(&arguments.directories));
    output::print(&analysis, arguments.output.format)?;
    Ok(analysis.end())
}

fn page(code: &str) -> Result<&'static str, Failure> {
    Code::find(code).map(Code::page).ok_or_else(|| {
        let names = || Code::ALL.iter().map(|code| code.name());
        let mend = match suggest(code, names()) {
            Some(near) => format!("ambit analyze --explain {near}"),
            None => "codes stand in the second column of: ambit analyze DIR".to_owned(),
        };
        Failure::new(format!("there is no code {code:?}"), mend)
    })
}

impl Analysis {
    fn of(loaded: Loaded) -> Self {
        let Loaded { objects, invalid, mut faults, places } = loaded;
        let count = objects.len() + invalid.len();
        for fault in faults.iter_mut().filter(|fault| fault.code == Code::FolderUnreadable) {
            // Whoever watches the folder says that it will be tried again; nobody does here.
            fault.mend = "name a folder that exists, may be read and holds fewer files".to_owned();
        }
        let settled = settle(objects, invalid);
        let mut found: BTreeMap<ObjectRef, Vec<Finding>> = BTreeMap::new();
        for finding in analyze::all(&settled.translator) {
            found.entry(finding.object.clone()).or_default().push(finding);
        }
        for (object, findings) in found {
            // One that is written nowhere was made up.
            let fields = findings.iter().map(|finding| finding.field.as_deref());
            let Some((file, lines)) = places.lines(&object, fields) else { continue };
            faults.extend(findings.into_iter().zip(lines).map(|(finding, line)| finding.at(&file, line)));
        }
        faults.sort_by(|one, other| {
            let order = |fault: &Fault| (Reverse(fault.severity), fault.file.clone(), fault.line);
            order(one).cmp(&order(other)).then_with(|| one.cmp(other))
        });
        faults.dedup();
        Self { faults, objects: count }
    }

    fn count(&self, severity: Severity) -> usize {
        self.faults.iter().filter(|fault| fault.severity == severity).count()
    }

    /// 0 if nothing is wrong for certain, 1 if something is, 2 if a folder could not be read.
    fn end(&self) -> End {
        if self.faults.iter().any(|fault| fault.code == Code::FolderUnreadable) {
            End::Unknown
        } else if self.count(Severity::Error) > 0 {
            End::No
        } else {
            End::Yes
        }
    }
}
