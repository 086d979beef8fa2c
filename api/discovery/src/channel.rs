//! The way to the controller: gRPC over one-way TLS, with our token on every request.
//!
//! Root certificates and token are read again for each connection and request, so their rotation needs no restart.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ambit_transport::certificate::Roots;
use ambit_transport::tls::plain_client_config;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Bound on TCP connect and TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 PING: first after this long without data, and this often.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// An unanswered PING ends the connection after this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// TCP keepalive: idle time, interval, probes.
const TCP_KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(300), Duration::from_secs(75), 9);

/// A token longer than this is not a token.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// How to reach one of the controller's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `https://host:port` (XDS_ADDRESS, CA_ADDRESS).
    pub address: String,
    /// Who must have signed the controller's certificate (XDS_ROOT_CA, CA_ROOT_CA).
    pub roots: RootSource,
    /// Name expected in that certificate, where it differs from the address's host (ALT_XDS_HOSTNAME, ALT_CA_HOSTNAME).
    pub hostname: Option<String>,
    /// How we prove who we are (AUTH_TOKEN).
    pub token: TokenSource,
    /// The cluster's name (CLUSTER_ID).
    pub cluster: String,
    /// Further headers (XDS_HEADER_*, CA_HEADER_*).
    pub headers: Vec<(String, String)>,
}

/// Where the controller's root certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A PEM file, read anew for every connection.
    File(PathBuf),
    /// PEM text.
    Pem(String),
}

/// Where our token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, read anew for every request.
    File(PathBuf),
    /// The token itself.
    Literal(String),
    /// None.
    None,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The address is not a URI with a host.
    #[error("{address:?} is not an address of the form https://host:port: {cause}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong.
        cause: String,
    },
    /// A header is not valid in HTTP.
    #[error("header {0:?} is not valid")]
    Header(String),
    /// The root certificates could not be read.
    #[error("cannot read root certificates from {path}: {cause}")]
    RootFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The root certificates or the name are unusable.
    #[error("{0}")]
    Tls(String),
    /// The connection failed.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// Where to.
        address: String,
        /// What the transport said.
        cause: String,
    },
}

/// Puts token, cluster and further headers on each request.
#[derive(Clone, Debug)]
pub struct Credential {
    token: TokenSource,
    headers: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
}

impl RootSource {
    /// A value that starts with a PEM header is the certificate itself, any other a path.
    pub fn parse(text: &str) -> Self {
        if text.trim_start().starts_with("-----BEGIN") {
            Self::Pem(text.to_owned())
        } else {
            Self::File(text.into())
        }
    }

    fn read(&self) -> Result<Roots, ChannelError> {
        let pem = match self {
            Self::Pem(pem) => pem.clone(),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|cause| ChannelError::RootFile { path: path.clone(), cause })?,
        };
        Roots::from_pem(&pem).map_err(|cause| ChannelError::Tls(cause.to_string()))
    }
}

impl TokenSource {
    /// An empty value is no token, one that begins like a path is a file, any other the token itself.
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            "" => Self::None,
            path if path.starts_with(['/', '.']) => Self::File(path.into()),
            token => Self::Literal(token.to_owned()),
        }
    }

    fn read(&self) -> Result<Option<String>, io::Error> {
        match self {
            Self::None => Ok(None),
            Self::Literal(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                if std::fs::metadata(path)?.len() > MAX_TOKEN_BYTES {
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a token"));
                }
                Ok(Some(std::fs::read_to_string(path)?.trim().to_owned()))
            }
        }
    }
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Literal(_) => f.write_str("Literal(..)"),
            Self::None => f.write_str("None"),
        }
    }
}

impl Credential {
    /// Checks the headers once.
    pub fn new(target: &Target) -> Result<Self, ChannelError> {
        let cluster = ("clusterid".to_owned(), target.cluster.clone());
        let headers = std::iter::once(&cluster)
            .chain(&target.headers)
            .map(|(name, value)| {
                let key = name.to_ascii_lowercase().parse::<MetadataKey<Ascii>>();
                key.ok().zip(value.parse().ok()).ok_or_else(|| ChannelError::Header(name.clone()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { token: target.token.clone(), headers })
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self
            .token
            .read()
            .map_err(|cause| Status::unauthenticated(format!("cannot read our token: {cause}")))?;
        if let Some(token) = token {
            let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
                .parse()
                .map_err(|_| Status::unauthenticated("our token is not text"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        for (name, value) in &self.headers {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        Ok(request)
    }
}

/// One connection to the controller. It does not reconnect by itself: the caller backs off and calls again.
pub async fn connect(target: &Target) -> Result<Channel, ChannelError> {
    let malformed = |cause: String| ChannelError::Address { address: target.address.clone(), cause };
    let uri: Uri = target.address.parse().map_err(|cause| malformed(format!("{cause}")))?;
    let host = uri.host().ok_or_else(|| malformed("no host".to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let name = target.hostname.clone().unwrap_or_else(|| host.clone());
    let tls =
        plain_client_config(&target.roots.read()?).map_err(|cause| ChannelError::Tls(cause.to_string()))?;
    let tls = TlsConnector::from(tls);
    let name = ServerName::try_from(name).map_err(|cause| malformed(cause.to_string()))?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, host, name) = (tls.clone(), host.clone(), name.clone());
        async move {
            let secured = async {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                prepare(&stream)?;
                tls.connect(name, stream).await
            };
            let late =
                || io::Error::new(io::ErrorKind::TimedOut, "TCP connect and TLS handshake took too long");
            tokio::time::timeout(CONNECT_TIMEOUT, secured).await.map_err(|_| late())?.map(TokioIo::new)
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|cause| ChannelError::Connect { address: target.address.clone(), cause: in_full(&cause) })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = TCP_KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// An error with its causes: the first one alone usually says only "transport error".
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}
