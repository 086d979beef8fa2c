//! Everything that can be set, in one table (`controller --print-settings`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ambit_api::identity::TrustDomain;
use ambit_crds::origin::{Origin, View};
use ambit_process::settings::{Environment, Reader, Row, SettingsError};
use ambit_process::telemetry::LogSettings;

use crate::ca::tokens::{Account, Expected};
use crate::translate::{Classes, Names, Shape};

/// The controller's settings.
#[derive(Debug)]
pub struct Settings {
    /// The gRPC port.
    pub listen: SocketAddr,
    /// Where people and probes are answered.
    pub doors: Doors,
    /// Where the API server asks about objects before it takes them; nowhere without one.
    pub webhook: Option<SocketAddr>,
    /// Where objects come from.
    pub origin: Origin,
    /// What names are made from.
    pub names: Names,
    /// Classes of Gateways that are waypoints of ours.
    pub classes: Classes,
    /// What waypoints are deployed as.
    pub shape: Shape,
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

/// Where people and probes are answered.
#[derive(Debug)]
pub struct Doors {
    /// Everything; loopback only.
    pub admin: SocketAddr,
    /// Metrics for others than this machine.
    pub metrics: Option<SocketAddr>,
    /// Readiness for others than this machine.
    pub readiness: Option<SocketAddr>,
}

/// Identity.
#[derive(Debug)]
pub struct CaSettings {
    /// Files that a cluster's Secrets and API server replace.
    pub files: Option<CaFiles>,
    /// The audience that tokens must name.
    pub audience: String,
    /// Further names and addresses in our serving certificate.
    pub names: Vec<String>,
    /// Trust domain until the mesh configuration names one.
    pub trust_domain: TrustDomain,
    /// Accounts of node proxies.
    pub trusted: Vec<Account>,
}

/// Identity where there is no cluster.
#[derive(Clone, Debug)]
pub struct CaFiles {
    /// Where root key and certificate are kept.
    pub dir: PathBuf,
    /// Whose tokens are taken.
    pub tokens: Expected,
    /// The issuer's public keys.
    pub keys: PathBuf,
}

/// Our namespace where nothing says otherwise.
const SYSTEM: &str = "ambit-system";

/// Names under which proxies find us in a cluster.
const OWN_NAMES: [&str; 3] = ["istiod.istio-system.svc", "ambit-controller.ambit-system.svc", "localhost"];

impl Settings {
    /// Reads them all; every fault is reported at once.
    pub fn read(environment: &dyn Environment) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(environment);
        let reader = &mut reader;
        let listen = reader.address("AMBIT_LISTEN", ([0, 0, 0, 0], 15012).into(), "Address of xDS and CA");
        let doors = Doors::read(reader);
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
        let ca = CaSettings::read(reader, origin.namespace());
        let doc = "Image of waypoints; pods of any version of it are taken for replicas";
        let image = reader.text("AMBIT_WAYPOINT_IMAGE", "ambit/waypoint:0.1", doc);
        let shape = Shape::new(image, origin.namespace().unwrap_or(SYSTEM));
        let webhook = origin.namespace().map(|_| {
            let doc = "Address at which the API server asks about objects";
            reader.address("AMBIT_WEBHOOK", ([0, 0, 0, 0], 15017).into(), doc)
        });
        let streams = reader.number("AMBIT_MAX_PROXIES", 5_000, "Proxies that may be connected at one time");
        let gather =
            reader.duration("AMBIT_GATHER", Duration::from_millis(5), "Gathering changes into one snapshot");
        let drain =
            reader.duration("AMBIT_DRAIN", Duration::from_secs(5), "How long streams may take to end");
        let log = LogSettings::read(reader);
        let rows = std::mem::replace(reader, Reader::new(environment)).finish()?;
        Ok(Self {
            listen,
            doors,
            webhook,
            origin,
            names,
            classes,
            shape,
            ca,
            streams,
            gather,
            drain,
            log,
            rows,
        })
    }
}

impl Doors {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            admin: reader.address(
                "AMBIT_ADMIN",
                ([127, 0, 0, 1], 15014).into(),
                "Address of readiness, metrics and dumps; it has no authentication",
            ),
            metrics: optional(reader, "AMBIT_METRICS", "Address of metrics alone, if they have one"),
            readiness: optional(reader, "AMBIT_READINESS", "Address of readiness alone, if it has one"),
        }
    }
}

fn optional(reader: &mut Reader<'_>, name: &'static str, doc: &'static str) -> Option<SocketAddr> {
    let text = reader.optional(name, doc)?;
    let address = text.parse().ok();
    if address.is_none() {
        reader.fault(name, &text, "expected ADDRESS:PORT");
    }
    address
}

impl CaFiles {
    fn read(reader: &mut Reader<'_>, audience: &str) -> Self {
        let doc = "Where the root's key and certificate are kept";
        Self {
            dir: reader.path("AMBIT_CA_DIR", "/var/lib/ambit/ca", doc),
            tokens: Expected {
                issuer: reader.required("AMBIT_TOKEN_ISSUER", "The `iss` of service account tokens"),
                audience: audience.to_owned(),
            },
            keys: PathBuf::from(
                reader.required("AMBIT_TOKEN_JWKS", "File with the token issuer's public keys (JWKS)"),
            ),
        }
    }
}

impl CaSettings {
    /// `namespace` is ours in a cluster, whose API server knows tokens and keeps the key.
    fn read(reader: &mut Reader<'_>, namespace: Option<&str>) -> Self {
        let doc = "Further names and addresses of ours, separated by commas";
        let further = reader.text("AMBIT_SERVING_NAMES", "", doc);
        let domain = reader.text("TRUST_DOMAIN", "cluster.local", "Trust domain of every identity");
        let trust_domain = TrustDomain::new(&domain).unwrap_or_else(|cause| {
            reader.fault("TRUST_DOMAIN", &domain, cause.to_string());
            TrustDomain::default()
        });
        let audience = reader.text("AMBIT_TOKEN_AUDIENCE", "istio-ca", "The `aud` that tokens must name");
        let files = namespace.is_none().then(|| CaFiles::read(reader, &audience));
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
        let own = namespace.map(|namespace| format!("ambit-controller.{namespace}.svc"));
        let further = further.split(',').map(str::trim).filter(|name| !name.is_empty());
        let all = OWN_NAMES.into_iter().map(str::to_owned).chain(own).chain(further.map(str::to_owned));
        let mut names = Vec::new();
        all.for_each(|name| {
            if !names.contains(&name) {
                names.push(name)
            }
        });
        Self { files, audience, names, trust_domain, trusted }
    }
}
