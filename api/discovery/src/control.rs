//! The control plane as every proxy is told of it: its settings, in one table for all, and what follows from them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ambit_api::identity::TrustDomain;
use ambit_process::metrics::Metrics;
use ambit_process::readiness::Hold;
use ambit_process::settings::Reader;
use ambit_process::spawn::spawn;
use tokio::task::JoinHandle;

use crate::channel::{ChannelError, RootSource, Target, TokenSource};
use crate::credentials::{CaClient, Credentials};
use crate::view::Writer;
use crate::xds::{self, Config, Node, Role, XdsMetrics};

/// Where configuration and certificates come from, and who asks for them.
#[derive(Clone, Debug)]
pub struct Control {
    /// xDS server.
    pub xds_address: String,
    /// Certificate authority.
    pub ca_address: String,
    /// Roots that vouch for the xDS server.
    pub xds_root: String,
    /// Roots that vouch for the CA.
    pub ca_root: String,
    /// Name the xDS server's certificate must carry, when not that of its address.
    pub xds_hostname: Option<String>,
    /// Name the CA's certificate must carry, when not that of its address.
    pub ca_hostname: Option<String>,
    /// File with our service account token, or the token.
    pub token: String,
    /// Cluster.
    pub cluster: String,
    /// The network we are on.
    pub network: String,
    /// Our trust domain.
    pub trust_domain: TrustDomain,
    /// Requested life of certificates.
    pub certificate_ttl: Duration,
    /// The node we run on.
    pub node: String,
    /// Our own pod.
    pub pod_name: String,
    /// Our own namespace.
    pub pod_namespace: String,
    /// Our own address.
    pub instance_ip: Option<IpAddr>,
}

impl Control {
    /// Reads them; `pod_namespace` is where nothing says so. Faults are left with the reader.
    pub fn read(reader: &mut Reader<'_>, pod_namespace: &str) -> Self {
        let xds_address =
            reader.text("XDS_ADDRESS", "https://istiod.istio-system.svc:15012", "the xDS server");
        let root = "./var/run/secrets/istio/root-cert.pem";
        Self {
            ca_address: reader.text("CA_ADDRESS", &xds_address, "the certificate authority"),
            xds_address,
            xds_root: reader.text("XDS_ROOT_CA", root, "PEM file of roots that vouch for the xDS server"),
            ca_root: reader.text("CA_ROOT_CA", root, "PEM file of roots that vouch for the CA"),
            xds_hostname: reader
                .optional("ALT_XDS_HOSTNAME", "name in the xDS server's certificate, if another"),
            ca_hostname: reader.optional("ALT_CA_HOSTNAME", "name in the CA's certificate, if another"),
            token: reader.text(
                "AUTH_TOKEN",
                "./var/run/secrets/tokens/istio-token",
                "file with our service account token, read anew for each call",
            ),
            cluster: reader.text("CLUSTER_ID", "Kubernetes", "the cluster's name"),
            network: reader.text("NETWORK", "", "the network we and the pods we serve are on"),
            trust_domain: reader.parsed(
                "TRUST_DOMAIN",
                TrustDomain::default(),
                "trust domain of us and the pods we serve",
            ),
            certificate_ttl: reader.duration(
                "SECRET_TTL",
                Duration::from_secs(86_400),
                "asked life of certificates",
            ),
            node: reader.text("NODE_NAME", "", "the node we run on"),
            pod_name: reader.text("POD_NAME", "", "our own pod's name"),
            pod_namespace: reader.text("POD_NAMESPACE", pod_namespace, "our own namespace"),
            instance_ip: match reader.optional("INSTANCE_IP", "our own address, part of the xDS node id") {
                None => None,
                Some(text) => {
                    text.parse().map_err(|_| reader.fault("INSTANCE_IP", &text, "not an IP address")).ok()
                }
            },
        }
    }

    /// Follows configuration and renews certificates until the tasks are aborted: a draining process still obeys policy
    /// and renews, so that is done after the drain and not by it. `ready` is let go with the first configuration.
    ///
    /// # Errors
    /// When an address or a header cannot be used.
    pub fn start(
        &self,
        role: Role,
        (writer, credentials): (Writer, Credentials),
        metrics: &Metrics,
        ready: Hold,
    ) -> Result<[JoinHandle<()>; 2], ChannelError> {
        let (target, node) = (self.xds_target(), self.node(role));
        let config = Config { target, node, metrics: XdsMetrics::register(metrics) };
        let ca = CaClient::new(self.ca_target(), self.certificate_ttl)?;
        let xds = spawn("xds", xds::run(config, writer, ready, std::future::pending()));
        Ok([xds, spawn("credentials", credentials.run(ca, std::future::pending()))])
    }

    fn xds_target(&self) -> Target {
        Target {
            address: self.xds_address.clone(),
            roots: RootSource::parse(&self.xds_root),
            hostname: self.xds_hostname.clone(),
            token: TokenSource::parse(&self.token),
            cluster: self.cluster.clone(),
            headers: Vec::new(),
        }
    }

    fn ca_target(&self) -> Target {
        Target {
            address: self.ca_address.clone(),
            roots: RootSource::parse(&self.ca_root),
            hostname: self.ca_hostname.clone(),
            ..self.xds_target()
        }
    }

    fn node(&self, role: Role) -> Node {
        Node {
            role,
            instance_ip: self.instance_ip,
            pod_name: self.pod_name.clone(),
            pod_namespace: self.pod_namespace.clone(),
            node_name: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            metadata: BTreeMap::new(),
        }
    }
}
