//! Why a question has no answer, with the command that mends it.

use std::fmt;
use std::process::ExitCode;

/// A question without an answer: the command ends with 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failure {
    says: String,
    mend: String,
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// 0: yes; all is well.
    Yes,
    /// 1: no; something is not.
    No,
    /// 2: it cannot be told.
    Unknown,
}

impl Failure {
    /// What is wrong, and the command (or the change) that mends it.
    pub(crate) fn new(says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { says: says.into(), mend: mend.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.says, self.mend)
    }
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end as u8)
    }
}

/// The end of a command; a failure is told on the standard error.
pub(crate) fn end(outcome: Result<End, Failure>) -> ExitCode {
    match outcome {
        Ok(end) => end.into(),
        Err(failure) => {
            eprintln!("ambit: {failure}");
            End::Unknown.into()
        }
    }
}
