//! The machine a run was made on: figures mean little without it.

use serde_json::{Value, json};

/// What bears on the figures.
pub(crate) struct Machine {
    processor: String,
    cpus: usize,
    kernel: String,
    load: String,
    date: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or("?").to_owned(),
            date: crate::command::run("date", &["-u", "+%Y-%m-%d"])
                .map_or_else(|_none| "?".to_owned(), |date| date.trim().to_owned()),
        }
    }

    pub(crate) fn text(&self) -> String {
        let Self { processor, cpus, kernel, load, date } = self;
        format!("{date}: {processor}, {cpus} CPUs, Linux {kernel}; load average before the run {load}")
    }

    pub(super) fn json(&self) -> Value {
        let Self { processor, cpus, kernel, load, date } = self;
        json!({"date": date, "processor": processor, "cpus": cpus, "kernel": kernel, "load_average_before": load})
    }
}
