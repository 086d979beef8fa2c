//! What can go wrong in the lab, each with enough words to mend it.

use std::path::PathBuf;

/// An operation of the lab that failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// One of the machine's tools refused.
    #[error("`{tool} {arguments}`: {detail}")]
    Tool {
        /// Name of the tool.
        tool: &'static str,
        /// Its arguments.
        arguments: String,
        /// What it wrote, and what it was given.
        detail: String,
    },
    /// A manifest cannot be used.
    #[error("{0}")]
    Manifest(String),
    /// Something named does not exist.
    #[error("there is no {0}")]
    Unknown(String),
    /// A program of the mesh is missing.
    #[error(
        "program {0} does not exist; build it (`cargo build --workspace`) or name its folder in AMBIT_LAB_PROGRAMS"
    )]
    Program(PathBuf),
    /// No address is left.
    #[error("no address is left for {0}")]
    Addresses(String),
    /// Something did not come about in time; the text holds the lab's state.
    #[error("{what} did not happen within {seconds} s\n{dump}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// State of the lab at that time.
        dump: String,
    },
}

impl LabError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::System { what, source }
    }

    pub(crate) fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> LabError {
        let what = what.into();
        move |errno| LabError::System { what, source: errno.into() }
    }
}
