//! A tunnel client of the tests' own, with any certificate, and certificates good and bad.
//!
//! It shares no code with the mesh's client: rustls and h2 as they come.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_lab::{Lab, PodHandle};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request};
use libtest_mimic::Failed;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

type Connection = h2::client::Connection<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

const HBONE: u16 = 15008;
const PATIENCE: Duration = Duration::from_secs(5);
/// For what nobody is expected to answer.
const SHORT: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// The mark of a ztunnel's own packets, which leave an enrolled pod unredirected.
pub(crate) const MARK: u32 = 1337;

/// A certificate chain and its key, or nothing at all.
#[derive(Debug)]
pub(crate) struct Papers {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Option<PrivateKeyDer<'static>>,
}

/// What to try.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    pub(crate) to: SocketAddr,
    pub(crate) method: Method,
    pub(crate) authority: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) alpn: &'static [u8],
}

/// A tunnel that stays open, in a thread of its own in its pod's network.
pub(crate) struct Tunnel {
    asks: tokio::sync::mpsc::UnboundedSender<std::sync::mpsc::Sender<Met>>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// The application answered.
    Application(String),
    /// The proxy refused with this status.
    Status(u16),
    /// The connection ended before an answer.
    Closed(String),
    /// Nobody said anything.
    Silence,
}

impl Clone for Papers {
    fn clone(&self) -> Self {
        Papers { chain: self.chain.clone(), key: self.key.as_ref().map(PrivateKeyDer::clone_key) }
    }
}

impl Try {
    /// A CONNECT to a port of a pod, at that pod.
    pub(crate) fn to(pod: &PodHandle, port: u16) -> Self {
        let address = IpAddr::V4(pod.address.v4);
        Try {
            to: SocketAddr::new(address, HBONE),
            method: Method::CONNECT,
            authority: format!("{address}:{port}"),
            headers: Vec::new(),
            alpn: b"h2",
        }
    }

    /// The same with another authority.
    pub(crate) fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = authority.into();
        self
    }

    /// The same with a header more.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Tries from a pod's network, past its redirection.
    pub(crate) fn from(self, lab: &Lab, pod: &PodHandle, papers: &Papers) -> Met {
        let papers = papers.clone();
        lab.in_pod(pod, move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return Met::Closed("no runtime".to_owned());
            };
            let tried = async { tokio::time::timeout(PATIENCE, self.run(papers)).await };
            match runtime.block_on(tried) {
                Ok(Ok(met)) => met,
                Ok(Err(closed)) => Met::Closed(closed),
                Err(_elapsed) => Met::Silence,
            }
        })
    }

    /// Opens a tunnel that stays.
    pub(crate) fn keep(self, lab: &Lab, pod: &PodHandle, papers: &Papers) -> Result<Tunnel, Failed> {
        let (asks, mut inbox) = tokio::sync::mpsc::unbounded_channel::<std::sync::mpsc::Sender<Met>>();
        let (papers, runtime) =
            (papers.clone(), tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        let live = async move {
            let (sender, connection) = self.open(papers).await?;
            let answers = async {
                while let Some(answer) = inbox.recv().await {
                    let met = self.clone().ask(sender.clone()).await;
                    // Whoever asked has lost patience.
                    let _gone = answer.send(met.unwrap_or_else(|error| Met::Closed(error.to_string())));
                }
            };
            tokio::select! {
                () = answers => Ok(()),
                ended = connection => ended.map_err(|error| error.to_string()),
            }
        };
        // It ends with the last handle.
        drop(lab.thread_in(pod, move || runtime.block_on(live)));
        Ok(Tunnel { asks })
    }

    async fn open(&self, papers: Papers) -> Result<(SendRequest<Bytes>, Connection), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let socket = marked(self.to).map_err(|error| said(&error))?;
        let tcp = tokio::net::TcpStream::from_std(socket).map_err(|error| said(&error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config(papers, self.alpn)?));
        let name = ServerName::IpAddress(self.to.ip().into());
        let tls = connector.connect(name, tcp).await.map_err(|error| said(&error))?;
        h2::client::handshake(tls).await.map_err(|error| said(&error))
    }

    async fn run(self, papers: Papers) -> Result<Met, String> {
        let (sender, connection) = self.open(papers).await?;
        tokio::select! {
            met = self.ask(sender) => met.map_err(|error| error.to_string()),
            ended = connection => Ok(Met::Closed(ended.err().map_or("closed".to_owned(), |error| error.to_string()))),
        }
    }

    async fn ask(self, sender: SendRequest<Bytes>) -> Result<Met, h2::Error> {
        let mut sender = sender.ready().await?;
        let mut request = Request::builder().method(self.method.clone());
        request = match self.method {
            Method::CONNECT => request.uri(&self.authority),
            _ => request.uri(format!("http://{}/", self.authority)),
        };
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = match request.body(()) {
            Ok(request) => request,
            Err(error) => return Ok(Met::Closed(format!("not sent: {error}"))),
        };
        let (answer, mut send) = sender.send_request(request, false)?;
        let answer = answer.await?;
        if answer.status() != 200 {
            return Ok(Met::Status(answer.status().as_u16()));
        }
        send.send_data(Bytes::from_static(REQUEST), false)?;
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(chunk) = body.data().await {
            text.extend_from_slice(&chunk?);
        }
        Ok(Met::Application(String::from_utf8_lossy(&text).into_owned()))
    }
}

