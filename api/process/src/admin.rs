//! The doors for people and probes: readiness, metrics, dumps, the log level and the request to stop.
//!
//! Three doors, because they face different callers: the admin port everything (loopback only), the metrics
//! port and the readiness port one thing each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::collections::BTreeMap;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::readiness::Readiness;
use crate::signal::Quit;
use crate::telemetry::LogHandle;

mod serve;

/// Makes a dump; called for each request, off the runtime's own thread.
pub type Dump = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the admin servers show and do.
#[derive(Clone)]
pub struct Admin {
    readiness: Readiness,
    metrics: Metrics,
    log: LogHandle,
    quit: Quit,
    dumps: BTreeMap<&'static str, Dump>,
    // A dump of a large mesh takes memory; one at a time is plenty.
    dumping: Arc<Semaphore>,
}

/// Where the servers listen (or, from [`Serving`], where they do). Port 0 lets the kernel choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Everything. Loopback only, as there is no authentication: usually 127.0.0.1:15000.
    pub admin: Vec<SocketAddr>,
    /// Metrics: usually port 15020.
    pub metrics: Vec<SocketAddr>,
    /// Readiness: usually port 15021.
    pub readiness: Vec<SocketAddr>,
}

/// The running servers; dropping it ends them. Keep it until the drain is over, so that it can be watched.
#[derive(Debug)]
pub struct Serving {
    /// The addresses that were bound.
    pub bound: Addresses,
    _servers: JoinSet<()>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub error: io::Error,
}

impl Admin {
    /// Shows these; add dumps with [`Self::dump`].
    #[must_use]
    pub fn new(readiness: Readiness, metrics: Metrics, log: LogHandle, quit: Quit) -> Self {
        let dumping = Arc::new(Semaphore::new(1));
        Self { readiness, metrics, log, quit, dumps: BTreeMap::new(), dumping }
    }

    /// Adds a dump at `path` (`/config_dump`), a JSON value made for each request.
    #[must_use]
    pub fn dump(
        mut self,
        path: &'static str,
        dump: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        self.dumps.insert(path, Arc::new(dump));
        self
    }

    /// Binds every address, then serves on the current runtime until the result is dropped.
    ///
    /// # Errors
    /// When an address cannot be bound; nothing is served then.
    pub async fn serve(self, addresses: &Addresses) -> Result<Serving, BindError> {
        let (readiness, metrics) = (self.readiness_router(), self.metrics_router());
        let doors = [
            (&addresses.admin, self.admin_router()),
            (&addresses.metrics, metrics),
            (&addresses.readiness, readiness),
        ];
        let mut listeners = Vec::new();
        for (door, (addresses, router)) in doors.into_iter().enumerate() {
            for address in addresses {
                listeners.push((door, bind(*address).await?, router.clone()));
            }
        }
        let mut servers = JoinSet::new();
        let mut bound = Addresses::default();
        for (door, (address, listener), router) in listeners {
            [&mut bound.admin, &mut bound.metrics, &mut bound.readiness][door].push(address);
            servers.spawn(serve::accept(listener, router));
        }
        Ok(Serving { bound, _servers: servers })
    }

    fn readiness_router(&self) -> Router {
        Router::new().route("/healthz/ready", get(ready)).with_state(self.clone())
    }

    fn metrics_router(&self) -> Router {
        let routes = Router::new().route("/metrics", get(metrics)).route("/stats/prometheus", get(metrics));
        routes.with_state(self.clone())
    }

    fn admin_router(&self) -> Router {
        let mut router = Router::new()
            .route("/", get(index))
            .route("/logging", get(log_level).post(set_log_level))
            .route("/quitquitquit", post(quit))
            .with_state(self.clone());
        for (path, dump) in &self.dumps {
            let state = (Arc::clone(dump), Arc::clone(&self.dumping));
            router = router.merge(Router::new().route(path, get(make_dump)).with_state(state));
        }
        router.merge(self.readiness_router()).merge(self.metrics_router())
    }
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), BindError> {
    let failed = |error| BindError { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

async fn index(State(admin): State<Admin>) -> String {
    let fixed = [
        "GET  /healthz/ready",
        "GET  /metrics",
        "GET  /logging",
        "POST /logging?level=…&reset",
        "POST /quitquitquit",
    ];
    let dumps = admin.dumps.keys().map(|path| format!("GET  {path}"));
    fixed.map(str::to_owned).into_iter().chain(dumps).map(|line| line + "\n").collect()
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let pending = admin.readiness.pending();
    if pending.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("not ready, pending: {}\n", pending.join(", ")))
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], admin.metrics.encode()).into_response()
}

async fn log_level(State(admin): State<Admin>) -> String {
    level_line(&admin)
}

/// `level=LEVEL` or `level=TARGET=LEVEL,…` adds to the filter, after `reset` if both are given.
async fn set_log_level(
    State(admin): State<Admin>,
    Query(query): Query<BTreeMap<String, String>>,
) -> (StatusCode, String) {
    if let Some(unknown) = query.keys().find(|key| !matches!(key.as_str(), "level" | "reset")) {
        return (StatusCode::BAD_REQUEST, format!("{unknown:?} is not known: level and reset are\n"));
    }
    // Judged before the reset, so that a bad request changes nothing.
    let level = query.get("level").filter(|level| !level.is_empty());
    if let Some(error) = level.and_then(|level| level.parse::<crate::telemetry::Filter>().err()) {
        return (StatusCode::BAD_REQUEST, format!("{error}\n"));
    }
    if query.contains_key("reset") {
        admin.log.reset();
    }
    match level.map(|level| admin.log.set(level)) {
        Some(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
        _ => (StatusCode::OK, level_line(&admin)),
    }
}

fn level_line(admin: &Admin) -> String {
    format!("current log level is {}\n", admin.log.current())
}

async fn quit(State(admin): State<Admin>) -> &'static str {
    tracing::info!("asked to stop through the admin port");
    admin.quit.ask();
    "shutdown now\n"
}

async fn make_dump(State((dump, dumping)): State<(Dump, Arc<Semaphore>)>) -> Response {
    let Ok(_turn) = dumping.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let text = tokio::task::spawn_blocking(move || serde_json::to_string_pretty(&dump())).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the dump failed: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
