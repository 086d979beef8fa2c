//! A waypoint's data plane in this process, its configuration, and an application behind it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_api::wire::waypoint as wire;
use ambit_api::wire::workload::{self as address};
use ambit_discovery::view::{Writer, view};
use ambit_discovery::xds::{Changes, Named, Push, Sink};
use ambit_process::drain::{self, Trigger};
use ambit_process::metrics::Metrics;
use ambit_process::settings::Environment;
use ambit_process::spawn::spawn;
use ambit_process::telemetry::{self, LogHandle, LogSettings};
use ambit_transport::socket::Netns;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use waypoint::settings::Settings;
use waypoint::trace::export;
use waypoint::trace::span::Origin;
use waypoint::{app, listeners};

/// The service behind the gateway.
pub(crate) const WEB: &str = "shop/web.shop.svc.cluster.local";

/// The one pod of that service.
pub(crate) const POD: &str = "Kubernetes//Pod/shop/web-1";

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A data plane under test.
pub(crate) struct Gateway {
    /// Where its listener is.
    pub(crate) at: SocketAddr,
    /// What it counted.
    pub(crate) metrics: Metrics,
    log: (Lines, LogHandle),
    writer: Writer,
    _drain: Trigger,
}

/// An application: counts requests and answers as their path says.
pub(crate) struct Application {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// Requests so far.
    pub(crate) seen: Arc<AtomicUsize>,
    /// Connections so far.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Application {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, connected) = (seen.clone(), connections.clone());
        spawn("application", async move {
            while let Ok((stream, _)) = listener.accept().await {
                connected.fetch_add(1, Ordering::Relaxed);
                let seen = counted.clone();
                spawn("connection", async move {
                    let service = service_fn(move |request| answer(request, seen.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self { at, seen, connections }
    }

    /// Requests so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let count = seen.fetch_add(1, Ordering::Relaxed) + 1;
    let path = request.uri().path().to_owned();
    if path == "/upgrade" {
        let upgrade = hyper::upgrade::on(&mut request);
        spawn("echo", async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let (mut reader, mut writer) = tokio::io::split(&mut io);
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
        return Ok(Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .body(Full::default())
            .unwrap());
    }
    let headers = format!("{:?}", request.headers());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status =
        path.strip_prefix("/status/").and_then(|status| status.parse().ok()).unwrap_or(StatusCode::OK);
    if path == "/hang" {
        std::future::pending::<()>().await;
    }
    let said = match path.as_str() {
        "/echo" => body,
        "/headers" => headers.into(),
        _ => format!("{path} {count}").into(),
    };
    Ok(Response::builder().status(status).body(Full::new(said)).unwrap())
}

impl Gateway {
    /// Starts one whose listener has these routes, before one application.
    pub(crate) async fn start(application: &Application, rules: Vec<wire::HttpRule>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let names = [
            ("POD_NAME", "gateway-1"),
            ("POD_NAMESPACE", "shop"),
            ("SERVICE_ACCOUNT", "gateway"),
            ("WAYPOINT_WORKER_THREADS", "1"),
        ];
        let environment: BTreeMap<String, String> =
            names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let settings = Settings::read(&environment as &dyn Environment).unwrap();
        let (writer, view) = view();
        let (trigger, watch) = drain::channel();
        let metrics = Metrics::new();
        let log = Lines::default();
        let (_subscriber, handle) = telemetry::pipeline(&LogSettings::default(), Box::new(log.clone()));
        let (spans, exporter) = export::channel(&metrics);
        let reporting = app::reporting(&settings, &metrics, (handle.clone(), spans));
        exporter.start(view.clone(), Origin::clone(&reporting.origin));
        let mesh = app::assemble(settings, view, watch, reporting).await.unwrap();
        spawn("listeners", listeners::follow(mesh, Netns::current().unwrap()));
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let mut gateway = Self { at, metrics, log: (log, handle), writer, _drain: trigger };
        gateway.push_addresses(application.at);
        gateway.push(Push::Workload(upsert(POD, pod(&[]))));
        gateway.push(Push::Destination(upsert(WEB, destination())));
        gateway.push(Push::Gateway(upsert("shop/gateway", resource(port, rules, &[]))));
        // The listener opens when the configuration has been seen.
        while TcpStream::connect(at).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway
    }

    /// The access log so far.
    pub(crate) fn logged(&self) -> String {
        self.log.1.flush();
        String::from_utf8(self.log.0.0.lock().unwrap().clone()).unwrap()
    }

    /// Replaces everything the gateway is told but its name and port.
    pub(crate) fn configure(&mut self, rules: Vec<wire::HttpRule>, change: impl FnOnce(&mut wire::Gateway)) {
        let mut resource = resource(self.at.port(), rules, &[]);
        change(&mut resource);
        self.push(Push::Gateway(upsert("shop/gateway", resource)));
    }

    /// Changes the configuration.
    pub(crate) fn push(&mut self, push: Push) {
        assert_eq!(self.writer.apply(push), [], "rejected");
    }

    /// Replaces routes and T of the gateway.
    pub(crate) fn routes(&mut self, rules: Vec<wire::HttpRule>, policies: &[&str]) {
        let resource = resource(self.at.port(), rules, policies);
        self.push(Push::Gateway(upsert("shop/gateway", resource)));
    }

    fn push_addresses(&mut self, application: SocketAddr) {
        let own = address::Workload {
            uid: "Kubernetes//Pod/shop/gateway-1".to_owned(),
            name: "gateway-1".to_owned(),
            namespace: "shop".to_owned(),
            service_account: "gateway".to_owned(),
            addresses: vec![vec![127, 0, 0, 9]],
            ..Default::default()
        };
        let ports = vec![address::Port {
            service_port: 80,
            target_port: application.port().into(),
            ..Default::default()
        }];
        let web = address::Workload {
            uid: POD.to_owned(),
            name: "web-1".to_owned(),
            namespace: "shop".to_owned(),
            workload_name: "web".to_owned(),
            addresses: vec![vec![127, 0, 0, 1]],
            services: [(WEB.to_owned(), address::PortList { ports: ports.clone() })].into(),
            ..Default::default()
        };
        let service = address::Service {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            hostname: "web.shop.svc.cluster.local".to_owned(),
            addresses: vec![address::NetworkAddress { address: vec![10, 0, 0, 1], ..Default::default() }],
            ports,
            canonical: true,
            ..Default::default()
        };
        let named =
            |name: &str, item| Named { name: name.to_owned(), body: address::Address { r#type: Some(item) } };
        let upserts = vec![
            named(&own.uid.clone(), address::address::Type::Workload(own)),
            named(POD, address::address::Type::Workload(web)),
            named(WEB, address::address::Type::Service(service)),
        ];
        self.push(Push::Address { upserts, removed: Vec::new() });
    }
}

/// A change of one resource.
pub(crate) fn upsert<T>(name: &str, body: T) -> Changes<T> {
    let upserts = vec![Named { name: name.to_owned(), body }];
    Changes { upserts, unreadable: Vec::new(), removed: Vec::new() }
}

/// What the pod demands.
pub(crate) fn pod(policies: &[&str]) -> wire::Workload {
    let policies = policies.iter().map(|name| (*name).to_owned()).collect();
    wire::Workload { uid: POD.to_owned(), policies, ..Default::default() }
}

/// A policy of one rule.
pub(crate) fn policy(name: &str, action: wire::policy::Action, rule: wire::PolicyRule) -> Push {
    let body = wire::Policy {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        action: action.into(),
        rules: vec![rule],
        ..Default::default()
    };
    Push::Policy(upsert(&format!("shop/{name}"), body))
}

/// A rule that forwards to the service.
pub(crate) fn forward() -> wire::HttpRule {
    let backend = wire::Backend { service: WEB.to_owned(), port: 80, weight: 1, ..Default::default() };
    wire::HttpRule {
        origin: "VirtualService/shop/web#0".to_owned(),
        action: Some(wire::http_rule::Action::Forward(wire::Forward { backends: vec![backend] })),
        ..Default::default()
    }
}

fn destination() -> wire::Destination {
    wire::Destination {
        namespace: "shop".to_owned(),
        hostname: "web.shop.svc.cluster.local".to_owned(),
        ..Default::default()
    }
}

fn resource(port: u16, http: Vec<wire::HttpRule>, policies: &[&str]) -> wire::Gateway {
    wire::Gateway {
        namespace: "shop".to_owned(),
        name: "gateway".to_owned(),
        policies: policies.iter().map(|name| (*name).to_owned()).collect(),
        listeners: vec![wire::Listener { name: "http".to_owned(), port: port.into(), http }],
        ..Default::default()
    }
}
