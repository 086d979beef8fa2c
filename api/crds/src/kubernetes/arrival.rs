//! One object as the API server sends it: read by the same readers as a file's, and the little that writing back needs of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::{ApiResource, DynamicObject};
use serde_json::{Map, Value, json};

use super::conditions;
use crate::document::Node;
use crate::kind::{Kind, Placement, Standing};
use crate::meta::{ObjectRef, Order};
use crate::read::{self, Item, Outcome, Place};

/// The annotation that keeps the last good version of an object's spec while a bad one is written there.
pub(super) const LAST_GOOD: &str = "ambit.mesh/last-good";
/// Written by `kubectl apply`: a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What faults give as the place of an object.
pub(super) const PLACE: &str = "kubernetes";

/// An object that is new or has changed.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its name.
    pub(super) object: ObjectRef,
    /// What writing back needs.
    pub(super) face: Face,
    /// What it says.
    pub(super) item: Item,
    /// Its spec, for kinds of the mesh, so that it can be kept.
    pub(super) spec: Option<Arc<Value>>,
    /// What its annotation keeps, if it is itself bad.
    pub(super) kept: Option<Item>,
}

/// The little that writing back needs of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Face {
    /// Unique ID.
    pub(super) uid: String,
    /// Version.
    pub(super) version: String,
    /// Annotations, without copies of the object.
    pub(super) annotations: BTreeMap<String, String>,
    /// What its status says that may be ours.
    pub(super) status: conditions::Held,
    /// What a route is attached to.
    pub(super) parents: Vec<Value>,
    /// Class of a Gateway.
    pub(super) class: String,
}

impl Arrival {
    /// Reads an object; `None` when it has no name.
    pub(super) fn new(kind: Kind, resource: &ApiResource, object: DynamicObject) -> Option<Self> {
        let name = object.metadata.name.clone()?;
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let created = object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        let order = Order { rank: u64::try_from(created).unwrap_or_default(), ..Order::default() };
        let place = Place { file: PLACE.into(), order };
        let whole = whole(resource, object);
        let face = Face::new(kind, &whole);
        // What Kubernetes itself wrote cannot be bad for long.
        let is_builtin = matches!(kind.group(), "" | "apps" | "discovery.k8s.io");
        let keeps = kind.standing() == Standing::Enforced && !is_builtin;
        let spec = keeps.then(|| whole.get("spec").cloned().map(Arc::new)).flatten();
        let kept = face.annotations.get(LAST_GOOD).cloned();
        let before = kept.as_ref().map(|_| whole.clone());
        let item = read::read_node(&Node::from(whole), &place);
        let kept = match (&item.outcome, kept, before) {
            (Outcome::Bad(_), Some(kept), Some(whole)) => revive(whole, &kept, &place),
            _ => None,
        };
        let namespace = if kind.placement() == Placement::Cluster { "" } else { namespace.as_str() };
        Some(Self { object: ObjectRef::new(kind, namespace, &name), face, item, spec, kept })
    }
}

/// The object as JSON, without what nobody reads.
fn whole(resource: &ApiResource, object: DynamicObject) -> Value {
    let mut metadata = object.metadata;
    metadata.managed_fields = None;
    let mut whole = match object.data {
        Value::Object(data) => data,
        _ => Map::new(),
    };
    // The items of a list do not say what they are.
    whole.insert("apiVersion".to_owned(), resource.api_version.clone().into());
    whole.insert("kind".to_owned(), resource.kind.clone().into());
    whole.insert("metadata".to_owned(), json!(metadata));
    whole.into()
}

/// The object with the spec that was kept.
fn revive(mut whole: Value, kept: &str, place: &Place) -> Option<Item> {
    whole["spec"] = serde_json::from_str(kept).ok()?;
    let item = read::read_node(&Node::from(whole), place);
    matches!(item.outcome, Outcome::Valid(_)).then_some(item)
}

impl Face {
    /// Takes what is needed of an object.
    pub(super) fn new(kind: Kind, whole: &Value) -> Self {
        let metadata = &whole["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let annotations = metadata["annotations"].as_object().into_iter().flatten();
        let annotations = annotations.filter(|(key, _)| *key != LAST_APPLIED);
        let is_route = matches!(kind, Kind::HttpRoute | Kind::GrpcRoute);
        let parents = whole["spec"]["parentRefs"].as_array().filter(|_| is_route);
        Self {
            uid: text(&metadata["uid"]),
            version: text(&metadata["resourceVersion"]),
            annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
            status: conditions::Held::new(kind, &whole["status"]),
            parents: parents.cloned().unwrap_or_default(),
            class: text(&whole["spec"]["gatewayClassName"]),
        }
    }

    /// Whether this is an older look at the same object. Versions that are no numbers cannot be compared: the later counts.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let number = |face: &Self| face.version.parse::<u64>().ok();
        self.uid == other.uid && number(self).zip(number(other)).is_some_and(|(own, other)| own < other)
    }
}
