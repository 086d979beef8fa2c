//! The file of a scenario.
//!
//! ```yaml
//! title: What it shows
//! start: [pods.yaml]                  # there before the first step
//! steps:
//! - title: Enrol
//!   change:
//!   - label: {kind: Namespace, name: guide, label: istio.io/dataplane-mode=ambient}
//!   - apply: policy.yaml
//!   - delete: policy.yaml
//!   expect:
//!   - call: {from: guide/client, to: http://web/, times: 20}
//!     answers: {status: 200, text: Hello}        # every one of them
//!   - call: {from: guide/client, to: http://web/, times: 200}
//!     shares: {v1: 50, v2: 50}                   # percent of the answers with this text
//!     within: 15                                 # percentage points
//!   - call: {from: guide/stranger, to: http://web/}
//!     refused: {}                                # 403, or no answer at all
//!   - secured: {from: guide/client, to: guide/web, call: http://web/}
//!   - explain: {from: guide/client, to: guide/web, method: DELETE}
//!     verdict: deny
//!     names: guide/no-deletes
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::LabError;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows.
    pub title: String,
    /// Manifests that are there before the first step.
    #[serde(default)]
    pub start: Vec<String>,
    /// One after another.
    pub steps: Vec<Step>,
    /// Where its manifests lie.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Changes, and what is to be seen once they have arrived.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// In a few words.
    pub title: String,
    /// In this order.
    #[serde(default)]
    pub change: Vec<Change>,
    /// In this order.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Applies a file.
    Apply(String),
    /// Deletes the objects of a file.
    Delete(String),
    /// Labels an object.
    Label {
        /// Kind.
        kind: String,
        /// Name, `NAMESPACE/NAME` for namespaced kinds.
        name: String,
        /// `key=value`, or `key-`.
        label: String,
    },
}

/// What is to be seen.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Expectation {
    /// Every call is answered so.
    Answers {
        /// The calls.
        call: Call,
        /// How.
        answers: Answer,
    },
    /// Answers divide so.
    Shares {
        /// The calls.
        call: Call,
        /// Percent of the answers, by a text in them.
        shares: BTreeMap<String, f64>,
        /// Percentage points each may lie away.
        #[serde(default = "ten")]
        within: f64,
    },
    /// No call is let through: each ends with 403 or without an answer.
    Refused {
        /// The calls.
        call: Call,
        /// How.
        refused: Refusal,
    },
    /// A call goes through mutual TLS, with both ends' identities.
    Secured {
        /// Both ends.
        secured: Ends,
    },
    /// `ambit explain` says so beforehand.
    Explained {
        /// The request.
        explain: Question,
        /// What it says.
        verdict: Verdict,
        /// What its words name.
        #[serde(default)]
        names: String,
    },
}

/// Calls with curl.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Pod.
    pub from: String,
    /// URL.
    pub to: String,
    /// Method.
    #[serde(default = "get")]
    pub method: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How many.
    #[serde(default = "one")]
    pub times: u32,
}

/// An answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Text in the body.
    #[serde(default)]
    pub text: String,
}

/// A refusal.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Status, where there is to be an answer; 0 for none at all.
    pub status: Option<u16>,
}

/// Two pods whose service accounts are called as they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// Client, `NAMESPACE/NAME`.
    pub from: String,
    /// Server, `NAMESPACE/NAME`.
    pub to: String,
    /// URL that the client asks.
    pub call: String,
}

/// A request to be explained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Client, `NAMESPACE/NAME`.
    pub from: String,
    /// Service, `NAMESPACE/NAME`.
    pub to: String,
    /// Method.
    #[serde(default = "get")]
    pub method: String,
    /// Path.
    #[serde(default = "slash")]
    pub path: String,
}

/// What is to come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is let through.
    Allow,
    /// It is refused.
    Deny,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no scenario, or names a manifest that does not exist.
    pub fn read(file: &Path) -> Result<Self, LabError> {
        let text =
            std::fs::read_to_string(file).map_err(LabError::system(format!("reading {}", file.display())))?;
        let wrong = |error| LabError::Manifest(format!("{}: {error}", file.display()));
        let mut scenario: Self = serde_saphyr::from_str(&text).map_err(wrong)?;
        scenario.folder = file.parent().unwrap_or(Path::new(".")).to_path_buf();
        scenario.files().into_iter().try_for_each(|name| manifest(&scenario.folder, name).map(drop))?;
        Ok(scenario)
    }

    /// The manifests that are there before the first step, as one text.
    pub fn start(&self) -> Result<String, LabError> {
        let texts = self.start.iter().map(|name| manifest(&self.folder, name));
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n---\n"))
    }

    /// Every manifest it names.
    pub fn files(&self) -> Vec<&str> {
        let changed = self.steps.iter().flat_map(|step| &step.change).filter_map(|change| match change {
            Change::Apply(file) | Change::Delete(file) => Some(file),
            Change::Label { .. } => None,
        });
        self.start.iter().chain(changed).map(String::as_str).collect()
    }
}

/// A manifest of a scenario.
pub(super) fn manifest(folder: &Path, name: &str) -> Result<String, LabError> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(LabError::system(format!("reading {}", path.display())))
}

fn one() -> u32 {
    1
}

fn ten() -> f64 {
    10.0
}

fn get() -> String {
    "GET".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}
