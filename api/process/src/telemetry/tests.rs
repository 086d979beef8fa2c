//! Logs: both forms, hostile values, the filter, and a writer that drops instead of waiting.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use super::*;

/// Remembers what was written.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `log` wrote under these settings, line by line.
fn logged(format: Format, filter: &str, log: impl FnOnce(&LogHandle)) -> Vec<String> {
    let memory = Memory::default();
    let settings = LogSettings { filter: filter.parse().unwrap(), format };
    let (subscriber, handle) = pipeline(&settings, Box::new(memory.clone()));
    tracing::subscriber::with_default(subscriber, || log(&handle));
    handle.flush();
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn plain_lines_have_ztunnels_columns() {
    let lines = logged(Format::Plain, "info", |_| {
        tracing::event!(target: "access", tracing::Level::INFO, src.addr = %"10.0.0.1:1", bytes_sent = 5, error = "not today", "connection complete");
        tracing::warn!(target: "access", "bare");
    });
    let columns: Vec<_> = lines[0].split('\t').collect();
    assert_eq!(
        columns[1..],
        ["info", "access", "connection complete", "src.addr=10.0.0.1:1 bytes_sent=5 error=\"not today\""]
    );
    let time = columns[0].as_bytes();
    assert_eq!((time.len(), time[10], time[19], time[26]), (27, b'T', b'.', b'Z'), "{}", columns[0]);
    assert!(lines[1].ends_with("\twarn\taccess\tbare"), "{}", lines[1]);
}

#[test]
fn json_lines_are_flat_objects() {
    let lines = logged(Format::Json, "info", |_| {
        tracing::info!(target: "access", ok = true, n = -1, nan = f64::NAN, level = "mine", text = "a\"b\n", "done");
    });
    let mut value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(value["time"].take().as_str().unwrap().ends_with('Z'));
    let expected = serde_json::json!({"level": "info", "time": null, "scope": "access", "message": "done",
        "ok": true, "n": -1, "nan": "NaN", "_level": "mine", "text": "a\"b\n"});
    assert_eq!(value, expected);
}

#[test]
fn a_value_cannot_pass_for_a_field_a_line_or_a_flood() {
    let hostile = "x\" admin=\"yes\n2026-01-01T00:00:00Z\tinfo\taccess\tforged";
    let flood = "é".repeat(1 << 20);
    for format in [Format::Plain, Format::Json] {
        let lines = logged(format, "info", |_| {
            tracing::info!(value = hostile, empty = "", "m {hostile}");
            tracing::info!(a = %flood, b = %flood, c = %flood, d = %flood, "{flood}");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].len() < 80 << 10, "{}", lines[1].len());
        match format {
            Format::Plain => assert_eq!(lines[0].split('\t').count(), 5, "{}", lines[0]),
            Format::Json => assert!(serde_json::from_str::<serde_json::Value>(&lines[1]).is_ok()),
        }
    }
}

#[test]
fn the_filter_changes_while_running() {
    let lines = logged(Format::Plain, "info,noisy=warn", |handle| {
        assert_eq!(handle.current(), "info,noisy=warn");
        tracing::info!(target: "noisy::part", "hidden");
        tracing::debug!(target: "other", "hidden");
        handle.set("noisy=debug,other::part=trace").unwrap();
        assert_eq!(handle.current(), "info,noisy=debug,other::part=trace");
        tracing::debug!(target: "noisy::part", "one");
        tracing::trace!(target: "other::part", "two");
        tracing::debug!(target: "other", "hidden");
        handle.set("off").unwrap();
        tracing::error!(target: "third", "hidden");
        handle.reset();
        assert_eq!(handle.current(), "info,noisy=warn");
        tracing::info!(target: "third", "three");
    });
    let messages: Vec<_> = lines.iter().filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(messages, ["one", "two", "three"]);
}

#[test]
fn what_is_no_filter_changes_nothing() {
    logged(Format::Plain, "warn", |handle| {
        for text in ["", "loud", "a=loud", "=info", "a b=info", "info,", "a=info=b", "a[x]=info"] {
            assert!(handle.set(text).is_err(), "{text}");
        }
        let many: Vec<_> = (0..200).map(|n| format!("t{n}=info")).collect();
        assert_eq!(handle.set(&many.join(",")), Err(InvalidFilter::TooMany));
        assert_eq!(handle.current(), "warn");
        for n in 0..200 {
            handle.set(&format!("t{n}=info")).unwrap();
        }
        assert!(handle.current().split(',').count() <= 129);
        assert!(handle.current().contains("t199=info"));
    });
}

/// A sink that stands still until it is opened.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_costs_lines_and_never_waiting() {
    let sink = Stuck::default();
    let (subscriber, handle) = pipeline(&LogSettings::default(), Box::new(sink.clone()));
    let metrics = Metrics::new();
    handle.register(&metrics);
    // Were a line to wait, this would never end.
    tracing::subscriber::with_default(subscriber, || (0..30_000).for_each(|n| tracing::info!(n, "line")));
    let dropped = handle.dropped();
    assert!((10_000..30_000).contains(&dropped), "{dropped}");
    assert!(metrics.encode().contains(&format!("log_lines_dropped_total {dropped}")));
    *sink.0.0.lock().unwrap() = true;
    sink.0.1.notify_all();
    handle.flush();
}

#[test]
fn formats_and_filters_are_read_from_settings() {
    let environment: std::collections::BTreeMap<_, _> =
        [("RUST_LOG", "debug,h2=off"), ("LOG_FORMAT", "json")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
    let mut reader = Reader::new(&environment);
    let settings = LogSettings::read(&mut reader);
    assert_eq!((settings.format, settings.filter.to_string().as_str()), (Format::Json, "debug,h2=off"));
    let bad =
        [("RUST_LOG".to_owned(), "very".to_owned()), ("LOG_FORMAT".to_owned(), "xml".to_owned())].into();
    let bad: std::collections::BTreeMap<_, _> = bad;
    let mut reader = Reader::new(&bad);
    LogSettings::read(&mut reader);
    assert_eq!(reader.finish().unwrap_err().faults.len(), 2);
}