impl Tunnel {
    /// One CONNECT more.
    pub(crate) fn ask(&self) -> Met {
        let (answer, met) = std::sync::mpsc::channel();
        if self.asks.send(answer).is_err() {
            return Met::Closed("the tunnel has ended".to_owned());
        }
        met.recv_timeout(PATIENCE).unwrap_or(Met::Silence)
    }
}

/// A connection that a pod's redirection lets pass.
fn marked(to: SocketAddr) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_mark(MARK)?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Plain bytes from a pod's network: what comes back for a request, if anything.
pub(crate) fn plain(lab: &Lab, pod: &PodHandle, to: SocketAddr, with_mark: bool) -> Met {
    lab.in_pod(pod, move || {
        let stream = if with_mark { marked(to) } else { TcpStream::connect_timeout(&to, PATIENCE) };
        said(stream.and_then(request))
    })
}

/// The same from the calling thread's network, bound to an address that is not its own.
pub(crate) fn from_address(from: SocketAddr, to: SocketAddr) -> Met {
    let open = || -> std::io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.set_ip_transparent_v4(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), SHORT)?;
        Ok(socket.into())
    };
    said(open().and_then(request))
}

/// Sends TCP packets that belong to no connection of this machine's.
pub(crate) fn packets(from: SocketAddr, to: SocketAddr, flags: u8, count: u32) -> std::io::Result<()> {
    let (SocketAddr::V4(source), SocketAddr::V4(target)) = (from, to) else {
        return Err(std::io::Error::other("IPv4 alone"));
    };
    let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::TCP))?;
    raw.bind(&SocketAddr::from((*source.ip(), 0)).into())?;
    for number in 0..count {
        let mut packet = Vec::with_capacity(20);
        packet.extend(source.port().to_be_bytes());
        packet.extend(target.port().to_be_bytes());
        packet.extend((1000 + number).to_be_bytes());
        packet.extend((2000 + number).to_be_bytes());
        packet.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let mut summed = [source.ip().octets(), target.ip().octets()].concat();
        summed.extend([0, 6, 0, 20]);
        summed.extend(&packet);
        let sum: u32 =
            summed.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
        packet[16..18].copy_from_slice(&checksum.to_be_bytes());
        raw.send_to(&packet, &SocketAddr::from((*target.ip(), 0)).into())?;
    }
    Ok(())
}

fn request(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn said(answer: std::io::Result<String>) -> Met {
    match answer {
        Ok(text) if text.starts_with("HTTP/1.1 ") => Met::Application(text),
        Ok(text) => Met::Closed(text),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Met::Silence,
        Err(error) => Met::Closed(error.to_string()),
    }
}

/// A client that takes whatever server it meets.
fn config(papers: Papers, alpn: &'static [u8]) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match papers.key {
        Some(key) => builder.with_client_auth_cert(papers.chain, key).map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Somebody who signs certificates.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
}

impl Papers {
    /// No certificate at all.
    pub(crate) fn none() -> Self {
        Papers { chain: Vec::new(), key: None }
    }

    /// A certificate that nobody vouches for.
    pub(crate) fn self_signed(uri: &str) -> Result<Self, Failed> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = leaf(&[uri], (-60, 3600))?.self_signed(&key)?;
        Ok(Papers { chain: vec![certificate.der().clone()], key: Some(der(&key)?) })
    }
}

impl Signer {
    /// The lab's own authority, by its key.
    pub(crate) fn of(lab: &Lab) -> Result<Self, Failed> {
        let read = |name: &str| std::fs::read_to_string(lab.folder().join("ca").join(name));
        let key = KeyPair::from_pem(&read("root-key.pem")?)?;
        Ok(Signer { issuer: Issuer::from_ca_cert_pem(&read("root-cert.pem")?, key)? })
    }

    /// An authority that calls itself like the lab's.
    pub(crate) fn impostor() -> Result<Self, Failed> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "cluster.local");
        params.distinguished_name.push(rcgen::DnType::CommonName, "Ambit root");
        Ok(Signer { issuer: Issuer::new(params, key) })
    }

    /// A certificate with these names, valid between these seconds from now.
    pub(crate) fn sign(&self, uris: &[&str], valid: (i64, i64)) -> Result<Papers, Failed> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = leaf(uris, valid)?.signed_by(&key, &self.issuer)?;
        Ok(Papers { chain: vec![certificate.der().clone()], key: Some(der(&key)?) })
    }
}

fn leaf(uris: &[&str], valid: (i64, i64)) -> Result<CertificateParams, Failed> {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?))).collect::<Result<_, rcgen::Error>>()?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let at = |seconds: i64| match u64::try_from(seconds) {
        Ok(ahead) => SystemTime::now() + Duration::from_secs(ahead),
        Err(_negative) => SystemTime::now() - Duration::from_secs(seconds.unsigned_abs()),
    };
    (params.not_before, params.not_after) = (at(valid.0).into(), at(valid.1).into());
    Ok(params)
}

fn der(key: &KeyPair) -> Result<PrivateKeyDer<'static>, Failed> {
    Ok(PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?)
}
