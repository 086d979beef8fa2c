//! A mesh in one process: an authority, certificates, a server and a client joined by a tunnel.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ambit_api::identity::{Identity, TrustDomain};
use ambit_api::reason::Reason;
use ambit_process::spawn::spawn_local;
use ambit_transport::certificate::{Certificate, PrivateKey, Roots};
use ambit_transport::hbone::{Ask, ConnectRequest, Settings, Tunnel, client, server};
use ambit_transport::relay::{Counters, Far, Tally, relay};
use ambit_transport::tls::{self, TlsError};
use ambit_transport::trust::Accepted;
use http::{HeaderMap, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};

/// Long enough for a slow machine, short enough to see a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Mesh {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) roots: Roots,
}

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub(crate) fn client_identity() -> Identity {
    identity("spiffe://cluster.local/ns/shop/sa/client")
}

pub(crate) fn server_identity() -> Identity {
    identity("spiffe://cluster.local/ns/shop/sa/server")
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self { roots: Roots::from_pem(&root.pem()).unwrap(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn leaf(&self, identity: &Identity) -> Certificate {
        self.leaf_between(identity, Duration::from_secs(3600), Duration::from_secs(3600))
    }

    /// Valid since `age` and for `left`.
    pub(crate) fn leaf_between(&self, identity: &Identity, age: Duration, left: Duration) -> Certificate {
        let mut params = params(identity.uri());
        let now = SystemTime::now();
        params.not_before = (now - age).into();
        params.not_after = (now + left).into();
        self.sign(params)
    }

    pub(crate) fn expired(&self, identity: &Identity) -> Certificate {
        let mut params = params(identity.uri());
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(7200)).into();
        params.not_after = (now - Duration::from_secs(3600)).into();
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Certificate::from_pem(&leaf.pem(), PrivateKey::from_pem(&key.serialize_pem()).unwrap()).unwrap()
    }
}

pub(crate) fn self_signed(identity: &Identity) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let leaf = params(identity.uri()).self_signed(&key).unwrap();
    Certificate::from_pem(&leaf.pem(), PrivateKey::from_pem(&key.serialize_pem()).unwrap()).unwrap()
}

fn params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params
}

/// Runs a test on one worker, as product code runs.
pub(crate) fn on_a_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test hangs");
    });
}

pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// One end of a mesh connection: who it is and whom it trusts.
pub(crate) struct End<'a> {
    pub(crate) certificate: Certificate,
    pub(crate) roots: &'a Roots,
}

pub(crate) type Outcome = Result<(tls::TlsStream, tls::Peer), TlsError>;

pub(crate) async fn handshake(
    client: End<'_>,
    expected: Vec<Identity>,
    server: End<'_>,
) -> (Outcome, Outcome) {
    let (near, far) = pair().await;
    let accepted = Accepted::only(TrustDomain::default());
    let server = tls::server_config(&server.certificate, server.roots, &accepted).unwrap();
    let client = tls::client_config(&client.certificate, client.roots).unwrap().expecting(expected.into());
    let client = tls::connect(near, client, PATIENCE);
    let server = tls::accept(far, server, PATIENCE);
    // A client is done before the server has judged it, so a refusal shows only when it reads.
    tokio::join!(client, server)
}

/// A tunnel between two ends, and an application behind its server end.
pub(crate) struct World {
    pub(crate) tunnel: Tunnel,
    pub(crate) app: TcpListener,
    pub(crate) drain: watch::Sender<()>,
    pub(crate) server: JoinHandle<Result<(), client::TunnelError>>,
    /// Set to make the server's end stop without closing anything, as a hanging node does.
    pub(crate) hangs: Rc<Cell<bool>>,
    tallies: Rc<RefCell<Vec<JoinHandle<Tally>>>>,
}

/// One connection through a tunnel.
pub(crate) struct Carried {
    pub(crate) client: TcpStream,
    pub(crate) app: TcpStream,
    /// The relay on the client's side.
    pub(crate) outbound: JoinHandle<Tally>,
    /// The relay on the application's side.
    pub(crate) inbound: JoinHandle<Tally>,
    pub(crate) counters: Arc<Counters>,
}

impl World {
    pub(crate) async fn new(settings: &Settings) -> Self {
        let mesh = Mesh::new();
        let client = mesh.leaf(&client_identity());
        Self::with(&mesh, client, settings.clone(), settings.clone()).await
    }

    pub(crate) async fn with(mesh: &Mesh, client: Certificate, ours: Settings, theirs: Settings) -> Self {
        let server = End { certificate: mesh.leaf(&server_identity()), roots: &mesh.roots };
        let client = End { certificate: client, roots: &mesh.roots };
        let (client, server) = handshake(client, vec![server_identity()], server).await;
        let ((near, near_peer), (far, far_peer)) = (client.unwrap(), server.unwrap());
        let (drain, mut draining) = watch::channel(());
        let tallies = Rc::new(RefCell::new(Vec::new()));
        let kept = tallies.clone();
        let hangs = Rc::new(Cell::new(false));
        let hung = hangs.clone();
        let server = spawn_local("server", async move {
            let drained = async move { while draining.changed().await.is_ok() {} };
            let handler = |ask| kept.borrow_mut().push(spawn_local("inbound", inbound(ask)));
            let mut serve = pin!(server::serve(far, far_peer, &theirs, drained, handler));
            poll_fn(|cx| if hung.get() { Poll::Pending } else { serve.as_mut().poll(cx) }).await
        });
        let tunnel = client::connect(near, near_peer, &ours).await.unwrap();
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { tunnel, app, drain, server, hangs, tallies }
    }

    pub(crate) fn request(&self) -> ConnectRequest {
        ConnectRequest { authority: self.app.local_addr().unwrap().to_string(), headers: HeaderMap::new() }
    }

    /// A client's connection through the tunnel to the application.
    pub(crate) async fn carry(&self) -> Carried {
        let (client, near) = pair().await;
        let request = self.request();
        let (stream, accepted) = tokio::join!(self.tunnel.open(&request), self.app.accept());
        let counters = Arc::new(Counters::default());
        let kept = counters.clone();
        let outbound = spawn_local("outbound", async move {
            let far = Far::Hbone(stream.unwrap());
            relay(near, far, &kept, std::future::pending(), PATIENCE).await
        });
        let inbound = self.tallies.borrow_mut().pop().unwrap();
        Carried { client, app: accepted.unwrap().0, outbound, inbound, counters }
    }
}

/// The life of one request on the server's side.
async fn inbound(ask: Ask) -> Tally {
    let nothing =
        Tally { sent: 0, received: 0, ended: ambit_transport::relay::Ended::Cut(Reason::BadRequest) };
    if ask.method != http::Method::CONNECT {
        ask.respond.refuse(StatusCode::BAD_REQUEST);
        return nothing;
    }
    if ask.authority == "silent:1" {
        std::future::pending::<()>().await;
    }
    if ask.authority == "denied:1" {
        ask.respond.refuse(StatusCode::UNAUTHORIZED);
        return nothing;
    }
    let app = TcpStream::connect(&ask.authority).await.unwrap();
    app.set_nodelay(true).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("baggage", "service.name=app".parse().unwrap());
    let stream = ask.respond.accept(headers).unwrap();
    relay(app, Far::Hbone(stream), &Counters::default(), std::future::pending(), PATIENCE).await
}
