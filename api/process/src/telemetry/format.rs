//! One event, one line: ztunnel's plain form or JSON. Whatever a peer put into a field stays inside it.

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer as TimeWriter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;

use super::Format;
use super::writer::Writer;

/// A line longer than this is cut: no peer decides how much memory a line takes.
const MAX_LINE: usize = 16 << 10;

/// Names that JSON lines use themselves; a field of the same name gets an underscore.
const RESERVED: [&str; 4] = ["level", "time", "scope", "message"];

/// The layer that turns events into lines.
pub(super) struct Lines {
    format: Format,
    writer: Writer,
}

/// Collects an event's message and fields, already in the line's form.
struct Fields {
    format: Format,
    message: String,
    fields: String,
}

impl Lines {
    pub(super) fn new(format: Format, writer: Writer) -> Self {
        Self { format, writer }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields { format: self.format, message: String::new(), fields: String::new() };
        event.record(&mut fields);
        let mut time = String::with_capacity(32);
        if SystemTime.format_time(&mut TimeWriter::new(&mut time)).is_err() {
            time.push('-');
        }
        let metadata = event.metadata();
        let line = match self.format {
            Format::Plain => fields.plain(&time, *metadata.level(), metadata.target()),
            Format::Json => fields.json(&time, *metadata.level(), metadata.target()),
        };
        self.writer.line(line);
    }
}

impl Fields {
    fn plain(self, time: &str, level: Level, target: &str) -> String {
        let mut line = String::with_capacity(64 + self.message.len() + self.fields.len());
        for part in [time, name(level), target] {
            line.push_str(part);
            line.push('\t');
        }
        push_escaped(&mut line, &self.message);
        if !self.fields.is_empty() {
            line.push('\t');
            line.push_str(&self.fields);
        }
        cut(&mut line);
        line.push('\n');
        line
    }

    fn json(self, time: &str, level: Level, target: &str) -> String {
        let mut line = String::with_capacity(96 + self.message.len() + self.fields.len());
        line.push_str("{\"level\":\"");
        line.push_str(name(level));
        line.push_str("\",\"time\":");
        push_json(&mut line, time);
        line.push_str(",\"scope\":");
        push_json(&mut line, target);
        line.push_str(",\"message\":");
        push_json(&mut line, &self.message);
        line.push_str(&self.fields);
        line.push_str("}\n");
        line
    }

    /// Starts a field, unless the line is already as long as it may be.
    fn key(&mut self, field: &Field) -> bool {
        if self.message.len() + self.fields.len() > MAX_LINE {
            return false;
        }
        let key = field.name();
        match self.format {
            Format::Plain => {
                let space = if self.fields.is_empty() { "" } else { " " };
                self.fields.push_str(space);
                self.fields.push_str(key);
                self.fields.push('=');
            }
            Format::Json => {
                let mark = if RESERVED.contains(&key) { "_" } else { "" };
                self.fields.push(',');
                push_json(&mut self.fields, &format!("{mark}{key}"));
                self.fields.push(':');
            }
        }
        true
    }

    fn text(&mut self, field: &Field, value: &str) {
        let value = prefix(value, MAX_LINE / 2);
        if field.name() == "message" {
            self.message.push_str(value);
        } else if self.key(field) {
            match self.format {
                Format::Plain => push_quoted(&mut self.fields, value),
                Format::Json => push_json(&mut self.fields, value),
            }
        }
    }

    /// A value that is written the same way in both forms: a number, `true` or `false`.
    fn bare(&mut self, field: &Field, value: impl std::fmt::Display) {
        if self.key(field) {
            push(&mut self.fields, format_args!("{value}"));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.bare(field, value) } else { self.text(field, &value.to_string()) }
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A value as it is when it is one plain word, else quoted and escaped, so that it cannot pass for two fields.
fn push_quoted(line: &mut String, value: &str) {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '=');
    if value.is_empty() || value.contains(odd) {
        push(line, format_args!("{value:?}"));
    } else {
        line.push_str(value);
    }
}

/// A message with its control characters made visible, so that it cannot pass for two lines or columns.
fn push_escaped(line: &mut String, text: &str) {
    if text.contains(char::is_control) {
        for c in text.chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
    } else {
        line.push_str(text);
    }
}

fn push_json(line: &mut String, text: &str) {
    push(line, format_args!("{}", serde_json::Value::from(text)));
}

fn push(line: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String fails only when a value's own Display does; what was written stands.
    let _ = line.write_fmt(text);
}

fn cut(line: &mut String) {
    if line.len() > MAX_LINE * 2 {
        let end = prefix(line, MAX_LINE * 2).len();
        line.truncate(end);
    }
}

/// The longest beginning of at most `limit` bytes.
fn prefix(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
