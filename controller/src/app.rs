//! The controller's life: root and keys → source and translation → gRPC port → drain.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ambit_crds::source::{Rescan, Started};
use ambit_crds::status::StatusWriter;
use ambit_process::admin::{Addresses, Admin, BindError, Serving};
use ambit_process::metrics::Metrics;
use ambit_process::readiness::Readiness;
use ambit_process::signal::{Quit, shutdown_or};
use ambit_process::spawn::spawn;
use ambit_process::telemetry::LogHandle;
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::ca::authority::Authority;
use crate::ca::service::Certificates;
use crate::gate::{Facts, Gate};
use crate::home::{CaError, Home, Trusting};
use crate::listen::{self, ServingError, Speaks};
use crate::objects::Change;
use crate::outage::{self, Outages};
use crate::pipeline::{Pipeline, Settled, Taken, Translate};
use crate::rpc::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use crate::rpc::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use crate::settings::Settings;
use crate::snapshot::{Resources, Snapshot, WaypointResources};
use crate::staging;
use crate::translate::Translator;
use crate::webhook::{Shared, Webhook, WebhookError};
use crate::write_back::Backlog;
use crate::xds::metrics::ServerMetrics;
use crate::xds::server::Discovery;
use crate::xds::syncz::Proxies;

/// HTTP/2 PING: interval and time-out.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// A request of a proxy: names and versions of all it holds.
const MAX_REQUEST: usize = 64 << 20;

/// Streams on one connection; a proxy uses two.
const STREAMS_PER_CONNECTION: u32 = 32;

/// Connections beyond one per proxy: rotation, and the CA's own.
const SPARE_CONNECTIONS: usize = 64;

