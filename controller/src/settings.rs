//! Everything that can be set, in one table (`controller --print-settings`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ambit_api::identity::TrustDomain;
use ambit_crds::origin::{Origin, View};
use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;

use crate::ca::tokens::{Account, Expected};
use crate::translate::{Classes, Names};

/// The controller's settings.
#[derive(Debug)]
pub struct Settings {
    /// The gRPC port.
    pub listen: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
    /// Where objects come from.
    pub origin: Origin,
    /// What names are made from.
    pub names: Names,
    /// Classes of Gateways that are waypoints of ours.
    pub classes: Classes,
    /// What is trusted and signed.
    pub ca: CaSettings,
    /// Streams at one time.
    pub streams: usize,
    /// How long events are gathered before they are translated.
    pub gather: Duration,
    /// How long open streams may take to end.
    pub drain: Duration,
    /// Logs.
    pub log: LogSettings,
    /// The table as it took effect.
    pub rows: Vec<Row>,
}

/// Identity.
#[derive(Debug)]
pub struct CaSettings {
    /// Where root key and certificate are kept.
    pub dir: PathBuf,
    /// Further names and addresses in our serving certificate.
    pub names: Vec<String>,
    /// Trust domain until the mesh configuration names one.
    pub trust_domain: TrustDomain,
    /// Whose tokens are taken.
    pub tokens: Expected,
    /// The issuer's public keys.
    pub keys: PathBuf,
    /// Accounts of node proxies.
    pub trusted: Vec<Account>,
}

/// Names under which proxies find us in a cluster.
const OWN_NAMES: [&str; 3] = ["istiod.istio-system.svc", "ambit-controller.ambit-system.svc", "localhost"];

impl Settings {
    /// Reads them all; every fault is reported at once.
    pub fn read(environment: &dyn Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let reader = &mut reader;
        let listen = reader.address("AMBIT_LISTEN", ([0, 0, 0, 0], 15012).into(), "Address of xDS and CA");
        let admin = reader.address(
            "AMBIT_ADMIN",
            ([127, 0, 0, 1], 15014).into(),
            "Address of readiness, metrics and dumps; it has no authentication",
        );
        let ca = CaSettings::read(reader);
        let names = Names {
            cluster: reader.text("CLUSTER_ID", "Kubernetes", "The cluster's name"),
            domain: reader.text("CLUSTER_DOMAIN", "cluster.local", "The cluster's DNS domain"),
            network: reader.text("NETWORK", "", "The network that every address belongs to"),
        };
        let classes = Classes {
            istio: reader.flag(
                "AMBIT_ISTIO_WAYPOINT",
                true,
                "Take Gateways of class istio-waypoint for ours too",
            ),
        };
        let origin = Origin::read(reader, View::Mesh { classes: classes.names() });
        let streams = reader.number("AMBIT_MAX_PROXIES", 5_000, "Proxies that may be connected at one time");
        let gather =
            reader.duration("AMBIT_GATHER", Duration::from_millis(5), "Gathering changes into one snapshot");
        let drain =
            reader.duration("AMBIT_DRAIN", Duration::from_secs(5), "How long streams may take to end");
        let log = LogSettings::read(reader);
        let rows = std::mem::replace(reader, Reader::new(environment)).finish()?;
        Ok(Self { listen, admin, origin, names, classes, ca, streams, gather, drain, log, rows })
    }
}

impl CaSettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        let dir =
            reader.path("AMBIT_CA_DIR", "/var/lib/ambit/ca", "Where the root's key and certificate are kept");
        let names = reader.text(
            "AMBIT_SERVING_NAMES",
            "",
            "Further names and addresses of ours, separated by commas",
        );
        let domain = reader.text("TRUST_DOMAIN", "cluster.local", "Trust domain of every identity");
        let trust_domain = TrustDomain::new(&domain).unwrap_or_else(|cause| {
            reader.fault("TRUST_DOMAIN", &domain, cause.to_string());
            TrustDomain::default()
        });
        let tokens = Expected {
            issuer: reader.required("AMBIT_TOKEN_ISSUER", "The `iss` of service account tokens"),
            audience: reader.text("AMBIT_TOKEN_AUDIENCE", "istio-ca", "The `aud` that tokens must name"),
        };
        let keys = PathBuf::from(
            reader.required("AMBIT_TOKEN_JWKS", "File with the token issuer's public keys (JWKS)"),
        );
        let accounts = reader.text(
            "AMBIT_TRUSTED_NODE_ACCOUNTS",
            "ambit-system/ztunnel,istio-system/ztunnel",
            "Service accounts of node proxies: they alone get configuration and certificates",
        );
        let mut trusted = Vec::new();
        for text in accounts.split(',').filter(|text| !text.trim().is_empty()) {
            match text.parse() {
                Ok(account) => trusted.push(account),
                Err(cause) => reader.fault("AMBIT_TRUSTED_NODE_ACCOUNTS", text, cause),
            }
        }
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names = OWN_NAMES.into_iter().chain(names).map(str::to_owned).collect();
        Self { dir, names, trust_domain, tokens, keys, trusted }
    }
}
