//! A controller's gRPC port with the test's own objects, tokens and snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_api::identity::{Identity, TrustDomain};
use ambit_api::wire::core::Node as WireNode;
use ambit_api::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_api::wire::security::Authorization;
use ambit_api::wire::waypoint as wire;
use ambit_api::wire::workload::{Address, Workload, address};
use ambit_discovery::channel::{self, Credential, RootSource, Target, TokenSource};
use ambit_discovery::credentials::{CaClient, Issuer as _, State};
use ambit_discovery::rpc::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_discovery::xds::{self, Push, Rejection, Sink, XdsMetrics};
use ambit_process::readiness::Readiness;
use ambit_process::spawn::spawn;
use ambit_transport::trust::Accepted;
use controller::app::{Mesh, serve};
use controller::ca::authority::Authority;
use controller::ca::pods::{Phase, PodFact};
use controller::ca::tokens::{Account, Expected, Verifier};
use controller::gate::{Facts, Gate, Vouching};
use controller::settings::Settings;
use controller::snapshot::{ADDRESS, AUTHORIZATION, Resource, Resources, Snapshot, WaypointResources};
use controller::xds::metrics::ServerMetrics;
use controller::xds::syncz::Proxies;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

const ISSUER: &str = "https://issuer.test";

/// Long enough for a loaded machine; no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Issuer {
    key: EncodingKey,
    kid: &'static str,
}

#[derive(Clone)]
pub(crate) struct TokenSpec {
    pub(crate) issuer: &'static str,
    pub(crate) audience: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) account: &'static str,
    pub(crate) pod: Option<&'static str>,
    pub(crate) uid: &'static str,
    pub(crate) node: &'static str,
    pub(crate) expires_in: i64,
    pub(crate) starts_in: i64,
}

pub(crate) enum Node {
    Named(&'static str),
}

pub(crate) struct Controller {
    pub(crate) proxies: Proxies,
    pub(crate) issuer: Issuer,
    snapshots: watch::Sender<Arc<Snapshot>>,
    facts: Arc<RwLock<Facts>>,
    dir: PathBuf,
    port: u16,
    roots: String,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

pub(crate) struct Proxy {
    pub(crate) readiness: Readiness,
    pushes: mpsc::UnboundedReceiver<Push>,
    task: JoinHandle<()>,
}

struct Recorder {
    pushes: mpsc::UnboundedSender<Push>,
    refuse: Vec<&'static str>,
}

impl Issuer {
    pub(crate) fn new(kid: &'static str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        Self { key: EncodingKey::from_ec_der(&key.serialize_der()), kid }
    }

    pub(crate) fn sign(&self, spec: &TokenSpec) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
        let mut kubernetes = serde_json::json!({
            "namespace": spec.namespace,
            "serviceaccount": {"name": spec.account, "uid": "sa-uid"},
            "node": {"name": spec.node},
        });
        if let Some(pod) = spec.pod {
            kubernetes["pod"] = serde_json::json!({"name": pod, "uid": spec.uid});
        }
        let claims = serde_json::json!({
            "iss": spec.issuer,
            "aud": [spec.audience],
            "exp": now + spec.expires_in,
            "nbf": now + spec.starts_in,
            "sub": format!("system:serviceaccount:{}:{}", spec.namespace, spec.account),
            "kubernetes.io": kubernetes,
        });
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key).expect("signed")
    }

    fn keys(&self) -> String {
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("a public key");
        key.common.key_id = Some(self.kid.to_owned());
        serde_json::to_string(&JwkSet { keys: vec![key] }).expect("json")
    }
}

impl TokenSpec {
    pub(crate) fn ztunnel(node: &'static str) -> Self {
        Self {
            issuer: ISSUER,
            audience: "istio-ca",
            namespace: "ambit-system",
            account: "ztunnel",
            pod: Some("ztunnel-a"),
            uid: "u-ztunnel-a",
            node,
            expires_in: 600,
            starts_in: -5,
        }
    }