/// `/debug/syncz` waits this long for the source to be taken up.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Nothing to sign with.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No serving certificate.
    #[error("the serving certificate: {0}")]
    Serving(#[from] ServingError),
    /// The source cannot be read.
    #[error("the source: {0}")]
    Source(std::io::Error),
    /// The source ended, or the translation failed.
    #[error("the source ended by itself")]
    SourceEnded,
    /// The gRPC port.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// The API server's questions cannot be answered.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The server ended by itself.
    #[error("the gRPC server: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

/// What the gRPC port serves.
pub struct Mesh {
    /// The door.
    pub gate: Arc<Gate>,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// What proxies are told.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Who is connected.
    pub proxies: Proxies,
}

/// What the admin port shows.
struct Shown {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    proxies: Proxies,
    taken: Taken,
    rescan: Arc<dyn Rescan>,
}

/// The translation, what it counts and what it says about objects.
struct Translation {
    translator: Shared,
    backlog: Backlog,
    trusting: watch::Sender<Trusting>,
    outages: Outages,
    recomputed: Counter,
}

/// Runs until told to stop.
pub async fn run(settings: Settings, log: LogHandle) -> Result<(), AppError> {
    let (metrics, readiness, quit) = (Metrics::new(), Readiness::new(), Quit::new());
    log.register(&metrics);
    let facts = Facts { trust_domain: settings.ca.trust_domain.clone(), ..Facts::default() };
    let facts = Arc::new(RwLock::new(facts));
    let (home, started) = Home::enter(&settings).await.map_err(AppError::Source)?;
    let Started { events, status, rescan } = started;
    let gate = Arc::new(gate(&settings, &home, facts.clone(), &metrics));
    let (sender, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let (trusting, namespaces) = watch::channel(Trusting::default());
    let translator = translator(&settings);
    let taken = Taken::default();
    let (listed, first) = oneshot::channel();
    let pipeline = Pipeline {
        translate: Translation::start(translator.clone(), status, trusting, &metrics),
        snapshots: sender,
        facts,
        taken: taken.clone(),
        shape: settings.shape.clone(),
        gather: settings.gather,
        listed: Some((listed, readiness.hold("the first listing"))),
    };
    let mut pipeline = spawn("pipeline", pipeline.run(events));
    let shown = Shown { snapshots: snapshots.clone(), proxies: Proxies::default(), taken, rescan };
    let proxies = shown.proxies.clone();
    let _admin = admin(&settings, Admin::new(readiness.clone(), metrics, log, quit.clone()), shown).await?;
    // Proxies are told nothing before the first listing: they keep what they hold.
    let begin = async {
        let authority = Arc::new(home.authority(&settings).await?);
        let hold = first.await.map_err(|_| AppError::SourceEnded)?;
        Ok::<_, AppError>((authority, hold))
    };
    let (authority, hold) = tokio::select! {
        _ = shutdown_or(&quit) => {
            home.leave().await;
            return Ok(());
        }
        begun = begin => begun?,
    };
    home.keep_up(authority.roots(), namespaces);
    answer_questions(&settings, translator, &authority).await?;
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.map_err(|cause| AppError::Listen { address: settings.listen, cause })?;
    tracing::info!(address = %settings.listen, "serving xDS and CA");
    let mesh = Mesh { gate, authority, snapshots: staged(snapshots, &proxies).await?, proxies };
    let (stopping, stopped) = oneshot::channel();
    drop(hold);
    let serving = serve(mesh, listener, &settings, async move { drop(stopped.await) });
    let leaving = async {
        let _ = shutdown_or(&quit).await;
        // Another replica leads while proxies are still being sent away.
        let _ = stopping.send(());
        home.leave().await;
        Ok(())
    };
    tokio::select! {
        ended = async { tokio::try_join!(serving, leaving) } => ended.map(|_| ()),
        _ = &mut pipeline => Err(AppError::SourceEnded),
    }
}

fn translator(settings: &Settings) -> Shared {
    let translator = Translator::new(settings.names.clone()).with_classes(settings.classes);
    Arc::new(Mutex::new(translator.with_shape(settings.shape.clone())))
}

/// Answers the API server's questions about objects, where there is one.
async fn answer_questions(
    settings: &Settings,
    translator: Shared,
    authority: &Arc<Authority>,
) -> Result<(), WebhookError> {
    let Some(address) = settings.webhook else { return Ok(()) };
    Webhook::new(translator).serve(address, authority.clone(), settings.ca.names.clone()).await
}

/// What proxies are told of the snapshots, from the first complete one on.
async fn staged(
    snapshots: watch::Receiver<Arc<Snapshot>>,
    proxies: &Proxies,
) -> Result<watch::Receiver<Arc<Snapshot>>, AppError> {
    let (sender, mut told) = watch::channel(Arc::new(Snapshot::default()));
    spawn("staging", staging::run(snapshots, sender, proxies.clone()));
    // Nothing is told before this is, however empty: a proxy would take it for deletions.
    told.wait_for(|told| told.step > 0).await.map_err(|_| AppError::SourceEnded)?;
    Ok(told)
}

/// Serves the gRPC port until `stop`, then lets streams end for the drain time.
pub async fn serve(
    mesh: Mesh,
    listener: TcpListener,
    settings: &Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AppError> {
    let config = listen::serving(mesh.authority.clone(), settings.ca.names.clone(), Speaks::Http2)?;
    let incoming = listen::accept(listener, config, settings.streams + SPARE_CONNECTIONS);
    let (stopping, mut stopped) = watch::channel(());
    let streams = settings.streams;
    let discovery = Discovery::new(mesh.gate.clone(), mesh.snapshots, mesh.proxies, streams, stopped.clone());
    let signal = async move {
        stop.await;
        drop(stopping);
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(AggregatedDiscoveryServiceServer::new(discovery).max_decoding_message_size(MAX_REQUEST))
        .add_service(IstioCertificateServiceServer::new(Certificates::new(mesh.gate, mesh.authority)))
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), signal);
    let deadline = async {
        // Ends with an error when the sender is dropped, that is when the stop has come.
        while stopped.changed().await.is_ok() {}
        tokio::time::sleep(settings.drain).await;
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = deadline => Ok(()),
    }
}

impl Translation {
    fn start(
        translator: Shared,
        status: Arc<dyn StatusWriter>,
        trusting: watch::Sender<Trusting>,
        metrics: &Metrics,
    ) -> Self {
        let (backlog, recomputed) = (Backlog::default(), Counter::default());
        spawn("status", backlog.clone().run(status));
        let counter = recomputed.clone();
        let help = "Keys that changes made the controller compute again";
        metrics.with(|registry| registry.register("ambit_translate_recomputed_keys", help, counter));
        Self { translator, backlog, trusting, outages: Outages::register(metrics), recomputed }
    }
}

impl Translate for Translation {
    fn take(&mut self, changes: Vec<Change>) -> Arc<Snapshot> {
        let mut translator = self.translator.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = translator.apply(changes);
        let (absent, census, trusting) = (translator.absent(), translator.census(), translator.trusting());
        drop(translator);
        self.recomputed.inc_by(applied.recomputed.total() as u64);
        self.backlog.own(applied.writes.owned);
        self.backlog.report(outage::returned(&applied.writes.annotations));
        self.backlog.annotate(applied.writes.annotations);
        self.backlog.put(applied.verdicts);
        self.outages.follow(absent, &self.backlog);
        self.outages.count(census);
        self.trusting.send_if_modified(|held| {
            let changed = held.as_ref() != Some(&trusting);
            *held = Some(trusting);
            changed
        });
        applied.snapshot
    }
}

fn gate(settings: &Settings, home: &Home, facts: Arc<RwLock<Facts>>, metrics: &Metrics) -> Gate {
    Gate {
        vouching: home.vouching(settings),
        trusted: settings.ca.trusted.clone(),
        facts,
        metrics: ServerMetrics::register(metrics),
    }
}

async fn admin(settings: &Settings, admin: Admin, shown: Shown) -> Result<Serving, AppError> {
    let shown = Arc::new(shown);
    let (sync, told, config) = (shown.clone(), shown.clone(), shown);
    let rows: Vec<_> =
        settings.rows.iter().map(|row| serde_json::json!({"name": row.name, "value": row.value})).collect();
    let doors = &settings.doors;
    let addresses = Addresses {
        admin: vec![doors.admin],
        metrics: Vec::from_iter(doors.metrics),
        readiness: Vec::from_iter(doors.readiness),
    };
    let admin =
        admin.dump("/debug/syncz", move || sync.syncz()).dump("/config_dump", move || config.config(&rows));
    let admin = admin.dump("/debug/snapshot", move || told.snapshots.borrow().dump());
    Ok(admin.serve(&addresses).await?)
}

impl Shown {
    /// Looks at the source first, so that the generation includes all that was written before the question.
    fn syncz(&self) -> serde_json::Value {
        let settled = self.taken.wait(self.rescan.rescan(), LOOK_WITHIN);
        serde_json::json!({
            "generation": self.snapshots.borrow().generation,
            "settled": settled == Settled::Yes,
            "proxies": self.proxies.all(),
        })
    }

    fn config(&self, rows: &[serde_json::Value]) -> serde_json::Value {
        let snapshot = self.snapshots.borrow().clone();
        let list = |resources: &Resources| {
            resources
                .values()
                .map(|one| serde_json::json!({"name": one.name, "version": one.version}))
                .collect::<Vec<_>>()
        };
        let waypoint = |own: &WaypointResources| {
            serde_json::json!({
                "account": own.account.to_string(),
                "gateway": list(&own.gateway),
                "services": list(&own.services),
                "destinations": list(&own.destinations),
                "workloads": list(&own.workloads),
                "policies": list(&own.policies),
            })
        };
        let waypoints: serde_json::Map<_, _> =
            snapshot.waypoints.iter().map(|(gateway, own)| (gateway.to_string(), waypoint(own))).collect();
        serde_json::json!({
            "generation": snapshot.generation,
            "addresses": list(&snapshot.addresses),
            "authorizations": list(&snapshot.authorizations),
            "waypoints": waypoints,
            "settings": rows,
        })
    }
}
