//! What `/metrics` shows of overload.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Overload;

/// One process's.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Overload);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(overload) = self;
        let (connections, requests) = overload.refused();
        let counters = [
            ("ambit_connections_shed", "New connections refused because a limit was reached", connections),
            ("ambit_requests_shed", "Requests refused because memory was nearly used up", requests),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let gauges = [
            ("ambit_memory_used_bytes", "Memory in use", overload.used()),
            (
                "ambit_memory_charged_bytes",
                "Memory that work taken on within the last second may come to use; 0 without a ceiling",
                overload.charged(),
            ),
            (
                "ambit_memory_ceiling_bytes",
                "Memory that may be used; 0 is without a ceiling",
                overload.ceiling().unwrap_or(0),
            ),
            (
                "ambit_overload_level",
                "0 all work is taken on, 1 new connections are refused, 2 all new work is refused",
                overload.level() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }
}
