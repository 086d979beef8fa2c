//! Reading a program's settings from its environment, once, with every fault reported together.
//!
//! A program's `settings.rs` is one function that names each setting, its default and what it is for; the
//! [`Row`]s it leaves behind are the table that `--print-settings` prints.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

mod duration;

pub use duration::{InvalidDuration, format_duration, parse_duration};

/// Where settings come from; a map in tests, so that no test touches the process.
pub trait Environment {
    /// The value of `name`, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment that whoever started this process gave it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

/// One setting as it took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The environment variable.
    pub name: &'static str,
    /// What is in force.
    pub value: String,
    /// What would be in force if it were not set.
    pub default: String,
    /// What it is for.
    pub doc: &'static str,
}

/// A setting that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?}: {problem}")]
pub struct Fault {
    /// The environment variable.
    pub name: &'static str,
    /// What it held.
    pub value: String,
    /// Why that will not do.
    pub problem: String,
}

/// Every fault of one program's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.faults))]
pub struct SettingsError {
    /// In the order in which the settings were read.
    pub faults: Vec<Fault>,
}

/// Reads settings, remembering what took effect and what was wrong.
pub struct Reader<'a> {
    environment: &'a dyn Environment,
    rows: Vec<Row>,
    faults: Vec<Fault>,
}

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "the one door to the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

impl<'a> Reader<'a> {
    /// Reads from `environment`. An empty value counts as not set, as charts leave them.
    #[must_use]
    pub fn new(environment: &'a dyn Environment) -> Self {
        Self { environment, rows: Vec::new(), faults: Vec::new() }
    }

    /// Text.
    pub fn text(&mut self, name: &'static str, default: &str, doc: &'static str) -> String {
        let value = self.value(name).unwrap_or_else(|| default.to_owned());
        self.row(name, value.clone(), default.to_owned(), doc);
        value
    }

    /// Text that need not be there.
    pub fn optional(&mut self, name: &'static str, doc: &'static str) -> Option<String> {
        let value = self.value(name);
        self.row(name, value.clone().unwrap_or_default(), String::new(), doc);
        value
    }

    /// Text that must be there; its absence is a fault.
    pub fn required(&mut self, name: &'static str, doc: &'static str) -> String {
        let value = self.optional(name, doc).unwrap_or_default();
        if value.is_empty() {
            self.fault(name, &value, "is required");
        }
        value
    }

    /// A number.
    pub fn number<T>(&mut self, name: &'static str, default: T, doc: &'static str) -> T
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        self.parsed(name, default, doc)
    }

    /// A length of time: `5s`, `100ms`, `10m`, `2h`, `1m30s`, or plain seconds.
    pub fn duration(&mut self, name: &'static str, default: Duration, doc: &'static str) -> Duration {
        let read = |text: &str| parse_duration(text).map_err(|error| error.to_string());
        let value = self.read(name, read).unwrap_or(default);
        self.row(name, format_duration(value), format_duration(default), doc);
        value
    }

    /// Yes or no: `true`, `1`, `yes`, `on` and their opposites.
    pub fn flag(&mut self, name: &'static str, default: bool, doc: &'static str) -> bool {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        };
        let value = self.read(name, read).unwrap_or(default);
        self.row(name, value.to_string(), default.to_string(), doc);
        value
    }

    /// An address with its port.
    pub fn address(&mut self, name: &'static str, default: SocketAddr, doc: &'static str) -> SocketAddr {
        let read = |text: &str| text.parse().map_err(|_| "expected ADDRESS:PORT".to_owned());
        let value = self.read(name, read).unwrap_or(default);
        self.row(name, value.to_string(), default.to_string(), doc);
        value
    }

    /// A file or folder; whether it exists is the business of whoever opens it.
    pub fn path(&mut self, name: &'static str, default: &str, doc: &'static str) -> PathBuf {
        PathBuf::from(self.text(name, default, doc))
    }

    /// Anything that reads itself from text.
    pub fn parsed<T>(&mut self, name: &'static str, default: T, doc: &'static str) -> T
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        let shown = default.to_string();
        let read = |text: &str| text.parse::<T>().map_err(|error| error.to_string());
        let value = self.read(name, read).unwrap_or(default);
        self.row(name, value.to_string(), shown, doc);
        value
    }

    /// Reports a fault that only several settings together reveal.
    pub fn fault(&mut self, name: &'static str, value: &str, problem: impl Into<String>) {
        self.faults.push(Fault { name, value: value.to_owned(), problem: problem.into() });
    }

    /// The table of what is in force.
    ///
    /// # Errors
    /// When any setting could not be read; the error lists all of them.
    pub fn finish(self) -> Result<Vec<Row>, SettingsError> {
        if self.faults.is_empty() { Ok(self.rows) } else { Err(SettingsError { faults: self.faults }) }
    }

    fn value(&self, name: &str) -> Option<String> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    fn read<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.value(name)?;
        match read(text.trim()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fault(name, &text, problem);
                None
            }
        }
    }

    fn row(&mut self, name: &'static str, value: String, default: String, doc: &'static str) {
        self.rows.push(Row { name, value, default, doc });
    }
}

/// The table as people read it: name, value, default and purpose, in columns.
#[must_use]
pub fn format_table(rows: &[Row]) -> String {
    let name_width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let shown = |row: &Row| {
        if row.value == row.default { row.value.clone() } else { format!("{} *", row.value) }
    };
    let value_width = rows.iter().map(|row| shown(row).chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|row| {
            let default = if row.value == row.default {
                String::new()
            } else {
                format!(" (default {:?})", row.default)
            };
            format!("{:name_width$}  {:value_width$}  {}{default}\n", row.name, shown(row), row.doc)
        })
        .collect()
}

/// Prints the table to standard output; values that are not the default are starred.
pub fn print_table(rows: &[Row]) {
    print!("{}", format_table(rows));
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
