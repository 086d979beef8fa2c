//! Running the machine's own tools (`ip`, `nft`) and saying clearly what they refused.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::LabError;

/// What a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Exit code; `None` when it was ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Whether the command succeeded.
    pub fn well(&self) -> bool {
        self.code == Some(0)
    }

    /// Everything it said.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl From<std::process::Output> for Said {
    fn from(output: std::process::Output) -> Self {
        let [out, err] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Self { code: output.status.code(), out, err }
    }
}

/// Runs a tool to its end in the namespaces of the calling thread.
pub(crate) fn run(tool: &'static str, arguments: &[&str]) -> Result<String, LabError> {
    feed(tool, arguments, "")
}

/// The same with a text on standard input.
pub(crate) fn feed(tool: &'static str, arguments: &[&str], input: &str) -> Result<String, LabError> {
    let failed = |detail: String| LabError::Tool { tool, arguments: arguments.join(" "), detail };
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let mut stdin = child.stdin.take().expect("standard input was asked for");
    stdin.write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}\n{input}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
