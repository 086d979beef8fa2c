//! Every setting of the waypoint, with its default and what it is for.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;
use ambit_process::workers::Count;

/// Where HBONE arrives at a waypoint, as everywhere in the mesh.
const HBONE_PORT: u16 = 15008;

/// The waypoint's settings as they took effect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is logged and how.
    pub log: LogSettings,
    /// Threads that carry traffic.
    pub workers: Count,
    /// Where HBONE arrives.
    pub inbound: SocketAddr,
    /// Admin, metrics and readiness.
    pub ports: Ports,
    /// How long requests may take to end after SIGTERM.
    pub drain: Duration,
    /// The table of what is in force.
    pub rows: Vec<Row>,
}

/// The doors for people and probes.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Everything; loopback only.
    pub admin: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
    /// Readiness.
    pub readiness: SocketAddr,
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// When any cannot be read; the error lists every one.
    pub fn read(environment: &dyn Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let settings = Self {
            log: LogSettings::read(&mut reader),
            workers: reader.parsed(
                "WAYPOINT_WORKER_THREADS",
                Count::default(),
                "Threads that carry traffic: auto (the CPU limit, at most 4), a number, a percentage, or 0 for one per CPU",
            ),
            inbound: reader.address("INBOUND_ADDRESS", any(HBONE_PORT), "Where HBONE arrives"),
            ports: Ports {
                admin: reader.address(
                    "ADMIN_ADDRESS",
                    (Ipv4Addr::LOCALHOST, 15000).into(),
                    "Admin: dumps, log level, stop; without authentication, so loopback",
                ),
                metrics: reader.address("STATS_ADDRESS", any(15020), "Metrics"),
                readiness: reader.address("READINESS_ADDRESS", any(15021), "Readiness"),
            },
            drain: reader.duration(
                "CONNECTION_TERMINATION_DEADLINE",
                Duration::from_secs(5),
                "How long requests may take to end after SIGTERM",
            ),
            rows: Vec::new(),
        };
        if !settings.ports.admin.ip().is_loopback() {
            reader.fault(
                "ADMIN_ADDRESS",
                &settings.ports.admin.to_string(),
                "has no authentication: use loopback",
            );
        }
        Ok(Self { rows: reader.finish()?, ..settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&pairs.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn defaults_and_overrides_are_in_the_table() {
        let settings = read(&[("INBOUND_ADDRESS", "127.0.0.1:9"), ("WAYPOINT_WORKER_THREADS", "2")]).unwrap();
        assert_eq!(settings.workers, Count::Exactly(2));
        assert_eq!(settings.inbound, "127.0.0.1:9".parse().unwrap());
        assert_eq!(settings.ports.admin.port(), 15000);
        let changed: Vec<_> =
            settings.rows.iter().filter(|row| row.value != row.default).map(|row| row.name).collect();
        assert_eq!(changed, ["WAYPOINT_WORKER_THREADS", "INBOUND_ADDRESS"]);
    }

    #[test]
    fn faults_come_together_and_an_open_admin_port_is_one() {
        let error = read(&[("ADMIN_ADDRESS", "0.0.0.0:15000"), ("LOG_FORMAT", "xml")]).unwrap_err();
        let names: Vec<_> = error.faults.iter().map(|fault| fault.name).collect();
        assert_eq!(names, ["LOG_FORMAT", "ADMIN_ADDRESS"]);
    }
}
