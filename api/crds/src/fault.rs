//! What is wrong with something a user wrote, said in one line that ends with a mend.

use std::fmt;

use serde::Serialize;

use crate::code::Code;
use crate::meta::ObjectRef;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong; something is worth knowing.
    Note,
    /// Something has no effect.
    Warning,
    /// An object or file is not applied as written.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// What it is about; its page says more.
    pub code: Code,
    /// File or directory.
    pub file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// The object, where its name could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// Path of the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
    /// What happens meanwhile.
    pub effect: Effect,
    /// How bad it is.
    pub severity: Severity,
}

/// What happens with the object or file that has a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Nothing worth a word.
    #[default]
    None,
    /// The last good version stays in force.
    LastGoodStays,
    /// No version was ever valid: what it names is closed.
    Closes,
    /// It is not applied.
    Skipped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if let Some(object) = &self.object {
            write!(f, "{}: ", one_line(&object.to_string()))?;
        }
        if let Some(field) = &self.field {
            write!(f, "{}: ", one_line(field))?;
        }
        f.write_str(&one_line(&self.message))?;
        if !self.mend.is_empty() {
            write!(f, "; {}", one_line(&self.mend))?;
        }
        match self.effect {
            Effect::None => Ok(()),
            Effect::LastGoodStays => f.write_str(" (the last good version stays in force)"),
            Effect::Closes => f.write_str(" (no version of it was ever valid: what it names is closed)"),
            Effect::Skipped => f.write_str(" (it is not applied)"),
        }
    }
}

/// A text from a user's file must not be able to forge a second log line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
