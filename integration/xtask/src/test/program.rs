//! Test programs: built by cargo, run from here in their package's folder, as cargo would.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::run::{ALL_FEATURES, Failure, Workspace, name};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Of the test target.
    pub(super) name: String,
    /// Whose it is.
    pub(super) package: String,
    /// The package's folder.
    pub(super) folder: PathBuf,
    pub(super) file: PathBuf,
}

/// What came of one that was run to its end.
#[derive(Debug)]
pub(super) struct Run {
    /// All it said, its errors last.
    pub(super) output: String,
    pub(super) outcome: Result<(), Failure>,
}

/// Builds the programs of these targets (none are all), in cargo's order of packages.
pub(super) fn build(workspace: &Workspace, targets: &[String]) -> Result<Vec<Program>, Failure> {
    let mut tests = workspace.cargo();
    tests.args(["test", "--release", "--workspace", ALL_FEATURES]);
    tests.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let output = tests.args(targets).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::new(name(&tests), error))?;
    if !output.status.success() {
        return Err(Failure::new(name(&tests), output.status));
    }
    let mut programs: Vec<_> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| read(line, &workspace.packages))
        .collect();
    let order =
        |program: &Program| workspace.packages.iter().position(|package| package["name"] == program.package);
    programs.sort_by_key(|program| (order(program), program.name.clone()));
    Ok(programs)
}

/// A program out of one of cargo's messages; most are about other things.
fn read(message: &str, packages: &[Value]) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let package = packages.iter().find(|package| package["id"] == message["package_id"])?;
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        package: package["name"].as_str()?.to_owned(),
        folder: Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf(),
        file: message["executable"].as_str()?.into(),
    })
}

impl Program {
    fn command(&self, environment: &BTreeMap<&'static str, OsString>) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).envs(environment);
        command.stdin(Stdio::null());
        command
    }

    /// Runs it; each line of its output is passed through and handed on.
    pub(super) fn stream(
        &self,
        environment: &BTreeMap<&'static str, OsString>,
        hear: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(&self.name, error);
        println!("== {}: {}", self.package, self.name);
        let began = Instant::now();
        let mut child = self.command(environment).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| Failure(format!("{} has no output", self.name)))?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            hear(&line);
        }
        let status = child.wait().map_err(failed)?;
        println!("== {} took {:.1} s", self.name, began.elapsed().as_secs_f32());
        if status.success() { Ok(()) } else { Err(Failure(status.to_string())) }
    }

    /// Runs it to its end.
    pub(super) fn collect(&self, environment: &BTreeMap<&'static str, OsString>) -> Run {
        let began = Instant::now();
        let output = match self.command(environment).output() {
            Ok(output) => output,
            Err(error) => return Run { output: String::new(), outcome: Err(Failure(error.to_string())) },
        };
        let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let (name, took) = (&self.name, began.elapsed().as_secs_f32());
        let all = format!("== {}: {name}\n{said}{errors}== {name} took {took:.1} s", self.package);
        let well = output.status.success();
        Run { output: all, outcome: if well { Ok(()) } else { Err(Failure(output.status.to_string())) } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Program, read};

    #[test]
    fn programs_are_found_among_the_messages() {
        let packages =
            [json!({"id": "lab 1", "name": "ambit-lab", "manifest_path": "/there/integration/Cargo.toml"})];
        let message = |test: bool, executable: &str| {
            json!({"reason": "compiler-artifact", "package_id": "lab 1", "profile": {"test": test},
                   "target": {"name": "enrol"}, "executable": executable})
            .to_string()
        };
        let expected = Program {
            name: "enrol".to_owned(),
            package: "ambit-lab".to_owned(),
            folder: "/there/integration".into(),
            file: "/there/enrol-1".into(),
        };
        assert_eq!(read(&message(true, "/there/enrol-1"), &packages), Some(expected));
        assert_eq!(read(&message(false, "/there/enrol"), &packages), None);
        assert_eq!(read(&message(true, "/there/enrol-1"), &[]), None);
        assert_eq!(read("{\"reason\": \"build-finished\"}", &packages), None);
        assert_eq!(read("no message", &packages), None);
    }
}
