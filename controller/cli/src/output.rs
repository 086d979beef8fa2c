//! How answers are printed: for people as aligned text, for programs as JSON or YAML, from the same typed values.

mod page;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Failure;

pub(crate) use page::{Page, Table};

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// For programs.
    Json,
    /// For programs, and files.
    Yaml,
}

/// The flag that every command has.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// How answers are printed.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// An answer.
pub(crate) trait Show: Serialize {
    /// As people read it.
    fn show(&self, page: &mut Page);
}

/// One line of a table.
pub(crate) trait Row: Serialize {
    /// The names of its columns.
    const HEAD: &'static [&'static str];

    /// As many cells as there are columns.
    fn cells(&self) -> Vec<String>;
}

/// A table as an answer of its own.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Rows<R> {
    rows: Vec<R>,
    #[serde(skip)]
    empty: String,
}

impl<R> Rows<R> {
    /// These rows in this order; `empty` is said when there are none.
    pub(crate) fn new(rows: Vec<R>, empty: impl Into<String>) -> Self {
        Self { rows, empty: empty.into() }
    }
}

impl<R: Row> Show for Rows<R> {
    fn show(&self, page: &mut Page) {
        if self.rows.is_empty() {
            page.line(&self.empty);
        } else {
            page.table(&Table::of(&self.rows));
        }
    }
}

/// Prints an answer to the standard output.
pub(crate) fn print(answer: &impl Show, format: Format) -> Result<(), Failure> {
    text(&render(answer, format)?)
}

/// Prints a line of progress, at once.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut page = Page::default();
    page.line(text);
    self::text(&page.text())
}

/// Prints a text that is an answer as it stands.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut to = io::stdout().lock();
    written(to.write_all(text.as_bytes()).and_then(|()| to.flush()))
}

/// What became of writing: a reader that has seen enough is no failure.
pub(crate) fn written(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unprintable(&error)),
        _ => Ok(()),
    }
}

/// An answer as it is printed.
pub(crate) fn render(answer: &impl Show, format: Format) -> Result<String, Failure> {
    match format {
        Format::Table => {
            let mut page = Page::default();
            answer.show(&mut page);
            Ok(page.text())
        }
        Format::Json => {
            let text = serde_json::to_string_pretty(answer).map_err(|error| unprintable(&error))?;
            Ok(text + "\n")
        }
        Format::Yaml => serde_saphyr::to_string(answer).map_err(|error| unprintable(&error)),
    }
}

/// An answer that cannot be printed.
pub(crate) fn unprintable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("the answer cannot be printed: {error}"),
        "write it to a file that has room: ambit … > FILE",
    )
}
