//! Writes back to the cluster, and only where something differs.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::events::{Event as Report, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::KubernetesSource;
use super::arrival::{Face, LAST_GOOD};
use super::conditions::{self, Write};
use super::discovery::Served;
use super::own;
use super::store::Told;
use crate::kind::Kind;
use crate::meta::ObjectRef;
use crate::origin::View;
use crate::source::SourceEvent;
use crate::status::{Condition, Details, Event, EventSeverity, StatusWriter};

/// The longest note of an event that Kubernetes takes.
const MAX_NOTE: usize = 1024;

/// What is known of the objects that may be written about.
#[derive(Debug, Default)]
pub(super) struct Known {
    faces: Mutex<BTreeMap<ObjectRef, Face>>,
}

/// The writer of one cluster.
pub(super) struct Writer {
    runtime: Handle,
    client: Client,
    name: String,
    /// Classes of the Gateways that are ours.
    classes: Vec<String>,
    recorder: Recorder,
    served: watch::Receiver<Arc<Served>>,
    known: Arc<Known>,
    leading: Option<watch::Receiver<bool>>,
    /// Closed when nobody reads the source any more.
    reader: mpsc::Sender<SourceEvent>,
}

impl Known {
    /// Learns from what a watch tells.
    pub(super) fn learn(&self, told: &Told) {
        match told {
            Told::Applied(arrival) => self.put(&arrival.object, arrival.face.clone()),
            Told::Deleted(object) => drop(self.lock().remove(object)),
            Told::Absent(kind, _) => self.lock().retain(|object, _| object.kind != *kind),
            Told::Listed(kind, arrivals, _) => {
                self.lock().retain(|object, _| object.kind != *kind);
                arrivals.iter().for_each(|arrival| self.put(&arrival.object, arrival.face.clone()));
            }
        }
    }

    /// What we wrote ourselves may be newer than what a watch tells.
    fn put(&self, object: &ObjectRef, face: Face) {
        let mut faces = self.lock();
        if faces.get(object).is_none_or(|held| !face.is_older_than(held)) {
            faces.insert(object.clone(), face);
        }
    }

    fn get(&self, object: &ObjectRef) -> Option<Face> {
        self.lock().get(object).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectRef, Face>> {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn new(
        source: KubernetesSource,
        runtime: Handle,
        served: watch::Receiver<Arc<Served>>,
        known: Arc<Known>,
        reader: mpsc::Sender<SourceEvent>,
    ) -> Self {
        let KubernetesSource { client, view, writer: name, leading } = source;
        let classes = match view {
            View::Mesh { classes } => classes,
            View::Node(_) => Vec::new(),
        };
        let recorder = Recorder::new(client.clone(), Reporter::from(name.as_str()));
        Self { runtime, client, name, classes, recorder, served, known, leading, reader }
    }

    /// Waits until this process is the one that writes.
    async fn may_write(&self) -> io::Result<()> {
        let Some(mut leading) = self.leading.clone() else {
            return Ok(());
        };
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the source has ended");
        tokio::select! {
            () = self.reader.closed() => Err(ended()),
            led = leading.wait_for(|leading| *leading) => led.map(|_| ()).map_err(|_| ended()),
        }
    }

    fn resource(&self, kind: Kind) -> io::Result<ApiResource> {
        let unknown = || {
            let text = format!("the cluster has no {kind} of {}; install its definition", kind.group());
            io::Error::new(io::ErrorKind::NotFound, text)
        };
        self.served.borrow().kinds.get(&kind).cloned().ok_or_else(unknown)
    }

    fn face(&self, object: &ObjectRef) -> io::Result<Face> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{object} does not exist"));
        self.known.get(object).ok_or_else(gone)
    }

    fn api(&self, object: &ObjectRef, resource: &ApiResource) -> Api<DynamicObject> {
        match object.namespace.as_str() {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        }
    }

    /// Learns what an object looks like after a write.
    fn learn(&self, object: &ObjectRef, written: DynamicObject) {
        // Everything in it came from JSON.
        let whole = serde_json::to_value(written).unwrap_or_default();
        self.known.put(object, Face::new(object.kind, &whole));
    }

    async fn set_annotation(&self, object: &ObjectRef, key: &str, value: Option<&str>) -> io::Result<()> {
        self.may_write().await?;
        let face = self.face(object)?;
        if face.annotations.get(key).map(String::as_str) == value {
            return Ok(());
        }
        let resource = self.resource(object.kind)?;
        let api = self.api(object, &resource);
        // The UID makes the server refuse to write to a successor of the same name.
        let patch = Patch::Merge(json!({ "metadata": { "uid": face.uid, "annotations": { (key): value } } }));
        let parameters = PatchParams { field_manager: Some(self.name.clone()), ..PatchParams::default() };
        let written = match object.kind {
            // The right to patch pods themselves would be the right to change their images.
            Kind::Pod => api.patch_status(&object.name, &parameters, &patch).await,
            _ => api.patch(&object.name, &parameters, &patch).await,
        };
        self.learn(object, written.map_err(|error| failed(object, error))?);
        Ok(())
    }

    async fn set_status(
        &self,
        object: &ObjectRef,
        wanted: &[Condition],
        details: &Details,
    ) -> io::Result<()> {
        self.may_write().await?;
        // What is gone needs no verdict.
        let Ok(face) = self.face(object) else { return Ok(()) };
        let now = now();
        let write = if conditions::is_route(object.kind) {
            let is_ours = |parent: &Value| self.is_ours(object, parent);
            conditions::plan_route(&face, (wanted, details), &now, is_ours)
        } else {
            conditions::plan(&face, wanted, details, &now)
        };
        let Some(write) = write else { return Ok(()) };
        let resource = self.resource(object.kind)?;
        let api = self.api(object, &resource);
        let written = match write {
            Write::Status(status) => {
                let mut metadata = json!({ "name": object.name, "uid": face.uid });
                if !object.namespace.is_empty() {
                    metadata["namespace"] = object.namespace.clone().into();
                }
                let body = json!({
                    "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata,
                    "status": status,
                });
                let parameters = PatchParams::apply(&self.name).force();
                api.patch_status(&object.name, &parameters, &Patch::Apply(body)).await
            }
            // One list for all controllers: nobody's words may get lost between reading and writing.
            Write::Parents(parents) => {
                let metadata = json!({ "uid": face.uid, "resourceVersion": face.version });
                let body = json!({ "metadata": metadata, "status": { "parents": parents } });
                let parameters =
                    PatchParams { field_manager: Some(self.name.clone()), ..PatchParams::default() };
                api.patch_status(&object.name, &parameters, &Patch::Merge(body)).await
            }
        };
        self.learn(object, written.map_err(|error| failed(object, error))?);
        Ok(())
    }

    /// Whether a parent of a route is ours to answer for: a Service, or a Gateway of our classes.
    fn is_ours(&self, route: &ObjectRef, parent: &Value) -> bool {
        let text = |field: &str, default: &'static str| parent[field].as_str().unwrap_or(default).to_owned();
        match (&*text("group", "gateway.networking.k8s.io"), &*text("kind", "Gateway")) {
            ("" | "core", "Service") => true,
            ("gateway.networking.k8s.io", "Gateway") => {
                let namespace = parent["namespace"].as_str().unwrap_or(&route.namespace);
                let gateway = ObjectRef::new(Kind::Gateway, namespace, &text("name", ""));
                self.known.get(&gateway).is_some_and(|one| self.classes.contains(&one.class))
            }
            _ => false,
        }
    }

    async fn report(&self, event: &Event) -> io::Result<()> {
        self.may_write().await?;
        let (object, resource) = (&event.object, self.resource(event.object.kind)?);
        let regarding = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(object.name.clone()),
            namespace: (!object.namespace.is_empty()).then(|| object.namespace.clone()),
            uid: self.known.get(object).map(|face| face.uid),
            ..ObjectReference::default()
        };
        let note = &event.message[..event.message.floor_char_boundary(MAX_NOTE)];
        let report = Report {
            type_: match event.severity {
                EventSeverity::Normal => EventType::Normal,
                EventSeverity::Warning => EventType::Warning,
            },
            reason: event.reason.clone(),
            note: Some(note.to_owned()),
            action: event.reason.clone(),
            secondary: None,
        };
        self.recorder.publish(&report, &regarding).await.map_err(|error| failed(object, error))
    }

