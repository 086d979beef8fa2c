//! Every setting of the node agent, in one table.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ambit_crds::origin::{Origin, View};
use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;

use crate::redirect::apply::Redirector;

/// What whoever starts the agent decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node whose pods are ours.
    pub node: String,
    /// Where objects come from.
    pub origin: Origin,
    /// Where pods' networks are mounted, by pod UID.
    pub netns_dir: PathBuf,
    /// Where ztunnels connect.
    pub socket: PathBuf,
    /// The tools for redirection.
    pub redirector: Redirector,
    /// How often the rules of each pod are compared with what was written.
    pub check: Duration,
    /// Readiness, metrics, log level.
    pub admin: SocketAddr,
    /// What is logged.
    pub log: LogSettings,
    /// The table as it took effect.
    pub rows: Vec<Row>,
}

impl Settings {
    /// Reads all of them, or says everything that is wrong.
    pub fn read(environment: &dyn Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let node = reader.required("NODE_NAME", "The node whose pods this agent serves");
        let origin = Origin::read(&mut reader, View::Node(node.clone()));
        let netns_dir = reader.path("AMBIT_NETNS_DIR", "/var/run/ambit/netns", "Pods' networks, by pod UID");
        let socket = reader.path("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "Where ztunnels connect");
        let nft = reader.path("NFT_PATH", "nft", "The nft command");
        let ip = reader.path("IP_PATH", "ip", "The ip command of iproute2");
        let within = Duration::from_secs(5);
        let within =
            reader.duration("AMBIT_COMMAND_TIMEOUT", within, "How long one call of nft or ip may take");
        let check = Duration::from_secs(30);
        let check =
            reader.duration("AMBIT_RULES_CHECK", check, "How often each pod's rules are checked for edits");
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15022));
        let admin =
            reader.address("AMBIT_AGENT_ADMIN", admin, "Readiness, metrics and log level; loopback only");
        let log = LogSettings::read(&mut reader);
        if check.is_zero() {
            reader.fault("AMBIT_RULES_CHECK", "0", "must be longer than nothing");
        }
        let rows = reader.finish()?;
        Ok(Self {
            node,
            origin,
            netns_dir,
            socket,
            redirector: Redirector { nft, ip, within },
            check,
            admin,
            log,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_missing_or_wrong_is_said_together() {
        let environment = BTreeMap::from([("AMBIT_RULES_CHECK".to_owned(), "soon".to_owned())]);
        let faults = Settings::read(&environment).unwrap_err().to_string();
        for name in ["NODE_NAME", "AMBIT_SOURCE_DIRS", "AMBIT_RULES_CHECK"] {
            assert!(faults.contains(name), "{faults}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let pairs = [("NODE_NAME", "n1"), ("AMBIT_SOURCE_DIRS", "/a")];
        let environment: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&environment).unwrap();
        assert_eq!(settings.socket, PathBuf::from("/var/run/ztunnel/ztunnel.sock"));
    }
}
