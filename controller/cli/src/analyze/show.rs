//! How findings are printed: a table for people, JSON and YAML for programs.

use std::io::{self, Write};

use ambit_crds::fault::Effect;
use ambit_crds::{Code, Fault, Severity};
use serde::Serialize;

use super::{Analysis, Output};

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

pub(super) fn print(analysis: &Analysis, output: Output, to: &mut impl Write) -> io::Result<()> {
    let shown = || analysis.faults.iter().map(Shown::of).collect::<Vec<_>>();
    match output {
        Output::Table => table(analysis, to),
        Output::Json => {
            serde_json::to_writer_pretty(&mut *to, &shown())?;
            writeln!(to)
        }
        Output::Yaml => {
            let text = serde_saphyr::to_string(&shown()).map_err(io::Error::other)?;
            to.write_all(text.as_bytes())
        }
    }
}

/// Severity, code, and the finding as a sentence that begins with file and line, as programs for editing like it.
fn table(analysis: &Analysis, to: &mut impl Write) -> io::Result<()> {
    for fault in &analysis.faults {
        writeln!(to, "{:<8} {:<8} {fault}", word(fault), fault.code.name())?;
    }
    writeln!(to, "{}", summary(analysis))
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
