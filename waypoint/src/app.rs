//! The composition root: the only file that knows every part of the program.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ambit_api::identity::{Identity, InvalidIdentity};
use ambit_discovery::channel::ChannelError;
use ambit_discovery::credentials::{Credentials, State};
use ambit_discovery::view::{self, View, Writer};
use ambit_discovery::xds::Role;
use ambit_process::admin::{Addresses, Admin, BindError, Serving};
use ambit_process::drain;
use ambit_process::limits::raise_open_files;
use ambit_process::metrics::Metrics;
use ambit_process::overload::{Overload, TooLow};
use ambit_process::readiness::{Hold, Readiness};
use ambit_process::signal::{self, Quit};
use ambit_process::spawn::{spawn, spawn_local};
use ambit_process::telemetry::LogHandle;
use ambit_process::workers::Workers;
use ambit_transport::hbone::pool::{Directory, Pool};
use ambit_transport::socket::{self, ListenOptions, Netns};
use ambit_transport::trust::Accepted;
use ambit_transport::{buffer, hbone};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::arrive::{self, Door};
use crate::balance::cluster::Clusters;
use crate::clusters::Balancers;
use crate::detach::Footings;
use crate::mesh::{Mesh, Open, Own, World};
use crate::relief::Relief;
use crate::report::Reporting;
use crate::report::metrics::Report;
use crate::settings::Settings;
use crate::trace::export::{self, Spans};
use crate::trace::span::Origin;
use crate::upstream::{self, Dialler};
use crate::{dump, listeners, watch};

/// Descriptors assumed when the limit cannot be read.
const FALLBACK_DESCRIPTORS: u64 = 1024;

