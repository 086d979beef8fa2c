//! Leaving as a well-behaved server does when its pod is to end.

use std::cell::Cell;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderName, HeaderValue};

use crate::image::flag;

/// The flag that says for how long it goes on serving.
pub(in crate::standin) const DRAIN: &str = "drain";

/// Longest time for what is under way when that is over.
const LAST: Duration = Duration::from_secs(10);
/// Pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(10);

/// How a server leaves.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Never, where nothing was said.
    drain: Option<Duration>,
    begun: Cell<bool>,
    under_way: Cell<usize>,
}

/// A request that is under way; over when this is dropped.
pub(super) struct UnderWay<'a>(&'a Leaving);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.update(|count| count - 1);
    }
}

impl Leaving {
    pub(super) fn of(arguments: &[String]) -> std::io::Result<Self> {
        let wrong = |_invalid| std::io::Error::other(format!("--{DRAIN} is a number of seconds"));
        let seconds = flag(arguments, DRAIN).map(str::parse).transpose().map_err(wrong)?;
        let drain = seconds.map(Duration::from_secs);
        Ok(Self { drain, begun: Cell::new(false), under_way: Cell::new(0) })
    }

    /// Whether it leaves.
    pub(super) fn begun(&self) -> bool {
        self.begun.get()
    }

    /// Counts a request.
    pub(super) fn enter(&self) -> UnderWay<'_> {
        self.under_way.update(|count| count + 1);
        UnderWay(self)
    }

    /// What an answer says of its connection.
    pub(super) fn farewell(&self) -> Option<(HeaderName, HeaderValue)> {
        self.begun().then(|| (CONNECTION, HeaderValue::from_static("close")))
    }

    /// Returns when it has been asked to leave and is done.
    pub(super) async fn asked(&self) {
        let Some(drain) = self.drain else { return std::future::pending().await };
        ambit_process::signal::shutdown().await;
        self.begun.set(true);
        tokio::time::sleep(drain).await;
        let end = Instant::now() + LAST;
        while self.under_way.get() > 0 && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
