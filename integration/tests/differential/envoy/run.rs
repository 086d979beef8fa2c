//! Envoy's process, with one listener for each port of each table and TLS that tells it who calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_lab::{Lab, PodHandle, http};
use libtest_mimic::Failed;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{TYPES, manager};
use crate::table::{BACKENDS, CLIENTS, PORTS, Table};

/// Where Envoy answers questions about itself, inside its pod.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15099);
/// The name in Envoy's certificate.
pub(crate) const NAME: &str = "envoy.test";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running Envoy; ends with this value.
pub(crate) struct Envoy {
    child: Child,
    /// How each of [`CLIENTS`] connects to it.
    pub(crate) clients: Vec<Arc<ClientConfig>>,
}

/// Where Envoy serves a port of a table: the port is the Service's own, since policies ask for it.
pub(crate) fn address(table: usize, port: u16) -> SocketAddr {
    let [high, low] = u16::try_from(table + 1).expect("few tables").to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(127, 1, high, low).into(), port)
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
}

impl Authority {
    fn new() -> Result<Self, Failed> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?;
        Ok(Authority { issuer: Issuer::new(params, key), root })
    }

    fn leaf(&self, name: SanType) -> Result<(rcgen::Certificate, KeyPair), Failed> {
        let mut params = CertificateParams::default();
        // One that bears its issuer's name would be taken for self-signed.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }

    fn server(&self) -> Result<Value, Failed> {
        let (leaf, key) = self.leaf(SanType::DnsName(NAME.try_into()?))?;
        Ok(json!({
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": leaf.pem()},
                    "private_key": {"inline_string": key.serialize_pem()},
                }],
                "validation_context": {"trusted_ca": {"inline_string": self.root.pem()}},
            },
        }))
    }

    fn client(&self, namespace: &str, account: &str) -> Result<Arc<ClientConfig>, Failed> {
        let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        let (leaf, key) = self.leaf(SanType::URI(identity.as_str().try_into()?))?;
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone())?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![leaf.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}

impl Envoy {
    /// Starts it in a pod in front of the backends outside the mesh.
    pub(crate) fn start(
        program: &Path,
        lab: &Lab,
        pod: &PodHandle,
        tables: &[Table],
    ) -> Result<Self, Failed> {
        let authority = Authority::new()?;
        let clusters = BACKENDS.iter().map(|name| {
            let to = SocketAddr::new(lab.pod(&format!("plain/{name}"))?.address.v4.into(), 8080);
            Ok(cluster(name, to))
        });
        let tls = authority.server()?;
        let both =
            tables.iter().enumerate().flat_map(|(place, table)| PORTS.map(|port| (place, table, port)));
        let listeners = both.map(|(place, table, port)| {
            json!({
                "name": format!("{}-{port}", table.name), "address": socket(address(place, port)),
                "filter_chains": [{
                    "filters": [{"name": "http", "typed_config": manager(table, port)}],
                    "transport_socket": {"name": "tls", "typed_config": tls},
                }],
            })
        });
        let config = json!({
            "admin": {"address": socket(ADMIN)},
            "static_resources": {
                "listeners": listeners.collect::<Vec<_>>(),
                "clusters": clusters.collect::<Result<Vec<_>, Failed>>()?,
            },
        });
        let folder = lab.folder().join("envoy");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("envoy.json");
        std::fs::write(&file, config.to_string())?;
        let log = folder.join("envoy.log");
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["--log-level", "warning"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log)?);
        let child = lab.spawn_in(pod, command)?;
        let clients = CLIENTS.iter().map(|(namespace, account)| authority.client(namespace, account));
        let mut envoy = Envoy { child, clients: clients.collect::<Result<_, _>>()? };
        let end = Instant::now() + PATIENCE;
        let ready =
            || http::request("GET", ADMIN, "/ready", PATIENCE).is_ok_and(|answer| answer.status == 200);
        while !lab.in_pod(pod, ready) {
            let ended = envoy.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                return Err(format!("Envoy is not ready: {}", std::fs::read_to_string(&log)?).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(envoy)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(to)}});
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
