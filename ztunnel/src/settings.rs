//! Every setting of the ztunnel, in one table. Istio's names where Istio has one (l4-protocols §12), so that the
//! environment of an existing DaemonSet works unchanged; ours begin with `AMBIT_`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ambit_discovery::control::Control;
use ambit_process::overload::Asked;
use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;
use ambit_process::workers::Count;

/// What the ztunnel was told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where configuration and certificates come from.
    pub control: Control,
    /// How connections are handled.
    pub data: Data,
    /// Which pods.
    pub pods: Pods,
    /// Admin, metrics and readiness.
    pub admin: AdminSettings,
    /// Logs.
    pub log: LogSettings,
    /// The table, for `--print-settings` and `/config_dump`.
    pub table: Vec<Row>,
}

/// The data plane.
#[derive(Clone, Debug)]
pub struct Data {
    /// Worker threads.
    pub workers: Count,
    /// Mark of every socket of ours in a pod.
    pub mark: u32,
    /// Keep the client's address towards the application.
    pub original_source: OriginalSource,
    /// Listen on IPv6 too.
    pub ipv6: bool,
    /// Bounds on time.
    pub times: Times,
    /// Open connections this process accepts before it sheds new ones.
    pub max_connections: usize,
    /// Open connections of one pod before its new ones are shed.
    pub max_connections_per_pod: usize,
    /// Inbound TLS handshakes under way before new ones are refused.
    pub max_handshakes: usize,
    /// What bounds memory: from 80 % of it on new connections are refused.
    pub memory_ceiling: Asked,
}

/// Bounds on time.
#[derive(Clone, Debug)]
pub struct Times {
    /// TCP connect, tunnel set-up and CONNECT answer each.
    pub connect: Duration,
    /// A connection without data for this long ends.
    pub idle: Duration,
    /// A tunnel without streams for this long closes.
    pub tunnel_idle: Duration,
    /// How long a connection waits for its pod's configuration.
    pub configuration_wait: Duration,
    /// How long open connections may go on after SIGTERM.
    pub drain: Duration,
}

/// Whether the application sees the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalSource {
    /// Yes where the system allows it.
    BestEffort,
    /// Yes, or the connection fails.
    Required,
    /// No.
    Off,
}

/// Where pods come from.
#[derive(Clone, Debug)]
pub struct Pods {
    /// The node agent's socket.
    pub socket: PathBuf,
    /// How long a pod that left the mesh still accepts tunnels, until every peer has heard.
    pub linger: Duration,
    /// How long connections of a pod that is gone may still end by themselves.
    pub gone_grace: Duration,
}

/// Admin servers and logs.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// `/config_dump`, `/logging`, `/quitquitquit`.
    pub admin: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
    /// `/healthz/ready`.
    pub readiness: SocketAddr,
}

impl Settings {
    /// Reads everything and reports all faults together.
    pub fn read(environment: &dyn Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let control = Control::read(&mut reader, "");
        let data = Data::read(&mut reader);
        let pods = Pods::read(&mut reader);
        let admin = AdminSettings::read(&mut reader);
        let log = LogSettings::read(&mut reader);
        let table = reader.finish()?;
        Ok(Self { control, data, pods, admin, log, table })
    }
}

impl Data {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            workers: reader.parsed(
                "ZTUNNEL_WORKER_THREADS",
                Count::default(),
                "n, n% of the CPUs, or 0 for all; else the CPU limit, at most 4",
            ),
            mark: reader.number("PACKET_MARK", 0x539, "mark of our sockets in pods, exempt from redirection"),
            original_source: match reader
                .optional("ENABLE_ORIG_SRC", "true: required, false: off, unset: best effort")
            {
                None => OriginalSource::BestEffort,
                Some(text) if text == "false" => OriginalSource::Off,
                Some(_) => OriginalSource::Required,
            },
            ipv6: reader.flag("IPV6_ENABLED", true, "listen on IPv6 too"),
            times: Times::read(reader),
            max_connections: reader.number(
                "AMBIT_MAX_CONNECTIONS",
                0,
                "open connections before new ones are shed; 0 derives it from the descriptor limit",
            ),
            max_connections_per_pod: reader.number(
                "AMBIT_MAX_CONNECTIONS_PER_POD",
                0,
                "open connections of one pod before its new ones are shed; 0 is half of the total",
            ),
            max_handshakes: reader.number(
                "AMBIT_MAX_HANDSHAKES",
                1024,
                "inbound TLS handshakes under way before new ones are refused; an eighth of it for one peer",
            ),
            memory_ceiling: reader.parsed(
                "AMBIT_MEMORY_CEILING",
                Asked::Auto,
                "memory (256Mi, at least 32Mi) from 80 % of which on new connections are refused; auto: the container's limit; off",
            ),
        }
    }
}

impl Times {
    fn read(reader: &mut Reader<'_>) -> Self {
        let grace = Duration::from_secs(10);
        let grace =
            reader.duration("TERMINATION_GRACE_PERIOD_SECONDS", grace, "time from SIGTERM to SIGKILL");
        Self {
            connect: reader.duration(
                "AMBIT_CONNECT_TIMEOUT",
                Duration::from_secs(10),
                "limit of each step of setting up a connection",
            ),
            idle: or_never(reader.duration(
                "AMBIT_IDLE_TIMEOUT",
                Duration::from_secs(3 * 3600),
                "a connection without data for this long ends; 0 is never",
            )),
            tunnel_idle: reader.duration(
                "POOL_UNUSED_RELEASE_TIMEOUT",
                Duration::from_secs(300),
                "a tunnel without connections for this long closes",
            ),
            configuration_wait: reader.duration(
                "AMBIT_CONFIGURATION_WAIT",
                Duration::from_secs(5),
                "how long a new connection waits for its pod's configuration or certificate",
            ),
            drain: reader.duration(
                "CONNECTION_TERMINATION_DEADLINE",
                drain_within(grace),
                "how long open connections may go on after SIGTERM",
            ),
        }
    }
}

/// A century stands for never: timers need an end.
fn or_never(limit: Duration) -> Duration {
    if limit.is_zero() { Duration::from_secs(100 * 365 * 86_400) } else { limit }
}

/// Leaves five seconds of the grace period for the rest of the shutdown (one, if it is short).
fn drain_within(grace: Duration) -> Duration {
    let reserve = if grace <= Duration::from_secs(10) { 1 } else { 5 };
    grace.saturating_sub(Duration::from_secs(reserve)).max(Duration::from_secs(1))
}

impl Pods {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            socket: reader.path("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "the node agent's socket"),
            linger: reader.duration(
                "AMBIT_LEAVE_LINGER",
                Duration::from_secs(15),
                "how long a pod that left the mesh still accepts tunnels",
            ),
            gone_grace: reader.duration(
                "AMBIT_GONE_GRACE",
                Duration::from_secs(5),
                "how long connections of a deleted pod may still end by themselves",
            ),
        }
    }
}

impl AdminSettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        let v4 = |ip: Ipv4Addr, port: u16| SocketAddr::from((ip, port));
        Self {
            admin: reader.address(
                "AMBIT_ADMIN_ADDRESS",
                v4(Ipv4Addr::LOCALHOST, 15000),
                "configuration dump, log level, quit; no authentication",
            ),
            metrics: reader.address("AMBIT_METRICS_ADDRESS", v4(Ipv4Addr::UNSPECIFIED, 15020), "metrics"),
            readiness: reader.address(
                "AMBIT_READINESS_ADDRESS",
                v4(Ipv4Addr::UNSPECIFIED, 15021),
                "readiness",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
