//! One watch per kind: lists, watches, waits after failures, lists again when the server asks for it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::backoff::Backoff;
use futures_util::StreamExt;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::MANAGED;
use super::arrival::Arrival;
use super::discovery::Served;
use super::store::Told;
use crate::kind::{Kind, Placement};
use crate::mesh_config;
use crate::meta::ObjectRef;
use crate::origin::View;

/// First and longest wait after a failure.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));
/// Objects in one page of a listing.
const PAGE: u32 = 500;
/// So many answers in a row must say that a kind is gone before its objects are: while an API server starts, it may not know
/// the definitions yet.
const GONE_AFTER: u8 = 2;

/// Follows the objects of one kind.
pub(super) struct Follower {
    pub(super) kind: Kind,
    pub(super) client: Client,
    pub(super) view: View,
    pub(super) served: watch::Receiver<Arc<Served>>,
    pub(super) tickets: watch::Receiver<u64>,
    pub(super) told: mpsc::Sender<Told>,
    /// Whether it was said that the server does not answer.
    pub(super) is_cut_off: bool,
}

/// The store has gone away; there is nobody to tell.
struct Closed;

/// Why a watch ended.
enum End {
    /// The server cannot go on from where we were, or a look was asked for.
    ListAgain,
    /// The server does not know the kind.
    Unknown,
}

impl Follower {
    /// Follows until nobody listens.
    pub(super) async fn run(mut self) {
        let told = self.told.clone();
        tokio::select! {
            () = told.closed() => {}
            _ = self.follow() => {}
        }
    }

    async fn follow(&mut self) -> Result<(), Closed> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let (mut missed, mut is_told) = (0_u8, false);
        loop {
            let served = self.served.borrow_and_update().clone();
            let Some(resource) = served.kinds.get(&self.kind) else {
                if served.round > 0 {
                    missed = missed.saturating_add(1);
                }
                // What was never listed has nothing to lose.
                if served.round > 0 && (!is_told || missed >= GONE_AFTER) {
                    self.tell(Told::Absent(self.kind, served.ticket)).await?;
                    is_told = false;
                }
                self.served.changed().await.map_err(|_| Closed)?;
                continue;
            };
            missed = 0;
            match self.watch(resource, &mut backoff, &mut is_told).await? {
                End::ListAgain => {}
                // The next answer tells whether the definition is gone or only the server not ready.
                End::Unknown => tokio::time::sleep(backoff.delay()).await,
            }
        }
    }

    /// Lists and watches until that has to begin anew.
    async fn watch(
        &mut self,
        resource: &ApiResource,
        backoff: &mut Backoff,
        is_told: &mut bool,
    ) -> Result<End, Closed> {
        let ticket = *self.tickets.borrow_and_update();
        let (api, config) = self.request(resource);
        let mut stream = pin!(watcher::watcher(api, config));
        let mut listing: BTreeMap<ObjectRef, Arrival> = BTreeMap::new();
        let mut tickets = self.tickets.clone();
        loop {
            let event = tokio::select! {
                Ok(()) = tickets.changed() => return Ok(End::ListAgain),
                event = stream.next() => event.ok_or(Closed)?,
            };
            match event {
                Ok(Event::Init) => listing.clear(),
                Ok(Event::InitApply(object)) => {
                    listing.extend(self.read(resource, object).map(|one| (one.object.clone(), one)));
                }
                Ok(Event::InitDone) => {
                    let all = std::mem::take(&mut listing).into_values().collect();
                    self.tell(Told::Listed(self.kind, all, ticket)).await?;
                    *is_told = true;
                    self.is_back(backoff);
                }
                Ok(Event::Apply(object)) => {
                    self.is_back(backoff);
                    if let Some(arrival) = self.read(resource, object) {
                        self.tell(Told::Applied(Box::new(arrival))).await?;
                    }
                }
                Ok(Event::Delete(object)) => {
                    self.is_back(backoff);
                    if let Some(arrival) = self.read(resource, object) {
                        self.tell(Told::Deleted(arrival.object)).await?;
                    }
                }
                Err(error) => {
                    if let Some(end) = self.failed(&error, backoff).await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Waits, and says whether the watch has to begin anew. Without a connection it goes on where it was.
    async fn failed(&mut self, error: &watcher::Error, backoff: &mut Backoff) -> Option<End> {
        let (code, end) = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
                (404, Some(End::Unknown))
            }
            watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::InitialListFailed(kube::Error::Api(status)) => {
                (status.code, Some(End::ListAgain))
            }
            watcher::Error::WatchError(status) => (status.code, Some(End::ListAgain)),
            _ => (0, None),
        };
        if code == 410 {
            tracing::debug!(
                kind = self.kind.id(),
                "the API server has forgotten where we were; listing again"
            );
            return end;
        }
        if !std::mem::replace(&mut self.is_cut_off, true) {
            tracing::warn!(
                kind = self.kind.id(), %error, "cannot follow the API server; what is known stays in force"
            );
        }
        tokio::time::sleep(backoff.delay()).await;
        end
    }

    fn is_back(&mut self, backoff: &mut Backoff) {
        backoff.reset();
        if std::mem::take(&mut self.is_cut_off) {
            tracing::info!(kind = self.kind.id(), "the API server answers again");
        }
    }

    fn request(&self, resource: &ApiResource) -> (Api<DynamicObject>, watcher::Config) {
        let client = self.client.clone();
        let config = watcher::Config::default().page_size(PAGE);
        match (self.kind, &self.view) {
            (Kind::ConfigMap, _) => (
                Api::namespaced_with(client, mesh_config::NAMESPACE, resource),
                config.fields(&format!("metadata.name={}", mesh_config::NAME)),
            ),
            (Kind::Pod, View::Node(node)) => {
                (Api::all_with(client, resource), config.fields(&format!("spec.nodeName={node}")))
            }
            _ => (Api::all_with(client, resource), config),
        }
    }

    fn read(&self, resource: &ApiResource, mut object: DynamicObject) -> Option<Arrival> {
        // Of others' workload sets only the names count, which ours must not take.
        let is_managed = object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(MANAGED));
        if self.kind == Kind::Deployment && !is_managed {
            object.data = json!({ "spec": { "template": {} } });
        }
        let arrival = Arrival::new(self.kind, resource, object)?;
        let in_namespace = !arrival.object.namespace.is_empty();
        (in_namespace == (self.kind.placement() == Placement::Namespaced)).then_some(arrival)
    }

    async fn tell(&self, told: Told) -> Result<(), Closed> {
        self.told.send(told).await.map_err(|_| Closed)
    }
}
