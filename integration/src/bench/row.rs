//! What is measured: rows of load, and the figures each of them gives.

use super::Layer;
use super::client::Measured;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Row {
    /// Resident memory of a proxy.
    Memory,
    /// One kept connection.
    KeepAlive1,
    /// 64 kept connections.
    KeepAlive64,
    /// A new connection per request, 32 at once.
    Fresh32,
    /// One stream of bulk data.
    Bulk1,
    /// Eight streams of bulk data.
    Bulk8,
    /// Orders of 47 calls, one at a time.
    Orders1,
    /// Ten customers ordering.
    Orders10,
    /// 64 customers ordering.
    Orders64,
}

/// One figure of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    Rate,
    Median,
    /// What a mesh adds to the median.
    Added,
    Slowest,
    Gigabits,
    CpuEach,
    CpuPerGib,
    Idle,
    Loaded,
    PerConnection,
}

/// What the figure should reach on the machine of the reference run (design, performance).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    const L4: [Self; 6] =
        [Self::Memory, Self::KeepAlive1, Self::KeepAlive64, Self::Fresh32, Self::Bulk1, Self::Bulk8];

    /// The rows of a layer.
    pub(super) fn of(layer: Layer) -> &'static [Self] {
        match layer {
            Layer::L4 => &Self::L4,
            Layer::L7 => &[Self::Memory, Self::KeepAlive1, Self::KeepAlive64],
            Layer::Checkout => &[Self::Orders1, Self::Orders10, Self::Orders64],
        }
    }

    /// Name on the command line.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::KeepAlive1 => "keep-alive1",
            Self::KeepAlive64 => "keep-alive64",
            Self::Fresh32 => "fresh32",
            Self::Bulk1 => "bulk1",
            Self::Bulk8 => "bulk8",
            Self::Orders1 => "orders1",
            Self::Orders10 => "orders10",
            Self::Orders64 => "orders64",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Memory => "memory of one proxy",
            Self::KeepAlive1 => "HTTP keep-alive, 1 connection",
            Self::KeepAlive64 => "HTTP keep-alive, 64 connections",
            Self::Fresh32 => "a new connection per request, 32 at once",
            Self::Bulk1 => "bulk, 1 stream",
            Self::Bulk8 => "bulk, 8 streams",
            Self::Orders1 => "orders of 47 calls, one at a time",
            Self::Orders10 => "orders of 47 calls, 10 at once",
            Self::Orders64 => "orders of 47 calls, 64 at once",
        }
    }

    pub(super) fn width(self) -> usize {
        match self {
            Self::Memory => 0,
            Self::KeepAlive1 | Self::Bulk1 | Self::Orders1 => 1,
            Self::Orders10 => 10,
            Self::KeepAlive64 | Self::Orders64 => 64,
            Self::Fresh32 => 32,
            Self::Bulk8 => 8,
        }
    }

    pub(super) fn figures(self) -> &'static [Figure] {
        use Figure::{
            Added, CpuEach, CpuPerGib, Gigabits, Idle, Loaded, Median, PerConnection, Rate, Slowest,
        };
        match self {
            Self::Memory => &[Idle, Loaded, PerConnection],
            Self::KeepAlive1 | Self::KeepAlive64 | Self::Fresh32 => &[Rate, Median, Slowest, CpuEach],
            Self::Bulk1 | Self::Bulk8 => &[Gigabits, CpuPerGib],
            Self::Orders1 | Self::Orders10 | Self::Orders64 => &[Rate, Median, Added, Slowest, CpuEach],
        }
    }

    pub(super) fn aim(self, layer: Layer, figure: Figure) -> Option<Aim> {
        match (self, figure) {
            (Self::Memory, Figure::Idle | Figure::Loaded) if layer == Layer::L7 => Some(Aim::AtMost(15.0)),
            (Self::KeepAlive1, Figure::Median) => Some(Aim::AtMost(130.0)),
            (Self::KeepAlive64, Figure::Rate) => Some(Aim::AtLeast(45_000.0)),
            (Self::Fresh32, Figure::Rate) => Some(Aim::AtLeast(8_000.0)),
            (Self::Bulk1 | Self::Bulk8, Figure::Gigabits) => Some(Aim::AtLeast(7.2)),
            (Self::Memory, Figure::Idle) => Some(Aim::AtMost(9.0)),
            (Self::Memory, Figure::PerConnection) => Some(Aim::AtMost(2.5)),
            _ => None,
        }
    }
}

