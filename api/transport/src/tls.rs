//! TLS as the mesh speaks it: 1.3, AES-GCM, post-quantum key exchange first, ALPN h2, no resumption.
//!
//! A configuration is built once per certificate and shared; only the expected identity varies per connection.

mod stream;

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use ambit_api::reason::Reason;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;

use crate::certificate::{Certificate, CertificateError, Facts, Roots};
use crate::trust::{Accepted, Clients, Servers, Untrusted, placeholder, verdict};
pub use stream::TlsStream;

const ALPN_H2: &[u8] = b"h2";

/// Who is at the other end, from its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub identity: Identity,
    /// When its certificate ends; the connection must not outlive it.
    pub not_after: SystemTime,
    /// Serial number of its certificate.
    pub serial: String,
}

/// Why no TLS connection came about.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not done in time.
    #[error("TLS handshake not done within {0:?}")]
    TimedOut(Duration),
    /// We refuse the peer.
    #[error("{0}")]
    Untrusted(#[from] Untrusted),
    /// The peer came without a certificate.
    #[error("the client presented no certificate")]
    NoClientCertificate,
    /// The peer refuses us, or speaks another protocol.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// The connection broke during the handshake.
    #[error("connection lost during the TLS handshake: {0}")]
    Io(#[source] io::Error),
    /// Our own certificate or roots cannot be used.
    #[error("cannot use our certificate: {0}")]
    Configuration(String),
}

/// The client side for one of our certificates.
#[derive(Clone, Debug)]
pub struct MeshClient {
    base: Arc<ClientConfig>,
    chain: Arc<WebPkiServerVerifier>,
    not_after: SystemTime,
}

impl TlsError {
    /// The end this failure means for a connection.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::TimedOut,
            Self::Configuration(_) => Reason::NoCertificate,
            _ => Reason::TlsFailed,
        }
    }

    fn from_io(cause: io::Error) -> Self {
        let Some(tls) = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Io(cause);
        };
        match (verdict(tls), tls) {
            (Some(untrusted), _) => Self::Untrusted(untrusted),
            (None, rustls::Error::NoCertificatesPresented) => Self::NoClientCertificate,
            (None, other) => Self::Handshake(other.to_string()),
        }
    }
}

impl From<CertificateError> for TlsError {
    fn from(cause: CertificateError) -> Self {
        Self::Configuration(cause.to_string())
    }
}

/// The cryptography of the mesh: chosen once, so that no cargo feature of a dependency changes what is offered.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        })
    });
    PROVIDER.clone()
}

/// The server side of the mesh for one of our certificates: clients must show one of an accepted trust domain.
pub fn server_config(
    certificate: &Certificate,
    roots: &Roots,
    accepted: &Accepted,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(configuration)?
        .with_client_cert_verifier(Arc::new(Clients::new(roots, accepted)?))
        .with_single_cert(certificate.chain.to_vec(), certificate.key.der())
        .map_err(configuration)?;
    no_resumption(&mut config);
    Ok(Arc::new(config))
}

/// The client side of the mesh for one of our certificates.
pub fn client_config(certificate: &Certificate, roots: &Roots) -> Result<MeshClient, TlsError> {
    let chain = WebPkiServerVerifier::builder_with_provider(roots.store(), provider())
        .build()
        .map_err(|cause| TlsError::Configuration(cause.to_string()))?;
    let nobody = Arc::new(Servers::new(chain.clone(), Arc::new([])));
    let mut base = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(configuration)?
        .dangerous()
        .with_custom_certificate_verifier(nobody)
        .with_client_auth_cert(certificate.chain.to_vec(), certificate.key.der())
        .map_err(configuration)?;
    base.alpn_protocols = vec![ALPN_H2.to_vec()];
    base.resumption = Resumption::disabled();
    base.enable_sni = false;
    Ok(MeshClient { base: Arc::new(base), chain, not_after: certificate.not_after })
}

impl MeshClient {
    /// The configuration for one connection, to whoever presents exactly one of `expected`; an empty list refuses
    /// everybody. A handful of reference counts: everything costly is shared.
    pub fn expecting(&self, expected: Arc<[Identity]>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.base);
        config.dangerous().set_certificate_verifier(Arc::new(Servers::new(self.chain.clone(), expected)));
        Arc::new(config)
    }

    /// When our certificate ends: no tunnel made with it may live longer.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// A server that proves itself by name and asks clients for nothing: the controller's xDS and CA port.
pub fn plain_server_config(certificate_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let key = crate::certificate::PrivateKey::from_pem(key_pem)?;
    let chain = crate::certificate::certificates("the server certificate", certificate_pem)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(configuration)?
        .with_no_client_auth()
        .with_single_cert(chain, key.der())
        .map_err(configuration)?;
    no_resumption(&mut config);
    Ok(Arc::new(config))
}

/// A client of such a server: verifies its chain and its DNS name or IP address, which the caller gives to the
/// connector.
pub fn plain_client_config(roots: &Roots) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(configuration)?
        .with_root_certificates(roots.store())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(Arc::new(config))
}

/// Takes a client's handshake.
pub async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    within: Duration,
) -> Result<(TlsStream, Peer), TlsError> {
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream::ReadAhead::new(stream));
    let done = tokio::time::timeout(within, handshake).await.map_err(|_| TlsError::TimedOut(within))?;
    let (io, session) = done.map_err(TlsError::from_io)?.into_inner();
    finish(TlsStream::new(io, session.into()))
}

/// Opens TLS towards a server of the mesh.
pub async fn connect(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    within: Duration,
) -> Result<(TlsStream, Peer), TlsError> {
    let handshake =
        tokio_rustls::TlsConnector::from(config).connect(placeholder(), stream::ReadAhead::new(stream));
    let done = tokio::time::timeout(within, handshake).await.map_err(|_| TlsError::TimedOut(within))?;
    let (io, session) = done.map_err(TlsError::from_io)?.into_inner();
    finish(TlsStream::new(io, session.into()))
}

fn finish(stream: TlsStream) -> Result<(TlsStream, Peer), TlsError> {
    let leaf = stream.peer_certificate().ok_or(TlsError::NoClientCertificate)?;
    let facts = Facts::read(leaf)?;
    let identity =
        facts.identity().ok_or(Untrusted::NoIdentity(crate::trust::Presented(facts.uris.clone())))?;
    if stream.alpn() != Some(ALPN_H2) {
        return Err(TlsError::Handshake("the peer did not agree on h2".to_owned()));
    }
    Ok((stream, Peer { identity, not_after: facts.not_after, serial: facts.serial }))
}

fn no_resumption(config: &mut ServerConfig) {
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

fn configuration(cause: rustls::Error) -> TlsError {
    TlsError::Configuration(cause.to_string())
}
