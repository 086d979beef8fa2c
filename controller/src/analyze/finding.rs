//! One finding, and the findings about one object while they are made.

use ambit_crds::code::Code;
use ambit_crds::fault::{Effect, Fault, Severity};
use ambit_crds::meta::ObjectRef;
use serde::Serialize;

/// Something wrong or suspicious in an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What it is about; its page says more.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The object.
    pub object: ObjectRef,
    /// Path of the field; none where the whole object is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// The findings about one object.
#[derive(Debug)]
pub(crate) struct Report {
    object: ObjectRef,
    findings: Vec<Finding>,
}

impl Finding {
    /// As it is said of a file; the line counts from 1.
    pub fn at(self, file: &str, line: u32) -> Fault {
        let Self { code, severity, object, field, message, mend } = self;
        let file = file.to_owned();
        Fault { code, file, line, object: Some(object), field, message, mend, effect: Effect::None, severity }
    }
}

impl Report {
    pub(crate) fn new(object: ObjectRef) -> Self {
        Self { object, findings: Vec::new() }
    }

    /// Traffic is lost or refused because of it, for certain.
    pub(crate) fn error(&mut self, code: Code, field: &str, message: String, mend: impl Into<String>) {
        self.push(code, Severity::Error, field, (message, mend.into()));
    }

    /// It has no effect, or hardly the one that was meant.
    pub(crate) fn warning(&mut self, code: Code, field: &str, message: String, mend: impl Into<String>) {
        self.push(code, Severity::Warning, field, (message, mend.into()));
    }

    /// It is worth knowing.
    pub(crate) fn note(&mut self, code: Code, field: &str, message: String, mend: impl Into<String>) {
        self.push(code, Severity::Note, field, (message, mend.into()));
    }

    pub(crate) fn push(
        &mut self,
        code: Code,
        severity: Severity,
        field: &str,
        (message, mend): (String, String),
    ) {
        let field = (!field.is_empty()).then(|| field.to_owned());
        let object = self.object.clone();
        self.findings.push(Finding { code, severity, object, field, message, mend });
    }

    pub(crate) fn finish(self) -> Vec<Finding> {
        self.findings
    }
}