    pub(crate) fn waypoint() -> Self {
        let (pod, uid) = (Some("wp-1"), "u-wp-1");
        Self { namespace: "shop", account: "wp", pod, uid, ..Self::ztunnel("node-a") }
    }

    pub(crate) fn application() -> Self {
        let (pod, uid) = (Some("web-1"), "u-web-1");
        Self { namespace: "shop", account: "web", pod, uid, ..Self::ztunnel("node-a") }
    }
}

impl Controller {
    pub(crate) async fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ambit-controller-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a folder");
        let issuer = Issuer::new("k1");
        std::fs::write(dir.join("jwks.json"), issuer.keys()).expect("keys");
        let (snapshots, _) = watch::channel(Arc::new(Snapshot::default()));
        let (proxies, roots) = (Proxies::default(), String::new());
        let facts = Arc::new(RwLock::new(facts()));
        let mut controller = Self { proxies, issuer, snapshots, facts, dir, port: 0, roots, running: None };
        controller.restart().await;
        controller
    }

    pub(crate) async fn restart(&mut self) {
        let authority = Authority::open(&self.dir.join("ca"), &TrustDomain::default(), SystemTime::now());
        let authority = Arc::new(authority.expect("a root"));
        self.roots = authority.roots().to_owned();
        let expected = Expected { issuer: ISSUER.to_owned(), audience: "istio-ca".to_owned() };
        let gate = Arc::new(Gate {
            vouching: Vouching::Keys(Verifier::new(self.dir.join("jwks.json"), expected)),
            trusted: vec!["ambit-system/ztunnel".parse().expect("an account")],
            facts: self.facts.clone(),
            metrics: ServerMetrics::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("a port");
        self.port = listener.local_addr().expect("bound").port();
        let (snapshots, proxies) = (self.snapshots.subscribe(), self.proxies.clone());
        let mesh = Mesh { gate, authority, snapshots, proxies };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = spawn("test controller", async move {
            let stopped = async move { drop(stopped.await) };
            serve(mesh, listener, &settings(), stopped).await.expect("served");
        });
        self.running = Some((stop, task));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            let _ = stop.send(());
            task.await.expect("ended");
        }
    }

    pub(crate) fn roots(&self) -> String {
        self.roots.clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.snapshots.borrow().generation
    }

    pub(crate) fn publish(
        &self,
        policies: impl IntoIterator<Item = Resource>,
        workloads: impl IntoIterator<Item = Resource>,
    ) {
        let named = |resource: Resource| (resource.name.clone(), Arc::new(resource));
        self.snapshots.send_modify(|held| {
            *held = Arc::new(Snapshot {
                generation: held.generation + 1,
                addresses: workloads.into_iter().map(named).collect(),
                authorizations: policies.into_iter().map(named).collect(),
                ..Snapshot::clone(held)
            });
        });
    }

    /// The Gateway `shop/wp` is accepted; it is told one resource of each kind.
    pub(crate) fn accept_waypoint(&self) {
        let account: Account = "shop/wp".parse().expect("an account");
        let one = |name: &str, body: Vec<u8>| {
            let resource = Resource::new(name, vec![], body.into());
            Resources::from_iter([(resource.name.clone(), Arc::new(resource))])
        };
        let own = WaypointResources {
            gateway: one("shop/wp", wire::Gateway::default().encode_to_vec()),
            services: one("shop/web", wire::Service::default().encode_to_vec()),
            destinations: one("shop/web", wire::Destination::default().encode_to_vec()),
            workloads: one("c//Pod/shop/web-1", wire::Workload::default().encode_to_vec()),
            policies: one("shop/p", wire::Policy::default().encode_to_vec()),
            account: account.clone(),
        };
        self.set_waypoints([(account, own)]);
    }

    /// Every Gateway is deleted.
    pub(crate) fn without_gateways(&self) {
        self.set_waypoints([]);
    }

    fn set_waypoints(&self, all: impl IntoIterator<Item = (Account, WaypointResources)>) {
        let mut facts = self.facts.write().expect("not poisoned");
        facts.waypoints.clear();
        self.snapshots.send_modify(|held| {
            let mut next = Snapshot { generation: held.generation + 1, ..Snapshot::clone(held) };
            next.waypoints.clear();
            for (account, own) in all {
                let name: Arc<str> = account.to_string().into();
                facts.made.insert(account.clone());
                facts.waypoints.insert(account, name.clone());
                next.waypoints.insert(name, Arc::new(own));
            }
            *held = Arc::new(next);
        });
        facts.changed.send_replace(());
    }

    /// The ztunnel's pod is deleted.
    pub(crate) fn without_ztunnel(&self) {
        let mut facts = self.facts.write().expect("not poisoned");
        facts.pods.remove("ambit-system", "ztunnel-a");
        facts.changed.send_replace(());
    }

    pub(crate) fn target(&self, token: Option<String>) -> Target {
        Target {
            address: format!("https://127.0.0.1:{}", self.port),
            roots: RootSource::Pem(self.roots.clone()),
            hostname: Some("istiod.istio-system.svc".to_owned()),
            token: token.map_or(TokenSource::None, TokenSource::Literal),
            cluster: "Kubernetes".to_owned(),
            headers: Vec::new(),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Proxy {
    pub(crate) async fn push(&mut self) -> Push {
        tokio::time::timeout(PATIENCE, self.pushes.recv()).await.expect("in time").expect("running")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sink for Recorder {
    fn apply(&mut self, push: Push) -> Vec<Rejection> {
        let names: Vec<String> = match &push {
            Push::Address { upserts, .. } => upserts.iter().map(|one| one.name.clone()).collect(),
            Push::Authorization { upserts, .. } => upserts.iter().map(|one| one.name.clone()).collect(),
            _ => Vec::new(),
        };
        let _ = self.pushes.send(push);
        let bad = names.into_iter().filter(|name| self.refuse.contains(&name.as_str()));
        bad.map(|name| Rejection { name, reason: "bad".to_owned() }).collect()
    }
}

/// A proxy on node-a that refuses the resources named.
pub(crate) fn proxy(controller: &Controller, refuse: &[&'static str]) -> Proxy {
    connect(controller, &TokenSpec::ztunnel("node-a"), xds::Role::Ztunnel, refuse)
}

/// A replica of the waypoint `shop/wp`.
pub(crate) fn waypoint(controller: &Controller) -> Proxy {
    connect(controller, &TokenSpec::waypoint(), xds::Role::Waypoint, &[])
}

fn connect(controller: &Controller, token: &TokenSpec, role: xds::Role, refuse: &[&'static str]) -> Proxy {
    let (sender, pushes) = mpsc::unbounded_channel();
    let config = xds::Config {
        target: controller.target(Some(controller.issuer.sign(token))),
        node: xds::Node {
            role,
            instance_ip: None,
            pod_name: token.pod.unwrap_or_default().to_owned(),
            pod_namespace: token.namespace.to_owned(),
            node_name: "node-a".to_owned(),
            version: "0.1.0".to_owned(),
            metadata: BTreeMap::new(),
        },
        metrics: XdsMetrics::default(),
    };
    let readiness = Readiness::new();
    let (sink, hold) = (Recorder { pushes: sender, refuse: refuse.to_vec() }, readiness.hold("xds"));
    let task = spawn("test proxy", xds::run(config, sink, hold, std::future::pending()));
    Proxy { readiness, pushes, task }
}

/// Whether the controller answers a subscription, or its refusal.
pub(crate) async fn first_answer(target: &Target) -> Result<(), String> {
    subscribe(target, WireNode::default()).await
}

/// The same for a proxy that says which node it is on.
pub(crate) async fn first_answer_as(target: &Target, Node::Named(node): Node) -> Result<(), String> {
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(node.to_owned())) };
    let metadata = prost_types::Struct { fields: [("NODE_NAME".to_owned(), value)].into() };
    subscribe(target, WireNode { metadata: Some(metadata), ..Default::default() }).await
}

/// How a stream ends that was served once; `then` is called in between.
pub(crate) async fn last_answer(target: &Target, then: impl FnOnce()) -> String {
    let mut responses = open(target, WireNode::default()).await.expect("let in");
    assert!(responses.message().await.expect("served").is_some());
    then();
    let last = async {
        loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return "a clean end".to_owned(),
                Err(status) => return format!("{:?}: {}", status.code(), status.message()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, last).await.expect("in time")
}

async fn subscribe(target: &Target, node: WireNode) -> Result<(), String> {
    let answer = async { open(target, node).await?.message().await };
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("in time");
    answer
        .map(|response| assert!(response.is_some()))
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

async fn open(target: &Target, node: WireNode) -> Result<Streaming<DeltaDiscoveryResponse>, Status> {
    let channel = channel::connect(target).await.expect("TLS stands without a token");
    let credential = Credential::new(target).expect("headers");
    let mut client = AggregatedDiscoveryServiceClient::with_interceptor(channel, credential);
    let requests = [AUTHORIZATION, ADDRESS].map(|url| DeltaDiscoveryRequest {
        node: Some(node.clone()),
        type_url: url.to_owned(),
        ..Default::default()
    });
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter(requests), tokio_stream::pending());
    Ok(client.delta_aggregated_resources(requests).await?.into_inner())
}

/// A certificate, or the CA's refusal.
pub(crate) async fn certificate(target: &Target, identity: &Identity) -> Result<(), String> {
    let client = CaClient::new(target.clone(), Duration::ZERO).expect("a client");
    client.issue(identity).await.map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) async fn settled(mut state: watch::Receiver<State>) -> State {
    let wait = state.wait_for(|state| !matches!(state, State::Pending));
    tokio::time::timeout(PATIENCE, wait).await.expect("in time").expect("not forgotten").clone()
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) fn accepted() -> Accepted {
    Accepted::only(TrustDomain::default())
}

pub(crate) fn identity(namespace: &str, account: &str) -> Identity {
    Identity::new(&TrustDomain::default(), namespace, account).expect("an identity")
}

pub(crate) fn workload(uid: &str, version: u32) -> Resource {
    let name = format!("version {version}");
    let workload = Workload { uid: uid.to_owned(), name, ..Default::default() };
    let body = Address { r#type: Some(address::Type::Workload(workload)) }.encode_to_vec();
    Resource::new(uid, vec![], body.into())
}

pub(crate) fn policy(name: &str, version: u32) -> Resource {
    let policy = Authorization { name: format!("version {version}"), ..Default::default() };
    Resource::new(name, vec![], policy.encode_to_vec().into())
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    for (namespace, name, account, node, phase) in [
        ("shop", "wp-1", "wp", "node-a", Phase::Live),
        ("ambit-system", "ztunnel-a", "ztunnel", "node-a", Phase::Live),
        ("shop", "web-1", "web", "node-a", Phase::Live),
        ("shop", "cart-1", "cart", "node-b", Phase::Live),
        ("shop", "ended-1", "ended", "node-a", Phase::Terminal),
    ] {
        facts.pods.insert(PodFact {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: format!("u-{name}"),
            service_account: account.to_owned(),
            node: node.to_owned(),
            waypoint: (account == "wp").then(|| "wp".to_owned()),
            phase,
        });
    }
    facts
}

fn settings() -> Settings {
    let environment: BTreeMap<String, String> = [
        ("AMBIT_SOURCE_DIRS", "unused"),
        ("AMBIT_TOKEN_ISSUER", ISSUER),
        ("AMBIT_TOKEN_JWKS", "unused"),
        ("AMBIT_DRAIN", "5s"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    Settings::read(&environment).expect("settings")
}
