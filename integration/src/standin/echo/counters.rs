//! What has arrived, so that a test can count at the backend: `/counters`.
//!
//! `{"requests", "mirrors", "open", "most_open", "statuses": {"200": n}, "keys": {KEY: {"requests", "mirrors"}}}`. A key is
//! the header `x-count-key`, else the path; mirrored requests are known by the end `-shadow` of their host.

use std::collections::BTreeMap;

use http::Request;
use serde::Serialize;

use super::ask::FailFirst;

/// Most keys kept; what comes under others is counted in the sums alone.
const MOST: usize = 100_000;

#[derive(Debug, Default, Serialize)]
pub(super) struct Counters {
    requests: u64,
    mirrors: u64,
    open: u64,
    most_open: u64,
    statuses: BTreeMap<u16, u64>,
    keys: BTreeMap<String, Key>,
    #[serde(skip)]
    failed: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Key {
    requests: u64,
    mirrors: u64,
}

impl Counters {
    /// Counts a request; whether it shall fail.
    pub(super) fn begin<B>(&mut self, request: &Request<B>, fail_first: Option<&FailFirst>) -> bool {
        let mirrored = u64::from(is_mirrored(request));
        self.requests += 1;
        self.mirrors += mirrored;
        self.open += 1;
        self.most_open = self.most_open.max(self.open);
        let key = request.headers().get("x-count-key").and_then(|key| key.to_str().ok());
        let key = key.unwrap_or(request.uri().path());
        if self.keys.len() < MOST || self.keys.contains_key(key) {
            let counts = self.keys.entry(key.to_owned()).or_default();
            counts.requests += 1;
            counts.mirrors += mirrored;
        }
        let Some(asked) = fail_first else { return false };
        if self.failed.len() >= MOST && !self.failed.contains_key(&asked.key) {
            return false;
        }
        let failed = self.failed.entry(asked.key.clone()).or_default();
        let fails = *failed < asked.count;
        *failed += u64::from(fails);
        fails
    }

    /// Counts its answer.
    pub(super) fn end(&mut self, status: u16) {
        // A reset in between forgot those under way.
        self.open = self.open.saturating_sub(1);
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn told(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn is_mirrored<B>(request: &Request<B>) -> bool {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default();
    host.split(':').next().is_some_and(|host| host.ends_with("-shadow"))
}

#[cfg(test)]
mod tests {
    use super::{Counters, FailFirst};
    use http::Request;

    #[test]
    fn attempts_and_mirrors_are_counted_by_key_and_failures_run_out() {
        let mut counters = Counters::default();
        let request = |host: &str| Request::get("/a").header("host", host).body(()).unwrap();
        let asked = FailFirst { key: "k".to_owned(), count: 2 };
        let fails: Vec<_> = (0..3).map(|_| counters.begin(&request("web"), Some(&asked))).collect();
        assert_eq!(fails, [true, true, false]);
        assert!(!counters.begin(&request("web-shadow:80"), None));
        counters.end(200);
        let told: serde_json::Value = serde_json::from_str(&counters.told()).unwrap();
        assert_eq!((&told["requests"], &told["mirrors"], &told["open"]), (&4.into(), &1.into(), &3.into()));
        assert_eq!(told["keys"]["/a"]["mirrors"], 1);
        assert_eq!((&told["most_open"], &told["statuses"]["200"]), (&4.into(), &1.into()));
    }
}