/// Descriptors kept back from connections: listeners, epoll, logs, control plane.
const RESERVED: u64 = 128;

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The data plane's threads.
    #[error("cannot start the workers: {0}")]
    Workers(std::io::Error),
    /// Our names form no identity.
    #[error("POD_NAMESPACE and SERVICE_ACCOUNT: {0}")]
    Identity(#[from] InvalidIdentity),
    /// The control plane's address or headers.
    #[error("{0}")]
    Target(#[from] ChannelError),
    /// An admin address.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// Where HBONE is to arrive.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// The memory we may use.
    #[error("{0}")]
    Memory(#[from] TooLow),
}

/// Runs until told to stop, then drains.
pub async fn run(settings: Settings, log: LogHandle) -> Result<(), Fatal> {
    let (metrics, readiness, quit) = (Metrics::new(), Readiness::new(), Quit::new());
    log.register(&metrics);
    let (trigger, watch) = drain::channel();
    let (writer, view) = view::view();
    let (spans, exporter) = export::channel(&metrics);
    let reporting = reporting(&settings, &metrics, (log.clone(), spans.clone()));
    let origin = Origin::clone(&reporting.origin);
    let exporter = exporter.start(view.clone(), origin);
    let mesh = assemble(settings, view, watch, reporting).await?;
    mesh.overload.register(&metrics);
    let relief = mesh.relief.clone();
    let guard = spawn("overload", mesh.overload.clone().watch(move || relief.relieve()));
    let control = start_control(&mesh, &metrics, &readiness, writer)?;
    let not_open = readiness.hold("listener");
    let serving = serve_admin(&mesh, Admin::new(readiness.clone(), metrics, log, quit.clone())).await?;
    info!(workers = mesh.workers.len(), identity = %mesh.own.identity, "waypoint is running");

    let told = signal::shutdown_or(&quit);
    let mut told = pin!(told);
    tokio::select! {
        opened = open_doors(&mesh, not_open) => opened?,
        cause = told.as_mut() => {
            info!(%cause, "stopped before there was anything to serve");
            return Ok(());
        }
    }
    let cause = told.await;
    let times = mesh.settings.data.times;
    info!(%cause, deadline = ?times.drain, "leaving");
    let _not_ready = leave(&mesh, &readiness, times.linger.min(times.drain / 2)).await;
    info!("draining");
    drop(mesh);
    let drained = trigger.drain(times.drain.saturating_sub(times.linger.min(times.drain / 2))).await;
    info!(?drained, "stopped");
    control.iter().for_each(JoinHandle::abort);
    guard.abort();
    spans.flush().await;
    exporter.abort();
    drop(serving);
    Ok(())
}

/// Not ready first: who chooses among replicas hears of it and stops sending. Until it has, new connections are served
/// like any other; HTTP/1.1 clients are asked with every answer to open their next connection elsewhere.
async fn leave(mesh: &Mesh, readiness: &Readiness, linger: Duration) -> Hold {
    let not_ready = readiness.hold("leaving");
    mesh.leaving.store(true, Ordering::Relaxed);
    let empty = async {
        while mesh.open.now() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Even an empty one waits a moment: a connection may be on its way.
    tokio::time::sleep(linger / 2).await;
    let _ = tokio::time::timeout(linger / 2, empty).await;
    not_ready
}

/// What is told about requests, and to whom.
pub fn reporting(settings: &Settings, metrics: &Metrics, (log, spans): (LogHandle, Spans)) -> Reporting {
    let (control, workers) = (&settings.control, Workers::count_from(settings.data.workers));
    let origin = Origin {
        service: settings.names.gateway.clone(),
        namespace: control.pod_namespace.clone(),
        pod: control.pod_name.clone(),
        cluster: control.cluster.clone(),
        mesh: control.trust_domain.to_string(),
    };
    Reporting { metrics: Report::new(metrics, workers), log, spans, origin: Arc::new(origin) }
}

/// The data plane: its workers with their worlds, fed by a view. No door is open yet.
pub async fn assemble(
    settings: Settings,
    view: View,
    drain: drain::Watch,
    reporting: Reporting,
) -> Result<Arc<Mesh>, Fatal> {
    let overload = Overload::new(settings.data.memory_ceiling)?;
    buffer::bound(overload.sizes());
    let workers =
        Workers::start(Workers::count_from(settings.data.workers), "worker").map_err(Fatal::Workers)?;
    let control = &settings.control;
    let identity =
        Identity::new(&control.trust_domain, &control.pod_namespace, &settings.names.service_account)?;
    let credentials = Credentials::new(Accepted::only(control.trust_domain.clone()));
    let times = settings.data.times;
    let own = Own {
        certificate: credentials.watch(&identity),
        identity,
        namespace: control.pod_namespace.as_str().into(),
        pod: control.pod_name.as_str().into(),
        pod_uid: format!("{}/{}", control.pod_namespace, control.pod_name).into(),
        hbone: hbone::Settings {
            connect_timeout: times.connect.saturating_mul(2),
            idle_timeout: times.tunnel_idle,
            preface_timeout: times.connect,
            ..hbone::Settings::sized(overload.sizes())
        },
        times,
        overload: overload.clone(),
    };
    let mesh = Arc::new(Mesh {
        own: Arc::new(own),
        open: Open::new(max_connections(settings.data.max_connections)),
        overload,
        relief: Relief::default(),
        clusters: Clusters::default(),
        leaving: AtomicBool::new(false),
        credentials,
        view,
        workers,
        drain,
        settings,
    });
    establish_worlds(&mesh, &reporting).await;
    Ok(mesh)
}

/// From the setting (0 means derive) and the descriptor limit; a connection needs two descriptors at most.
fn max_connections(asked: usize) -> usize {
    let descriptors = match raise_open_files() {
        Ok(limit) => limit.soft,
        Err(cause) => {
            warn!(%cause, "cannot raise the limit on open files");
            FALLBACK_DESCRIPTORS
        }
    };
    let room = usize::try_from(descriptors.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX);
    if asked == 0 { room } else { asked.min(room) }
}

async fn establish_worlds(mesh: &Arc<Mesh>, reporting: &Reporting) {
    let directory = Directory::default();
    for worker in mesh.workers.iter() {
        let (index, directory, own) = (worker.index(), directory.clone(), mesh.own.clone());
        let (clusters, view) = (mesh.clusters.clone(), mesh.view.clone());
        let reporting = reporting.clone();
        let establish = move || async move {
            let tunnels = Pool::new(index, directory, own.hbone.clone());
            let footings = Footings::new(own.clone());
            let dialler = match Dialler::new(own, tunnels) {
                Ok(dialler) => dialler,
                Err(cause) => {
                    error!(%cause, "a worker cannot dial");
                    return;
                }
            };
            let world = World {
                upstream: upstream::Pool::new(dialler),
                balancers: Balancers::new(clusters),
                changes: Rc::default(),
                footings,
                report: reporting.reporter(index),
            };
            spawn_local("changes", watch::follow(view, world.establish()));
        };
        if worker.run_when_free(establish).await.is_err() {
            warn!(index, "a worker ended before it began");
        }
    }
}

fn start_control(
    mesh: &Arc<Mesh>,
    metrics: &Metrics,
    readiness: &Readiness,
    writer: Writer,
) -> Result<[JoinHandle<()>; 2], Fatal> {
    let (ready, keepers) = (readiness.hold("state manager"), (writer, mesh.credentials.clone()));
    Ok(mesh.settings.control.start(Role::Waypoint, keepers, metrics, ready)?)
}

/// Opens the HBONE port, and the plain ports of a gateway as they are told, once we have what serving takes: a connection
/// that is refused is tried at another replica, one that is taken and then fails is not.
async fn open_doors(mesh: &Arc<Mesh>, not_open: Hold) -> Result<(), Fatal> {
    let inbound = mesh.settings.data.inbound;
    let failed = |cause| Fatal::Listen(inbound, cause);
    let netns = Netns::current().map_err(failed)?;
    let (mut certificate, mut changed) = (mesh.own.certificate.clone(), mesh.view.changes());
    let usable = |state: &State| state.usable_at(SystemTime::now()).is_some();
    // Of all our resources the gateway comes last. Both senders live as long as the process.
    while mesh.view.load().waypoint.gateway.is_none() && changed.changed().await.is_ok() {}
    let _there = certificate.wait_for(usable).await;
    let options = ListenOptions { keepalive: None, ..ListenOptions::default() };
    let listener = socket::listen(&netns, inbound, &options).map_err(failed)?;
    spawn("tunnels", arrive::accept(listener, Door::Tunnels, mesh.clone()));
    spawn("listeners", listeners::follow(mesh.clone(), netns));
    drop(not_open);
    Ok(())
}

async fn serve_admin(mesh: &Arc<Mesh>, admin: Admin) -> Result<Serving, BindError> {
    let ports = &mesh.settings.ports;
    let addresses = Addresses {
        admin: vec![ports.admin],
        metrics: vec![ports.metrics],
        readiness: vec![ports.readiness],
    };
    // Weak, so that the servers, which answer during the drain, do not hold the drain up.
    let weak = Arc::downgrade(mesh);
    let dump = move || weak.upgrade().map_or(serde_json::Value::Null, |mesh| dump::dump(&mesh));
    admin.dump("/config_dump", dump).serve(&addresses).await
}
