//! Every setting of the waypoint, with its default and what it is for.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ambit_discovery::control::Control;
use ambit_process::overload::Asked;
use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;
use ambit_process::workers::Count;

/// Where HBONE arrives at a waypoint, as everywhere in the mesh.
const HBONE_PORT: u16 = 15008;

/// The waypoint's settings as they took effect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where configuration and certificates come from.
    pub control: Control,
    /// Who we are.
    pub names: Names,
    /// How traffic is carried.
    pub data: Data,
    /// Admin, metrics and readiness.
    pub ports: Ports,
    /// What is logged and how.
    pub log: LogSettings,
    /// The table of what is in force.
    pub rows: Vec<Row>,
}

/// Our own names, besides those the control plane is told.
#[derive(Debug, Clone)]
pub struct Names {
    /// Our service account, which is our identity.
    pub service_account: String,
    /// The Gateway object we serve.
    pub gateway: String,
}

/// How traffic is carried.
#[derive(Debug, Clone)]
pub struct Data {
    /// Threads that carry traffic.
    pub workers: Count,
    /// Where HBONE arrives.
    pub inbound: SocketAddr,
    /// Bounds on time.
    pub times: Times,
    /// Bytes of a request's or response's head.
    pub max_head: usize,
    /// Streams that a client may have open at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Tunnels and plain connections accepted before new ones are shed.
    pub max_connections: usize,
    /// What bounds memory: from 80 % of it on new connections are refused, from 90 % on requests too.
    pub memory_ceiling: Asked,
}

/// Bounds on time.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// TCP connect, TLS, tunnel set-up and CONNECT answer each.
    pub connect: Duration,
    /// A connection without a request, or without data where it is not HTTP, ends after this.
    pub idle: Duration,
    /// A tunnel without streams closes after this.
    pub tunnel_idle: Duration,
    /// How long a port without a declared protocol waits for the client's first bytes.
    pub sniff: Duration,
    /// How long a request waits for what is on its way from the controller: our certificate.
    pub configuration_wait: Duration,
    /// How long requests may take to end after SIGTERM.
    pub drain: Duration,
    /// How long new connections are still accepted after SIGTERM, until clients have heard that we leave.
    pub linger: Duration,
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
        let control = Control::read(&mut reader, "default");
        let names = Names::read(&mut reader);
        let data = Data::read(&mut reader);
        let ports = Ports::read(&mut reader);
        let log = LogSettings::read(&mut reader);
        let rows = reader.finish()?;
        Ok(Self { control, names, data, ports, log, rows })
    }
}

impl Names {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            service_account: reader.text("SERVICE_ACCOUNT", "default", "our service account"),
            gateway: reader.text("GATEWAY_NAME", "", "the Gateway object we serve"),
        }
    }
}

impl Data {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            workers: reader.parsed(
                "WAYPOINT_WORKER_THREADS",
                Count::default(),
                "threads that carry traffic: auto (the CPU limit, at most 4), a number, a percentage, or 0 for one per CPU",
            ),
            inbound: reader.address(
                "INBOUND_ADDRESS",
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, HBONE_PORT)),
                "where HBONE arrives",
            ),
            times: Times::read(reader),
            max_head: reader.number("MAX_REQUEST_HEADERS_KB", 60_usize, "KiB of a head before 431") * 1024,
            max_streams: reader.number(
                "AMBIT_MAX_STREAMS",
                1024,
                "requests a client may have open at once on one HTTP/2 connection",
            ),
            max_connections: reader.number(
                "AMBIT_MAX_CONNECTIONS",
                0,
                "open tunnels and connections before new ones are shed; 0 derives it from the descriptor limit",
            ),
            memory_ceiling: reader.parsed(
                "AMBIT_MEMORY_CEILING",
                Asked::Auto,
                "memory (256Mi, at least 32Mi) from 80 % of which on new connections are refused, from 90 % on requests too; auto: the container's limit; off",
            ),
        }
    }
}

impl Times {
    fn read(reader: &mut Reader<'_>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: reader.duration(
                "AMBIT_CONNECT_TIMEOUT",
                seconds(10),
                "limit of each step of setting up a connection",
            ),
            idle: reader.duration(
                "AMBIT_IDLE_TIMEOUT",
                seconds(3600),
                "a connection without a request, or without data where it is not HTTP, ends after this",
            ),
            tunnel_idle: reader.duration(
                "POOL_UNUSED_RELEASE_TIMEOUT",
                seconds(300),
                "a tunnel without connections for this long closes",
            ),
            sniff: reader.duration(
                "AMBIT_SNIFF_TIMEOUT",
                Duration::from_millis(200),
                "how long a port without a declared protocol waits for the client's first bytes",
            ),
            configuration_wait: reader.duration(
                "AMBIT_CONFIGURATION_WAIT",
                seconds(5),
                "how long a tunnel waits for our certificate",
            ),
            drain: reader.duration(
                "CONNECTION_TERMINATION_DEADLINE",
                seconds(5),
                "how long requests may take to end after SIGTERM",
            ),
            linger: reader.duration(
                "MINIMUM_DRAIN_DURATION",
                seconds(2),
                "how long new connections are still accepted after SIGTERM, until clients have heard that we leave",
            ),
        }
    }
}

impl Ports {
    fn read(reader: &mut Reader<'_>) -> Self {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let ports = Self {
            admin: reader.address(
                "ADMIN_ADDRESS",
                (Ipv4Addr::LOCALHOST, 15000).into(),
                "admin: dumps, log level, stop; without authentication, so loopback",
            ),
            metrics: reader.address("STATS_ADDRESS", any(15020), "metrics"),
            readiness: reader.address("READINESS_ADDRESS", any(15021), "readiness"),
        };
        if !ports.admin.ip().is_loopback() {
            reader.fault("ADMIN_ADDRESS", &ports.admin.to_string(), "has no authentication: use loopback");
        }
        ports
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
        assert_eq!(settings.data.workers, Count::Exactly(2));
        assert_eq!(settings.data.inbound, "127.0.0.1:9".parse().unwrap());
        assert_eq!(settings.data.max_head, 61_440);
        assert_eq!(settings.ports.admin.port(), 15000);
        let changed: Vec<_> =
            settings.rows.iter().filter(|row| row.value != row.default).map(|row| row.name).collect();
        assert_eq!(changed, ["WAYPOINT_WORKER_THREADS", "INBOUND_ADDRESS"]);
    }

    #[test]
    fn faults_come_together_and_an_open_admin_port_is_one() {
        let error = read(&[("ADMIN_ADDRESS", "0.0.0.0:15000"), ("LOG_FORMAT", "xml")]).unwrap_err();
        let names: Vec<_> = error.faults.iter().map(|fault| fault.name).collect();
        assert_eq!(names, ["ADMIN_ADDRESS", "LOG_FORMAT"]);
    }
}
