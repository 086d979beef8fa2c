//! How findings are printed: a table for people, JSON and YAML for programs.

use ambit_crds::fault::Effect;
use ambit_crds::{Code, Fault, Severity};
use serde::{Serialize, Serializer};

use super::Analysis;
use crate::output::{Page, Show};

/// A finding as programs read it.
#[derive(Serialize)]
struct Shown<'a> {
    severity: Severity,
    code: Code,
    title: &'static str,
    file: &'a str,
    /// From 1; 0 where the whole file is meant.
    line: u32,
    object: Option<ShownObject<'a>>,
    field: Option<&'a str>,
    message: &'a str,
    mend: &'a str,
    effect: Effect,
}

#[derive(Serialize)]
struct ShownObject<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Shown<'a> {
    fn of(fault: &'a Fault) -> Self {
        let object = fault.object.as_ref().map(|object| ShownObject {
            kind: object.kind.name(),
            namespace: &object.namespace,
            name: &object.name,
        });
        Self {
            severity: fault.severity,
            code: fault.code,
            title: fault.code.title(),
            file: &fault.file,
            line: fault.line,
            object,
            field: fault.field.as_deref(),
            message: &fault.message,
            mend: &fault.mend,
            effect: fault.effect,
        }
    }
}

impl Serialize for Analysis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.faults.iter().map(Shown::of))
    }
}

impl Show for Analysis {
    /// Severity, code, and the finding as a sentence that begins with file and line, as programs for editing like it.
    fn show(&self, page: &mut Page) {
        for fault in &self.faults {
            page.line(&format!("{:<8} {:<8} {fault}", word(fault), fault.code.name()));
        }
        page.line(&summary(self));
    }
}

fn word(fault: &Fault) -> &'static str {
    match fault.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn summary(analysis: &Analysis) -> String {
    let count = |severity, one: &str| match analysis.count(severity) {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let objects = match analysis.objects {
        1 => "1 object".to_owned(),
        many => format!("{many} objects"),
    };
    if analysis.faults.is_empty() {
        return format!("nothing found in {objects}");
    }
    format!(
        "{}, {} and {} in {objects}; `ambit analyze --explain CODE` says more",
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note")
    )
}
