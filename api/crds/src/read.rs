//! Documents to objects: find the kind, read its metadata, parse it, and say what is wrong in the user's words.

mod body;
mod header;
mod unobeyed;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::code::Code;
use crate::document::{self, DecodeError, Node, Piece, Value};
use crate::fault::{Effect, Fault, Severity};
use crate::kind::{Kind, Standing};
use crate::mesh_config;
use crate::meta::{ObjectRef, Order};
use crate::object::{InvalidObject, Names, Object};

pub use header::DELETED;

/// API groups in which an unknown kind is a mistake of ours or the user's, not somebody else's business.
const MESH_GROUPS: [&str; 5] = [
    "security.istio.io",
    "networking.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
];

/// Where a document stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file as shown to people.
    pub(crate) file: Arc<str>,
    /// Its place in the order of creation; a list's items count on from the document's index.
    pub(crate) order: Order,
}

/// What became of one object of a document.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its line.
    pub(crate) line: u32,
    /// What it is.
    pub(crate) outcome: Outcome,
    /// Something worth knowing about it besides.
    pub(crate) note: Option<Fault>,
}

/// The ways reading can end.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A valid object.
    Valid(Arc<Object>),
    /// An object that is to be taken away.
    Tombstone(ObjectRef),
    /// An object that is wrong.
    Bad(Box<InvalidObject>),
    /// Something wrong that does not say which object it is.
    Unidentified(Box<Fault>),
    /// Nothing for us.
    Skipped,
}

impl Outcome {
    /// The object it is about, where that could be read.
    pub(crate) fn object(&self) -> Option<ObjectRef> {
        match self {
            Self::Valid(object) => Some(object.reference()),
            Self::Tombstone(object) => Some(object.clone()),
            Self::Bad(invalid) => Some(invalid.object.clone()),
            Self::Unidentified(_) | Self::Skipped => None,
        }
    }
}

/// Reads one document, which may be a list of objects.
pub(crate) fn read(piece: Piece<'_>, place: &Place) -> Vec<Item> {
    let node = match document::parse(piece.text, piece.line) {
        Ok(node) => node,
        Err(error) => {
            let message = format!("not YAML: {}", error.message);
            let fault = fault(place, (Code::NotYaml, error.line), &message, "correct the document");
            return vec![Item {
                line: error.line,
                outcome: Outcome::Unidentified(Box::new(fault)),
                note: None,
            }];
        }
    };
    if node.value == Value::Null {
        return Vec::new();
    }
    if let Some(items) = node.list() {
        let mut place = place.clone();
        let each = items.iter().map(|item| {
            let read = read_node(item, &place);
            place.order.index += 1;
            read
        });
        return each.collect();
    }
    vec![read_node(&node, place)]
}

/// The valid objects of a text, for those who have no folder.
pub fn objects(text: &str) -> Vec<Arc<Object>> {
    let place = Place { file: "".into(), order: Order::default() };
    let pieces = document::split(text).unwrap_or_default();
    let items = pieces.into_iter().flat_map(|piece| read(piece, &place));
    let valid = items.filter_map(|item| match item.outcome {
        Outcome::Valid(object) => Some(object),
        _ => None,
    });
    valid.collect()
}

/// What became of one object that somebody else has parsed.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// It, if it is valid and of a kind that is read.
    pub object: Option<Arc<Object>>,
    /// What is to be said of it.
    pub faults: Vec<Fault>,
}

/// Reads one object in JSON.
pub fn of_json(json: serde_json::Value) -> Read {
    let place = Place { file: "".into(), order: Order::default() };
    let Item { outcome, note, .. } = read_node(&Node::from(json), &place);
    let (object, fault) = match outcome {
        Outcome::Valid(object) => (Some(object), None),
        Outcome::Bad(invalid) => (None, Some(invalid.fault)),
        Outcome::Unidentified(fault) => (None, Some(*fault)),
        Outcome::Tombstone(_) | Outcome::Skipped => (None, None),
    };
    Read { object, faults: fault.into_iter().chain(note).collect() }
}

/// Reads one object.
pub(crate) fn read_node(node: &Node, place: &Place) -> Item {
    let (outcome, note) = match identify(node, place) {
        Ok(Identified::Ours(kind)) => read_kind(kind, node, place),
        Ok(Identified::Skipped(note)) => (Outcome::Skipped, note),
        Err(fault) => (Outcome::Unidentified(fault), None),
    };
    Item { line: node.line, outcome, note }
}

/// What `apiVersion` and `kind` say.
enum Identified {
    Ours(Kind),
    Skipped(Option<Fault>),
}

fn identify(node: &Node, place: &Place) -> Result<Identified, Box<Fault>> {
    if !matches!(node.value, Value::Map(_)) {
        let mend = "write apiVersion, kind and metadata";
        let message = "a document that is no object";
        return Err(Box::new(fault(place, (Code::NotAnObject, node.line), message, mend)));
    }
    let required = |key: &str| {
        node.get(key).and_then(Node::text).filter(|text| !text.is_empty()).ok_or_else(|| {
            let line = node.get(key).map_or(node.line, |value| value.line);
            let message = format!("{key} is missing or no text");
            let mend = format!("write the object's {key}");
            Box::new(fault(place, (Code::NotAnObject, line), &message, &mend))
        })
    };
    let (api_version, name) = (required("apiVersion")?, required("kind")?);
    let Some(kind) = Kind::find(api_version, name) else {
        return Ok(Identified::Skipped(Some(unknown_kind(node, place, api_version, name))));
    };
    if kind.standing() == Standing::Ignored {
        return Ok(Identified::Skipped(None));
    }
    if kind == Kind::ConfigMap && !is_mesh_config(node) {
        return Ok(Identified::Skipped(None));
    }
    Ok(Identified::Ours(kind))
}

