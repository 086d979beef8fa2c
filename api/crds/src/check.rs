//! Checks that need more than one field, or more than a field's type; an error names its field.

use std::fmt::Write;
use std::time::Duration;

use crate::code::Code;
use crate::meta::Map;

/// A spec that can be wrong although each of its fields is of the right type.
pub(crate) trait Check {
    /// The first thing that is wrong.
    fn check(&self) -> Result<(), Wrong>;
}

/// Something wrong at a field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What it is about.
    pub(crate) code: Code,
    /// Path of the field, from where the check began.
    pub(crate) field: String,
    /// What is wrong; and what to do about it.
    pub(crate) sentence: String,
}

impl Wrong {
    /// At no field in particular.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { code: Code::BadValue, field: String::new(), sentence: sentence.into() }
    }

    /// The same, about something more particular.
    pub(crate) fn coded(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// Puts a step in front of the path.
    pub(crate) fn under(mut self, step: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{step}{dot}{}", self.field);
        self
    }
}

/// Puts a field in front of an error's path.
pub(crate) trait At<T> {
    /// In a field.
    fn at(self, field: &str) -> Result<T, Wrong>;
}

impl<T> At<T> for Result<T, Wrong> {
    fn at(self, field: &str) -> Self {
        self.map_err(|wrong| wrong.under(field))
    }
}

impl<T> At<T> for Result<T, String> {
    fn at(self, field: &str) -> Result<T, Wrong> {
        self.map_err(|sentence| Wrong::new(sentence).under(field))
    }
}

/// Checks each item of a list.
pub(crate) fn each<'a, T>(
    field: &str,
    items: &'a [T],
    mut check: impl FnMut(&'a T) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let mut step = String::new();
    for (place, item) in items.iter().enumerate() {
        if let Err(wrong) = check(item) {
            // Writing to a String cannot fail.
            let _ = write!(step, "{field}[{place}]");
            return Err(wrong.under(&step));
        }
    }
    Ok(())
}

/// The longest expression that is compiled.
const MAX_REGEX: usize = 4096;
/// The largest program an expression may become, in bytes.
const MAX_PROGRAM: usize = 1 << 20;

/// A DNS name, which may begin with a wildcard label.
pub(crate) fn host(text: &str) -> Result<(), Wrong> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && label.chars().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Wrong::new(format!("{text:?} is not a host; write a DNS name such as reviews or *.example.com")))
}

/// A name of the form of a DNS label.
pub(crate) fn label_name(text: &str) -> Result<(), Wrong> {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: char| c.is_ascii_alphanumeric();
    if (1..=63).contains(&text.len())
        && text.chars().all(inside)
        && text.starts_with(ends)
        && text.ends_with(ends)
    {
        return Ok(());
    }
    Err(Wrong::new(format!("{text:?} is not a name; write letters, digits, -, _ and ., at most 63")))
}

/// Labels to compare with; a wildcard would be taken literally.
pub(crate) fn labels(labels: &Map) -> Result<(), Wrong> {
    let bad = |(key, value): &(&String, &String)| key.is_empty() || key.contains('*') || value.contains('*');
    match labels.iter().find(bad) {
        Some((key, value)) => {
            Err(Wrong::new(format!("{key:?}: {value:?} cannot match a label; wildcards do not work here")))
        }
        None => Ok(()),
    }
}

/// `.`, `*` or a namespace.
pub(crate) fn export_to(text: &str) -> Result<(), Wrong> {
    if matches!(text, "." | "*") || (!text.contains('.') && host(text).is_ok() && !text.starts_with('*')) {
        return Ok(());
    }
    Err(Wrong::new(format!("{text:?} is not a namespace; write `.` for the own one, `*` for all, or a name")))
}

/// The name of a header.
pub(crate) fn header_name(text: &str) -> Result<(), Wrong> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !text.is_empty() && text.chars().all(token) {
        return Ok(());
    }
    Err(Wrong::new(format!("{text:?} is not the name of a header; write letters, digits and -")))
}

/// An expression that compiles within bounds.
pub(crate) fn regex(text: &str) -> Result<(), Wrong> {
    if text.len() > MAX_REGEX {
        return Err(Wrong::new(format!("the expression is longer than {MAX_REGEX} bytes; shorten it")));
    }
    let compiled = regex::RegexBuilder::new(text).size_limit(MAX_PROGRAM).build();
    match compiled {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(Wrong::new("the expression is too large; write fewer or smaller repetitions"))
        }
        Err(error) => {
            // The first lines of the message only repeat the expression.
            let text = error.to_string();
            let cause =
                text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
            Err(Wrong::new(format!("not a regular expression of RE2's syntax ({cause}); correct it")))
        }
    }
}

/// A duration that must not be too short to mean anything.
pub(crate) fn at_least_a_millisecond(duration: Option<Duration>) -> Result<(), Wrong> {
    match duration {
        Some(duration) if duration < Duration::from_millis(1) => {
            Err(Wrong::new("it is shorter than 1ms; write at least 1ms, or remove it for the default"))
        }
        _ => Ok(()),
    }
}

/// Whole percents.
pub(crate) fn percent(percent: Option<u32>) -> Result<(), Wrong> {
    match percent {
        Some(percent) if percent > 100 => {
            Err(Wrong::new(format!("{percent} is not a percentage; write a number from 0 to 100")))
        }
        _ => Ok(()),
    }
}
