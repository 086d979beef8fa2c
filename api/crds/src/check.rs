//! Checks that need more than one field, or more than a field's type; an error names its field.

use std::fmt::Write;

/// A spec that can be wrong although each of its fields is of the right type.
pub(crate) trait Check {
    /// The first thing that is wrong.
    fn check(&self) -> Result<(), Wrong>;
}

/// Something wrong at a field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Path of the field, from where the check began.
    pub(crate) field: String,
    /// What is wrong; and what to do about it.
    pub(crate) sentence: String,
}

impl Wrong {
    /// At no field in particular.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { field: String::new(), sentence: sentence.into() }
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
pub(crate) fn each<T>(
    field: &str,
    items: &[T],
    check: impl Fn(&T) -> Result<(), Wrong>,
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
