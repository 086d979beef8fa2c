//! The program's metric registry: filled through [`Metrics::with`], served as OpenMetrics text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::registry::Registry;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers metrics. The lock guards registration and encoding only; counting takes none.
    pub fn with<R>(&self, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(&mut self.lock())
    }

    /// Everything registered, as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String fails only when a metric's own encoder does; what was written still serves.
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.lock()) {
            tracing::error!(%error, "a metric could not be encoded");
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A registration that panicked leaves the registry usable.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn encodes_what_clones_registered() {
        let metrics = Metrics::new();
        let counter = Counter::<u64>::default();
        metrics.clone().with(|registry| {
            let istio = registry.sub_registry_with_prefix("istio");
            istio.register("tcp_connections_opened", "Opened", counter.clone());
        });
        counter.inc_by(3);
        let text = metrics.encode();
        assert!(text.contains("istio_tcp_connections_opened_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_panic_during_registration_does_not_silence_the_rest() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        let panicked = std::thread::spawn(move || clone.with(|_| panic!("on purpose"))).join();
        assert!(panicked.is_err());
        assert_eq!(metrics.encode(), "# EOF\n");
    }
}
