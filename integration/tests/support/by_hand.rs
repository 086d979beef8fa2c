//! Pages that people follow: the lab commands of their shell blocks, run as they are written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ambit_lab::sandbox;
use libtest_mimic::Failed;

use super::support::{Check, check};

/// Longest time until a log says what a page promises.
const PATIENCE: Duration = Duration::from_secs(15);

/// A page's labs, which are gone when this is dropped.
pub(crate) struct Page {
    pub(crate) lines: Vec<String>,
    labs: PathBuf,
    name: &'static str,
}

/// What a command said and whether it went well.
pub(crate) struct Said {
    pub(crate) well: bool,
    pub(crate) text: String,
}

/// What is to come of a line.
pub(crate) enum Expected {
    /// It goes well, and says all this.
    Says(&'static [&'static str]),
    /// It fails, and says this.
    Fails(&'static str),
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program beside the lab's.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name(name)
}

impl Page {
    /// The page `file`, from the root of the repository, whose lab is called `name`.
    pub(crate) fn open(file: &str, name: &'static str) -> Result<Self, Failed> {
        let text = std::fs::read_to_string(root().join(file))?;
        let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let lines = blocks.flat_map(str::lines).map(|line| line.trim().to_owned());
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        check(lines.len() > 3, || format!("{file}: {lines:?}"))?;
        let labs = std::env::temp_dir().join(format!("ambit-{name}-{}", std::process::id()));
        Ok(Page { lines, labs, name })
    }

    /// Runs every line; `expected` says what is to come of it.
    pub(crate) fn follow(&self, expected: impl Fn(&str) -> Expected) -> Check {
        for line in &self.lines {
            let end = Instant::now() + PATIENCE;
            loop {
                let said = self.run(line)?;
                let as_expected = match expected(line) {
                    Expected::Says(words) => said.well && words.iter().all(|word| said.text.contains(word)),
                    Expected::Fails(word) => !said.well && said.text.contains(word),
                };
                if as_expected {
                    break;
                }
                // Programs write their logs when they have something to say, and a waypoint takes a moment to come up.
                let changes = [" logs ", " exec "].iter().any(|verb| line.contains(verb));
                let later = changes && Instant::now() < end;
                check(later, || format!("$ {line}\n{}", said.text))?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Runs one line from the root of the repository.
    pub(crate) fn run(&self, line: &str) -> Result<Said, Failed> {
        let words: Vec<_> = line.split_whitespace().collect();
        let (program, words) = match words.as_slice() {
            ["cargo", "xtask", "lab", rest @ ..] => (program("ambit-lab"), rest),
            ["ambit", rest @ ..] => (program("ambit"), rest),
            _ => return Err(format!("nobody tries {line:?}").into()),
        };
        let mut command = Command::new(program);
        sandbox::forget_namespaces(&mut command);
        let output = command.args(words).current_dir(root()).env("AMBIT_LAB_DIR", &self.labs).output()?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Said { well: output.status.success(), text: said.concat() })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // After a failure the lab may still run; nothing of it may stay.
        let _down = self.run(&format!("cargo xtask lab down --name {}", self.name));
        let _removed = std::fs::remove_dir_all(&self.labs);
    }
}
