//! The composition root: the only file that knows every part of the program.

use std::sync::Arc;

use ambit_discovery::channel::ChannelError;
use ambit_discovery::credentials::Credentials;
use ambit_discovery::view::{self, Writer};
use ambit_discovery::xds::Role;
use ambit_process::admin::{Addresses, Admin, BindError, Serving};
use ambit_process::drain;
use ambit_process::limits::raise_open_files;
use ambit_process::metrics::Metrics;
use ambit_process::overload::{Overload, TooLow};
use ambit_process::readiness::Readiness;
use ambit_process::signal::{self, Quit};
use ambit_process::spawn::spawn;
use ambit_process::telemetry::LogHandle;
use ambit_process::workers::Workers;
use ambit_transport::hbone::pool::{Directory, Pool};
use ambit_transport::trust::Accepted;
use ambit_transport::{buffer, hbone};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::limit::{Handshakes, Limits};
use crate::mesh::{Mesh, World};
use crate::pods::Pods;
use crate::report::Report;
use crate::settings::Settings;
use crate::{dump, handover};

/// Descriptors assumed when the limit cannot be read.
const FALLBACK_DESCRIPTORS: u64 = 1024;

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The data plane's threads.
    #[error("cannot start the workers: {0}")]
    Workers(std::io::Error),
    /// The control plane's address or headers.
    #[error("{0}")]
    Target(#[from] ChannelError),
    /// An admin address.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// The memory we may use.
    #[error("{0}")]
    Memory(#[from] TooLow),
}

/// Runs until told to stop, then drains.
pub async fn run(settings: Settings, log: LogHandle) -> Result<(), Fatal> {
    let (metrics, readiness, quit) = (Metrics::new(), Readiness::new(), Quit::new());
    log.register(&metrics);
    let (trigger, watch) = drain::channel();
    let overload = Overload::new(settings.data.memory_ceiling)?;
    buffer::bound(overload.sizes());
    let workers =
        Workers::start(Workers::count_from(settings.data.workers), "worker").map_err(Fatal::Workers)?;
    let (writer, view) = view::view();
    let credentials = Credentials::new(Accepted::only(settings.control.trust_domain.clone()));
    overload.register(&metrics);
    let mesh = Arc::new(Mesh {
        report: Report::new(&metrics, workers.len()),
        limits: limits(&settings),
        handshakes: Handshakes::new(settings.data.max_handshakes),
        hbone: hbone::Settings {
            connect_timeout: settings.data.times.connect.saturating_mul(2),
            idle_timeout: settings.data.times.tunnel_idle,
            preface_timeout: settings.data.times.connect,
            ..hbone::Settings::sized(overload.sizes())
        },
        settings,
        view,
        credentials,
        workers,
        directory: Directory::default(),
        drain: watch,
        open: Arc::default(),
        overload: overload.clone(),
        relief: watch::Sender::default(),
    });
    establish_worlds(&mesh).await;
    let pods = Pods::new(mesh.clone());
    let guard = guard(&mesh, &pods);
    let control = start_control(&mesh, &metrics, &readiness, writer)?;
    start_handover(&mesh, &pods, &readiness);
    let serving = serve_admin(&mesh, &pods, Admin::new(readiness, metrics, log, quit.clone())).await?;
    info!(workers = mesh.workers.len(), "ztunnel is running");

    let cause = signal::shutdown_or(&quit).await;
    let deadline = mesh.settings.data.times.drain;
    info!(%cause, ?deadline, "draining");
    drop((mesh, pods));
    let drained = trigger.drain(deadline).await;
    info!(?drained, "stopped");
    control.iter().for_each(JoinHandle::abort);
    guard.abort();
    drop(serving);
    Ok(())
}

/// Watches memory; when it is used up, the pod with the most connections loses them.
fn guard(mesh: &Arc<Mesh>, pods: &Pods) -> JoinHandle<()> {
    let (weak, pods) = (Arc::downgrade(mesh), pods.downgrade());
    let relieve = move || {
        let (mesh, pods) = (weak.upgrade()?, pods.upgrade()?);
        let greediest = pods.list().into_iter().max_by_key(|pod| pod.open_connections())?;
        let open = greediest.open_connections();
        mesh.relief.send_replace(Some(greediest.uid.clone()));
        Some(format!("{open} connections of {greediest}"))
    };
    spawn("overload", mesh.overload.clone().watch(relieve))
}

fn limits(settings: &Settings) -> Limits {
    let descriptors = match raise_open_files() {
        Ok(limit) => limit.soft,
        Err(cause) => {
            warn!(%cause, "cannot raise the limit on open files");
            FALLBACK_DESCRIPTORS
        }
    };
    let data = &settings.data;
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    Limits::new(data.max_connections, data.max_connections_per_pod, descriptors)
}

async fn establish_worlds(mesh: &Arc<Mesh>) {
    for worker in mesh.workers.iter() {
        let (index, directory, settings) = (worker.index(), mesh.directory.clone(), mesh.hbone.clone());
        let shard = mesh.report.shard(index);
        let drain = mesh.drain.clone();
        let establish = move || async move {
            let pool = Pool::new(index, directory, settings);
            World { index, pool: pool.clone(), shard }.establish();
            drain.signalled().await;
            // Peers learn at once that no new streams will come; open ones go on.
            pool.retire_all();
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
    Ok(mesh.settings.control.start(Role::Ztunnel, keepers, metrics, ready)?)
}

fn start_handover(mesh: &Arc<Mesh>, pods: &Pods, readiness: &Readiness) {
    let (pods, drain) = (pods.clone(), mesh.drain.clone());
    let (socket, ready) = (mesh.settings.pods.socket.clone(), readiness.hold("workload proxy manager"));
    spawn("handover", async move { handover::run(&socket, &pods, ready, drain).await });
}

async fn serve_admin(mesh: &Arc<Mesh>, pods: &Pods, admin: Admin) -> Result<Serving, BindError> {
    let settings = &mesh.settings.admin;
    let addresses = Addresses {
        admin: vec![settings.admin],
        metrics: vec![settings.metrics],
        readiness: vec![settings.readiness],
    };
    // Weak, so that the servers, which answer during the drain, do not hold the drain up.
    let (weak, pods) = (Arc::downgrade(mesh), pods.downgrade());
    let dump = move || match (weak.upgrade(), pods.upgrade()) {
        (Some(mesh), Some(pods)) => dump::dump(&mesh, &pods),
        _ => serde_json::Value::Null,
    };
    admin.dump("/config_dump", dump).serve(&addresses).await
}
