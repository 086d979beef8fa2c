//! Running other programs: cargo, and the lab that it built.

use std::fmt::Display;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Why a command failed, as its user should read it.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// Where programs can read objects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From folders: all that the lab needs, and half of the dependencies.
    Folders,
    /// From clusters, too, as shipped programs do.
    Clusters,
}

/// What makes cargo build programs that reach clusters.
pub(crate) const ALL_FEATURES: &str = "--all-features";

/// The workspace as cargo describes it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// The members, as `cargo metadata` prints them.
    pub(crate) packages: Vec<Value>,
    pub(crate) target: PathBuf,
}

impl Failure {
    pub(crate) fn new(what: impl Display, why: impl Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl Workspace {
    /// Asks cargo where everything is (which is how its target folder setting is respected).
    pub(crate) fn open() -> Result<Self, Failure> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]).stderr(Stdio::inherit());
        let output = metadata.output().map_err(|error| Failure::new("cargo metadata", error))?;
        let value: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| Failure::new("cargo metadata", error))?;
        let path = |key: &str| value[key].as_str().map(PathBuf::from);
        let folders = path("workspace_root").zip(path("target_directory"));
        let (root, target) = folders.ok_or_else(|| Failure("cargo metadata names no folders".to_owned()))?;
        Ok(Self { root, packages: value["packages"].as_array().cloned().unwrap_or_default(), target })
    }

    /// Builds every program, the same way for every command that needs no cluster.
    pub(crate) fn build(&self) -> Result<(), Failure> {
        self.build_with(Reach::Folders)
    }

    /// Builds every program.
    pub(crate) fn build_with(&self, reach: Reach) -> Result<(), Failure> {
        eprintln!("building Ambit: some minutes the first time, seconds afterwards …");
        let mut build = self.cargo();
        build.args(["build", "--release", "--workspace", "--bins"]);
        if reach == Reach::Clusters {
            build.arg(ALL_FEATURES);
        }
        succeeds(&mut build)
    }

    /// Builds one program as it is shipped (link-time optimisation): what speed is measured with.
    pub(crate) fn build_shipped(&self, program: &str) -> Result<PathBuf, Failure> {
        eprintln!("building {program} as it is shipped …");
        succeeds(self.cargo().args(["build", "--profile", "dist", "--package", program, "--bin", program]))?;
        Ok(self.target.join("dist").join(program))
    }

    /// Cargo in the workspace's folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = cargo();
        cargo.current_dir(&self.root);
        cargo
    }

    /// Builds one program with its way to clusters, and the Gateway API's definitions in it if there are any.
    pub(crate) fn build_for_clusters(
        &self,
        program: &str,
        definitions: Result<PathBuf, Failure>,
    ) -> Result<(), Failure> {
        let mut build = self.cargo();
        build.args(["build", "--release", "--package", program, "--bin", program]);
        match definitions {
            Ok(file) => drop(build.env("AMBIT_GATEWAY_API", file)),
            // It says itself how to get them where they are missed.
            Err(Failure(why)) => eprintln!("xtask: without the Gateway API's definitions: {why}"),
        }
        succeeds(build.args(["--features", "kubernetes"]))
    }

    /// Turns this process into a program that was built. Returns only when that fails.
    pub(crate) fn become_program(&self, program: &str, words: &[String]) -> Failure {
        let program = self.target.join("release").join(program);
        Failure::new(program.display(), Command::new(&program).args(words).exec())
    }
}

/// Runs a command with our own input and output; anything but success is a failure.
pub(crate) fn succeeds(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| Failure::new(name(command), error))?;
    if status.success() { Ok(()) } else { Err(Failure::new(name(command), status)) }
}

/// The command as its user would type it.
pub(crate) fn name(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// A variable of our own environment: this is the one place that reads it.
#[expect(clippy::disallowed_methods, reason = "a developer's tool has no settings table")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The cargo that started us, so that one toolchain does everything.
fn cargo() -> Command {
    Command::new(variable("CARGO").unwrap_or_else(|| "cargo".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed_and_failures_named() {
        let failed = succeeds(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failed.0, "sh -c exit 3: exit status: 3");
        let missing = succeeds(&mut Command::new("/does/not/exist")).unwrap_err();
        assert!(missing.0.starts_with("exist: "), "{}", missing.0);
        assert!(succeeds(&mut Command::new("/bin/true")).is_ok());
    }
}