impl Figure {
    /// Title, with the direction that is better.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Rate => "per second ↑",
            Self::Median => "p50, µs ↓",
            Self::Added => "added to p50, µs ↓",
            Self::Slowest => "p99, µs ↓",
            Self::Gigabits => "Gbit/s ↑",
            Self::CpuEach => "proxies' CPU per request, µs ↓",
            Self::CpuPerGib => "proxies' CPU per GiB, s ↓",
            Self::Idle => "idle, MB ↓",
            Self::Loaded => "with 64 busy connections, MB ↓",
            Self::PerConnection => "per open connection, KB ↓",
        }
    }

    /// Name in JSON.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Rate => "per_second",
            Self::Median => "p50_microseconds",
            Self::Added => "added_to_p50_microseconds",
            Self::Slowest => "p99_microseconds",
            Self::Gigabits => "gigabits_per_second",
            Self::CpuEach => "proxy_cpu_microseconds_each",
            Self::CpuPerGib => "proxy_cpu_seconds_per_gib",
            Self::Idle => "resident_megabytes_idle",
            Self::Loaded => "resident_megabytes_loaded",
            Self::PerConnection => "resident_kilobytes_per_connection",
        }
    }

    /// Whether only a proxy has it.
    pub(super) fn of_proxies(self) -> bool {
        matches!(
            self,
            Self::Added | Self::CpuEach | Self::CpuPerGib | Self::Idle | Self::Loaded | Self::PerConnection
        )
    }

    pub(super) fn of(self, measured: &Measured) -> f64 {
        let count = measured.count.max(1) as f64;
        match self {
            Self::Rate => measured.count as f64 / measured.seconds,
            Self::Median => percentile(&measured.latencies, 50) / 1e3,
            Self::Slowest => percentile(&measured.latencies, 99) / 1e3,
            Self::Gigabits => measured.count as f64 * 8.0 / 1e9 / measured.seconds,
            Self::CpuEach => measured.cpu * 1e6 / count,
            Self::CpuPerGib => measured.cpu * f64::from(1 << 30) / count,
            Self::Loaded => measured.resident / 1e6,
            // These come from the proxies' memory, or from two loads, and not from one.
            Self::Idle | Self::PerConnection | Self::Added => f64::NAN,
        }
    }

    /// A value with as many digits as mean something.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Rate if value >= 1e4 => format!("{:.1} k", value / 1e3),
            Self::Rate => format!("{value:.0}"),
            Self::Median | Self::Added | Self::Slowest => format!("{value:.0}"),
            Self::CpuEach | Self::Idle | Self::Loaded | Self::PerConnection | Self::Gigabits => {
                format!("{value:.1}")
            }
            Self::CpuPerGib => format!("{value:.2}"),
        }
    }
}

impl Aim {
    pub(super) fn show(self, figure: Figure) -> String {
        match self {
            Self::AtLeast(value) => format!("≥ {}", figure.show(value)),
            Self::AtMost(value) => format!("≤ {}", figure.show(value)),
        }
    }
}

/// Of sorted values, the one that so many in a hundred do not pass.
fn percentile(sorted: &[u32], hundredth: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * hundredth / 100).min(last)).copied().map_or(f64::NAN, f64::from)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn figures_follow_from_what_was_measured() {
        let measured = Measured {
            count: 1 << 30,
            seconds: 2.0,
            cpu: 0.5,
            resident: 5e6,
            latencies: (1..=1000).map(|number| number * 1000).collect(),
        };
        let cases = [
            (Figure::Rate, "536870.9 k"),
            (Figure::Median, "501"),
            (Figure::Slowest, "991"),
            (Figure::Gigabits, "4.3"),
            (Figure::CpuPerGib, "0.50"),
            (Figure::Loaded, "5.0"),
        ];
        for (figure, expected) in cases {
            assert_eq!(figure.show(figure.of(&measured)), expected, "{figure:?}");
        }
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn the_command_line_knows_every_row_by_the_name_in_the_table() {
        let layers = [Layer::L4, Layer::L7, Layer::Checkout];
        for row in layers.into_iter().flat_map(Row::of).copied() {
            assert_eq!(Row::from_str(row.key(), false), Ok(row));
        }
    }
}
