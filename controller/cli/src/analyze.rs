//! `ambit analyze`: what is wrong or suspicious in folders of manifests, one line each, for people or programs.

mod show;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ambit_crds::document::suggest;
use ambit_crds::meta::ObjectRef;
use ambit_crds::{Code, Fault, Loaded, Severity, load_once};
use clap::{Args, ValueEnum};
use controller::analyze::{self, Finding};
use controller::settled::settle;

/// Manifests are taken as a cluster would have them once everything has settled: pods of Deployments and StatefulSets
/// exist, pods that ask for the mesh are captured, waypoints are up. Ends 0 if nothing is wrong for certain, 1 if something
/// is, 2 if that cannot be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of .yaml, .yml and .json files; later ones override earlier ones.
    #[arg(required_unless_present = "explain", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Instead: say what a code means and what to do about it.
    #[arg(long, value_name = "CODE", conflicts_with_all = ["directories", "output"])]
    explain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    #[value(alias = "text")]
    Table,
    Json,
    Yaml,
}

/// What was found, the worst first.
#[derive(Debug)]
struct Analysis {
    faults: Vec<Fault>,
    /// How many objects were looked at.
    objects: usize,
}

/// Prints the findings, or a code's page.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let to = &mut io::stdout().lock();
    let (worst, printed) = match &arguments.explain {
        Some(code) => match page(code) {
            Ok(page) => (0, to.write_all(page.as_bytes())),
            Err(message) => {
                eprintln!("ambit: {message}");
                return ExitCode::from(2);
            }
        },
        None => {
            let analysis = Analysis::of(load_once(&arguments.directories));
            (analysis.exit(), show::print(&analysis, arguments.output, to))
        }
    };
    match printed {
        Ok(()) => ExitCode::from(worst),
        Err(error) => {
            eprintln!("ambit: the findings cannot be printed: {error}; write them to a file that has room");
            ExitCode::from(2)
        }
    }
}

fn page(code: &str) -> Result<&'static str, String> {
    Code::find(code).map(Code::page).ok_or_else(|| {
        let names = || Code::ALL.iter().map(|code| code.name());
        let mend = match suggest(code, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => "codes stand in the second column of `ambit analyze DIR`".to_owned(),
        };
        format!("there is no code {code:?}; {mend}")
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
            let order = |fault: &Fault| (std::cmp::Reverse(fault.severity), fault.file.clone(), fault.line);
            order(one).cmp(&order(other)).then_with(|| one.cmp(other))
        });
        faults.dedup();
        Self { faults, objects: count }
    }

    fn count(&self, severity: Severity) -> usize {
        self.faults.iter().filter(|fault| fault.severity == severity).count()
    }

    /// What the program ends with.
    fn exit(&self) -> u8 {
        if self.faults.iter().any(|fault| fault.code == Code::FolderUnreadable) {
            2
        } else {
            u8::from(self.count(Severity::Error) > 0)
        }
    }
}