    async fn set_own(&self, object: &ObjectRef, manifest: Option<&Value>) -> io::Result<()> {
        self.may_write().await?;
        let resource = self.resource(object.kind)?;
        let api = self.api(object, &resource);
        let written = own::set(&api, object, manifest, &self.name).await?;
        if let Some(written) = written {
            self.learn(object, written);
        }
        Ok(())
    }

    /// Keeps the last good spec of an object with it, or no longer.
    pub(super) async fn keep(&self, object: &ObjectRef, spec: Option<&str>) {
        match self.set_annotation(object, LAST_GOOD, spec).await {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::BrokenPipe) => {
                tracing::warn!(%object, %error, "its last good version is not kept for a restart");
            }
            _ => {}
        }
    }
}

impl StatusWriter for Writer {
    fn annotate(&self, object: &ObjectRef, key: &str, value: Option<&str>) -> io::Result<()> {
        self.runtime.block_on(self.set_annotation(object, key, value))
    }

    fn event(&self, event: &Event) -> io::Result<()> {
        self.runtime.block_on(self.report(event))
    }

    fn conditions(&self, object: &ObjectRef, conditions: &[Condition]) -> io::Result<()> {
        self.status(object, conditions, &Details::None)
    }

    fn status(&self, object: &ObjectRef, conditions: &[Condition], details: &Details) -> io::Result<()> {
        self.runtime.block_on(self.set_status(object, conditions, details))
    }

    fn own(&self, object: &ObjectRef, manifest: Option<&Value>) -> io::Result<()> {
        self.runtime.block_on(self.set_own(object, manifest))
    }
}

/// The time in the form of conditions.
fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// What a failed request about an object means.
pub(super) fn failed(object: &ObjectRef, error: kube::Error) -> io::Error {
    request_failed(&object.to_string(), error)
}

/// What a failed request means.
pub(super) fn request_failed(about: &str, error: kube::Error) -> io::Error {
    let kind = match &error {
        kube::Error::Api(status) => match status.code {
            404 => io::ErrorKind::NotFound,
            403 => io::ErrorKind::PermissionDenied,
            409 => io::ErrorKind::ResourceBusy,
            400 | 422 => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        },
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, format!("{about}: {error}"))
}
