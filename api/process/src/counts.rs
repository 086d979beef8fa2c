//! Counters for what happens seldom: one name, a few labels, a bounded number of label sets.
//!
//! One lock for the whole process guards them, so they are not for every request of a busy proxy.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::metrics::Metrics;

/// Label sets kept apart; further ones are counted together, so that no configuration and no peer can fill memory.
const SETS: usize = 2_000;

/// What stands in every label of the set that is all others.
const OTHER: &str = "other";

/// Counters of one name by `N` labels. Clones are the same.
#[derive(Clone, Debug)]
pub struct Counts<const N: usize>(Arc<Shared<N>>);

#[derive(Debug)]
struct Shared<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    held: Mutex<HashMap<[String; N], u64>>,
}

impl<const N: usize> Counts<N> {
    /// Registers a counter, whose `name` is without `_total`, with these labels.
    pub fn register(
        metrics: &Metrics,
        (name, help): (&'static str, &'static str),
        labels: [&'static str; N],
    ) -> Self {
        let counts = Self(Arc::new(Shared { name, help, labels, held: Mutex::default() }));
        metrics.with(|registry| registry.register_collector(Box::new(counts.clone())));
        counts
    }

    /// Counts one for these values of its labels.
    pub fn count(&self, values: [String; N]) {
        let mut held = self.lock();
        let full = held.len() >= SETS && !held.contains_key(&values);
        let values = if full { std::array::from_fn(|_| OTHER.to_owned()) } else { values };
        *held.entry(values).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[String; N], u64>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> Collector for Counts<N> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(self.0.name, self.0.help, None, MetricType::Counter)?;
        for (values, count) in self.lock().iter() {
            let pairs: Vec<_> =
                self.0.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            ConstCounter::new(*count).encode(metric.encode_family(&pairs)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_counted_apart_up_to_a_bound() {
        let metrics = Metrics::new();
        let counts = Counts::register(&metrics, ("things", "Things"), ["kind", "end"]);
        let values = |kind: &str| [kind.to_owned(), "good".to_owned()];
        counts.count(values("a"));
        counts.clone().count(values("a"));
        assert!(metrics.encode().contains("things_total{kind=\"a\",end=\"good\"} 2\n"));
        for number in 0..SETS + 9 {
            counts.count(values(&number.to_string()));
        }
        counts.count(values("a"));
        let text = metrics.encode();
        assert!(text.contains("things_total{kind=\"a\",end=\"good\"} 3\n"), "a known one is still counted");
        assert!(text.contains("things_total{kind=\"other\",end=\"other\"} 10\n"), "{}", text.len());
        assert_eq!(counts.lock().len(), SETS + 1);
    }
}