fn is_mesh_config(node: &Node) -> bool {
    let text = |key| node.at(&["metadata", key]).and_then(Node::text);
    text("name") == Some(mesh_config::NAME) && text("namespace") == Some(mesh_config::NAMESPACE)
}

fn unknown_kind(node: &Node, place: &Place, api_version: &str, name: &str) -> Fault {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let groups = Kind::groups_with(name);
    let mend = if let Some(group) = groups.first() {
        let shown = if group.is_empty() { "v1".to_owned() } else { format!("{group}/…") };
        format!("did you mean apiVersion {shown:?}?")
    } else if let Some(near) = document::suggest(name, Kind::names()) {
        format!("did you mean {near:?}?")
    } else {
        "remove it, or leave it if another program reads it".to_owned()
    };
    let line = node.get("kind").map_or(node.line, |value| value.line);
    let message = format!("unknown kind {name:?} of apiVersion {api_version:?}");
    let mut fault = fault(place, (Code::UnknownKind, line), &message, &mend);
    let ours = MESH_GROUPS.contains(&group) || !groups.is_empty();
    fault.severity = if ours { Severity::Error } else { Severity::Warning };
    fault.effect = Effect::Skipped;
    fault
}

fn read_kind(kind: Kind, node: &Node, place: &Place) -> (Outcome, Option<Fault>) {
    let header = match header::read(kind, node, &place.order) {
        Ok(header) => header,
        Err(wrong) => {
            let (object, error) = *wrong;
            let fault = decode_fault(place, object.clone(), error);
            return match object {
                Some(object) => (bad(object, fault, node), None),
                None => (Outcome::Unidentified(Box::new(fault)), None),
            };
        }
    };
    let object = ObjectRef::new(kind, &header.meta.namespace, &header.meta.name);
    if header.deleted {
        return (Outcome::Tombstone(object), None);
    }
    let unobeyed = unobeyed::advice(kind).map(|advice| {
        let message = "this kind is known, but nothing enforces it yet";
        let mut note = fault(place, (advice.code, node.line), message, advice.mend);
        note.object = Some(object.clone());
        note.severity = advice.severity;
        note
    });
    match body::read(kind, header.meta, node) {
        Ok(made) => {
            let note = unobeyed.or_else(|| unused(&made, node.line, place));
            (Outcome::Valid(Arc::new(made)), note)
        }
        Err(error) => {
            let fault = decode_fault(place, Some(object.clone()), error);
            (bad(object, fault, node), unobeyed)
        }
    }
}

/// What the mesh configuration says to no effect.
fn unused(object: &Object, line: u32, place: &Place) -> Option<Fault> {
    let Object::MeshConfig(mesh) = object else { return None };
    let fields = mesh.spec.unused();
    if fields.is_empty() {
        return None;
    }
    let message = format!("nothing uses {}", fields.join(", "));
    let mut note = fault(place, (Code::MeshFieldUnused, line), &message, "the other fields count");
    note.object = Some(object.reference());
    note.field = Some(format!("data.{}", mesh_config::KEY));
    note.severity = Severity::Note;
    Some(note)
}

fn bad(object: ObjectRef, fault: Fault, node: &Node) -> Outcome {
    let labels = node.at(&["metadata", "labels"]).and_then(texts).unwrap_or_default();
    Outcome::Bad(Box::new(InvalidObject { object, fault, names: names(node), labels }))
}

/// What a broken policy names, by what can still be read of it. A selector that cannot be read names the whole namespace.
fn names(node: &Node) -> Names {
    let Some(spec) = node.get("spec") else {
        return Names::Namespace;
    };
    let targets = spec.get("targetRefs").or_else(|| spec.get("targetRef"));
    if let Some(targets) = targets {
        let list = document::decode(targets).or_else(|_| document::decode(targets).map(|one| vec![one]));
        return list.map_or(Names::Namespace, Names::Targets);
    }
    match spec.at(&["selector", "matchLabels"]).and_then(texts) {
        Some(labels) if !labels.is_empty() => Names::Workloads(labels),
        _ => Names::Namespace,
    }
}

fn texts(node: &Node) -> Option<BTreeMap<String, String>> {
    document::decode(node).ok()
}

fn decode_fault(place: &Place, object: Option<ObjectRef>, error: DecodeError) -> Fault {
    let field = error.field();
    let mend = if error.mend.is_empty() { "correct the field" } else { &error.mend };
    let mut fault = fault(place, (error.code, error.line), &error.message, mend);
    fault.object = object;
    fault.field = (!field.is_empty()).then_some(field);
    fault
}

fn fault(place: &Place, (code, line): (Code, u32), message: &str, mend: &str) -> Fault {
    Fault {
        code,
        file: place.file.to_string(),
        line,
        object: None,
        field: None,
        message: message.to_owned(),
        mend: mend.to_owned(),
        effect: Effect::None,
        severity: Severity::Error,
    }
}

#[cfg(test)]
pub(crate) mod tests;
