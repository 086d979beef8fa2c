//! Logs: Istio's ztunnel's line format (or JSON), a filter that can be changed while running, and a writer
//! that never makes a worker wait.

use std::io::Write;
use std::str::FromStr;

use prometheus_client::metrics::counter::Counter;
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::metrics::Metrics;
use crate::settings::Reader;

mod filter;
mod format;
mod writer;

pub use filter::{Filter, InvalidFilter};

use format::Lines;
use writer::Writer;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Tabs between time, level, target, message and fields.
    #[default]
    Plain,
    /// One object per line, fields flattened into it.
    Json,
}

/// Text that is no [`Format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected plain or json")]
pub struct InvalidFormat;

/// What to log and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// What is logged.
    pub filter: Filter,
    /// How.
    pub format: Format,
}

/// Changes what is logged while the program runs; clones share it.
#[derive(Debug, Clone)]
pub struct LogHandle {
    initial: Filter,
    filter: reload::Handle<Targets, Registry>,
    writer: Writer,
}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(InvalidFormat),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Json => "json",
        })
    }
}

impl LogSettings {
    /// Reads `RUST_LOG` and `LOG_FORMAT`.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            filter: reader.parsed(
                "RUST_LOG",
                Filter::default(),
                "What is logged: LEVEL or TARGET=LEVEL, with commas",
            ),
            format: reader.parsed(
                "LOG_FORMAT",
                Format::default(),
                "How a log line is written: plain or json",
            ),
        }
    }
}

/// Starts logging to standard output. The first call in a process wins; later ones get a handle on nothing.
#[must_use]
pub fn init(settings: &LogSettings) -> LogHandle {
    let (subscriber, handle) = pipeline(settings, Box::new(std::io::stdout()));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::warn!("logging was already started");
    }
    handle
}

/// The same logging to any sink: for a program that logs elsewhere than to standard output.
#[must_use]
pub fn pipeline(
    settings: &LogSettings,
    sink: Box<dyn Write + Send>,
) -> (impl Subscriber + Send + Sync, LogHandle) {
    let writer = Writer::start(sink);
    let (filter, reload) = reload::Layer::new(settings.filter.targets());
    let lines = Lines::new(settings.format, writer.clone());
    let subscriber = Registry::default().with(filter).with(lines);
    (subscriber, LogHandle { initial: settings.filter.clone(), filter: reload, writer })
}

impl LogHandle {
    /// Adds to the filter: `LEVEL` changes the default, `TARGET=LEVEL` that target, several with commas.
    ///
    /// # Errors
    /// When the text is no filter; nothing changes then.
    pub fn set(&self, text: &str) -> Result<(), InvalidFilter> {
        let change: Filter = text.parse()?;
        self.install(|current| *current = Filter::from_targets(current).merged(&change).targets());
        Ok(())
    }

    /// Back to what the program was started with.
    pub fn reset(&self) {
        self.install(|current| *current = self.initial.targets());
    }

    /// The filter in force, as [`Self::set`] reads it.
    #[must_use]
    pub fn current(&self) -> String {
        self.filter.with_current(|targets| Filter::from_targets(targets).to_string()).unwrap_or_default()
    }

    /// Writes a line, which ends in a line feed, among those of the log and as it is: for programs whose users say
    /// themselves what a line holds.
    pub fn line(&self, line: String) {
        self.writer.line(line);
    }

    /// Lines that were given up because the writer was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.writer.dropped().get()
    }

    /// Exposes the count of dropped lines.
    pub fn register(&self, metrics: &Metrics) {
        let counter: Counter = self.writer.dropped().clone();
        metrics.with(|registry| {
            registry.register(
                "log_lines_dropped",
                "Log lines given up because the writer was behind",
                counter,
            )
        });
    }

    /// Waits until everything logged so far is written (or a second has passed): for the end of the program.
    pub fn flush(&self) {
        self.writer.flush();
    }

    fn install(&self, change: impl FnOnce(&mut Targets)) {
        if self.filter.modify(change).is_err() {
            // The subscriber is gone, so nothing is logged anyway.
            eprintln!("the log filter cannot be changed: logging was not started by this handle");
        }
    }
}

#[cfg(test)]
mod tests;
