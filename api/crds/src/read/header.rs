//! `apiVersion` and `metadata`: the same for every kind.

use serde::Deserialize;

use crate::code::Code;
use crate::document::{self, DecodeError, Node};
use crate::kind::{Kind, Placement};
use crate::meta::{Map, ObjectMeta, ObjectRef, Order, Owner};

/// The annotation by which a later folder takes an object away.
pub const DELETED: &str = "ambit.mesh/deleted";

/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// Metadata, and whether the object is to be taken away.
pub(super) struct Header {
    pub(super) meta: ObjectMeta,
    pub(super) deleted: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMeta {
    name: String,
    namespace: String,
    uid: String,
    labels: Map,
    annotations: Map,
    generation: i64,
    deletion_timestamp: Option<String>,
    owner_references: Vec<Owner>,
}

/// An error, with the object's name if that much could be read.
type HeaderError = Box<(Option<ObjectRef>, DecodeError)>;

pub(super) fn read(kind: Kind, node: &Node, order: &Order) -> Result<Header, HeaderError> {
    let object = identify(kind, node).map_err(|error| Box::new((None, error)))?;
    let known = |error| Box::new((Some(object.clone()), error));
    check_version(kind, node).map_err(known)?;
    let metadata = node.get("metadata").expect("identify has read its name");
    let raw: RawMeta =
        document::decode(metadata).map_err(|error| known(error.under("metadata", metadata.line)))?;
    let uid = if raw.uid.is_empty() { stable_uid(&object) } else { raw.uid };
    let deleted = raw.annotations.get(DELETED).is_some_and(|value| value == "true");
    let owner =
        raw.owner_references.iter().find(|owner| owner.controller).or(raw.owner_references.first()).cloned();
    let meta = ObjectMeta {
        name: object.name.clone(),
        namespace: object.namespace.clone(),
        uid,
        labels: raw.labels,
        annotations: raw.annotations,
        creation: order.clone(),
        generation: raw.generation,
        deletion: raw.deletion_timestamp,
        owner,
    };
    Ok(Header { meta, deleted })
}

fn identify(kind: Kind, node: &Node) -> Result<ObjectRef, DecodeError> {
    let metadata = node.get("metadata").ok_or_else(|| {
        error(node, "metadata", "it is missing; write metadata.name").coded(Code::NotAnObject)
    })?;
    let text = |key: &str| match metadata.get(key) {
        None => Ok(""),
        Some(value) if value.value == document::Value::Null => Ok(""),
        Some(value) => value.text().ok_or_else(|| {
            let error = error(value, key, "wrong type; put it in quotes").coded(Code::WrongType);
            error.under("metadata", value.line)
        }),
    };
    let (name, namespace) = (text("name")?, text("namespace")?);
    let wrong = |key: &str, what: &str| {
        let error = error(metadata.get(key).unwrap_or(metadata), key, what).coded(Code::BadName);
        error.under("metadata", metadata.line)
    };
    if !is_name(name, 253, true) {
        return Err(wrong(
            "name",
            match name {
                "" => "it is missing; write the object's name",
                _ => "not a name; write lower-case letters, digits, - and .",
            },
        ));
    }
    if kind.placement() == Placement::Cluster {
        return Ok(ObjectRef::new(kind, "", name));
    }
    if namespace.is_empty() {
        return Ok(ObjectRef::new(kind, DEFAULT_NAMESPACE, name));
    }
    if !is_name(namespace, 63, false) {
        return Err(wrong("namespace", "not a namespace; write lower-case letters, digits and -"));
    }
    Ok(ObjectRef::new(kind, namespace, name))
}

fn check_version(kind: Kind, node: &Node) -> Result<(), DecodeError> {
    let Some(api_version) = node.get("apiVersion") else {
        return Ok(());
    };
    let text = api_version.text().unwrap_or_default();
    let version = text.rsplit_once('/').map_or(text, |(_, version)| version);
    let known = kind.versions();
    if known.is_empty() || known.contains(&version) {
        return Ok(());
    }
    let sentence = format!("version {version:?} of {kind} is not read; write {}", known.join(" or "));
    Err(error(api_version, "apiVersion", &sentence).coded(Code::UnknownVersion))
}

/// Names become parts of host names and of file names: nothing but what Kubernetes allows gets in.
fn is_name(text: &str, longest: usize, dots: bool) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty()
        && text.len() <= longest
        && text.chars().all(inner)
        && text.starts_with(edge)
        && text.ends_with(edge)
}

fn error(node: &Node, field: &str, sentence: &str) -> DecodeError {
    <DecodeError as serde::de::Error>::custom(sentence).under(field, node.line)
}

/// A UID for objects that have none: the same on every machine and after every restart.
fn stable_uid(object: &ObjectRef) -> String {
    let text = format!("{}/{}/{}", object.kind.id(), object.namespace, object.name);
    let (high, low) = (fnv(0xcbf2_9ce4_8422_2325, &text), fnv(0x8422_2325_cbf2_9ce4, &text));
    let bytes = (u128::from(high) << 64) | u128::from(low);
    format!(
        "{:08x}-{:04x}-8{:03x}-8{:03x}-{:012x}",
        bytes >> 96,
        (bytes >> 80) & 0xffff,
        (bytes >> 64) & 0xfff,
        (bytes >> 48) & 0xfff,
        bytes & 0xffff_ffff_ffff
    )
}

/// FNV-1a from a given start.
fn fnv(start: u64, text: &str) -> u64 {
    text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
