//! Manifests: multi-document YAML into objects with a key and a place, bad documents reported one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Annotation by which a live layer removes an object of the layers below.
pub const DELETED: &str = "ambit.mesh/deleted";

const CLUSTER_SCOPED: &[&str] = &[
    "Namespace",
    "Node",
    "GatewayClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "PersistentVolume",
];

/// Kind, namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind as written.
    pub kind: String,
    /// Namespace; `default` when none is written.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        let namespace = if CLUSTER_SCOPED.contains(&kind) { "" } else { namespace };
        Key { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Name of the file that holds this object alone.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.{}.{}.yaml", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(formatter, "{} {}", self.kind, self.name),
            namespace => write!(formatter, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Which object.
    pub key: Key,
    /// The whole document.
    pub value: Value,
    /// File and line it came from.
    pub place: Place,
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// File, or a word for what was given in line.
    pub file: PathBuf,
    /// First line.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file.display(), self.line)
    }
}

/// Something in a manifest that the lab cannot use; everything else is applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

impl Document {
    /// Value at a path of field names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Value> {
        at(&self.value, path)
    }

    /// Whether this document removes its object.
    pub(crate) fn removes(&self) -> bool {
        at(&self.value, &["metadata", "annotations", DELETED]).is_some_and(|value| value == "true")
    }
}

/// Value at a path of field names.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, field| value.get(field))
}

/// Text at a path of field names.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// A map of texts at a path of field names.
pub(crate) fn texts(value: &Value, path: &[&str]) -> BTreeMap<String, String> {
    let map = at(value, path).and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    map.into_iter().flatten().filter_map(pair).collect()
}

/// Reads every document of a text.
pub fn parse(file: &Path, text: &str) -> (Vec<Document>, Vec<Fault>) {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for (line, body) in split(text) {
        let place = Place { file: file.to_path_buf(), line };
        let blank = body.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if blank {
            continue;
        }
        match document(&body, &place) {
            Ok(mut found) => documents.append(&mut found),
            Err(message) => faults.push(Fault { place, message }),
        }
    }
    (documents, faults)
}

/// Reads every `.yaml`, `.yml` and `.json` file of a folder, by name.
pub fn parse_folder(folder: &Path) -> std::io::Result<(Vec<Document>, Vec<Fault>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            // Removed since the folder was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let (mut good, mut bad) = parse(&file, &text);
        documents.append(&mut good);
        faults.append(&mut bad);
    }
    Ok((documents, faults))
}

fn split(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            parts.push((index + 2, String::new()));
        } else if let Some((_line, body)) = parts.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    parts
}

fn document(body: &str, place: &Place) -> Result<Vec<Document>, String> {
    let value: Value = serde_saphyr::from_str(body).map_err(|error| format!("not YAML: {error}"))?;
    let items = value.get("items").and_then(Value::as_array);
    if let Some(items) =
        items.filter(|_items| text(&value, &["kind"]).is_some_and(|kind| kind.ends_with("List")))
    {
        return items.iter().map(|item| keyed(item.clone(), place)).collect();
    }
    Ok(vec![keyed(value, place)?])
}

fn keyed(mut value: Value, place: &Place) -> Result<Document, String> {
    let kind = text(&value, &["kind"]).ok_or("field kind is missing")?.to_owned();
    let name = text(&value, &["metadata", "name"]).ok_or_else(|| {
        format!("{kind}: field metadata.name is missing or no text (quote words like no and on)")
    })?;
    let namespace = text(&value, &["metadata", "namespace"]).unwrap_or("default");
    let key = Key::new(&kind, namespace, name);
    if !key.namespace.is_empty() {
        value["metadata"]["namespace"] = Value::from(key.namespace.clone());
    }
    Ok(Document { key, value, place: place.clone() })
}

/// Writes a file so that a reader sees the old or the new one, never a part.
pub(crate) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::{Key, parse};
    use std::path::Path;

    #[test]
    fn a_bad_document_is_named_by_its_line_and_the_others_stand() {
        let text = "kind: Namespace\nmetadata: {name: a}\n---\nkind: [\n---\n# only words\n---\nkind: Pod\nmetadata: {name: p}\n---\nkind: Service\n";
        let (documents, faults) = parse(Path::new("x.yaml"), text);
        let keys: Vec<_> = documents.iter().map(|document| document.key.clone()).collect();
        assert_eq!(keys, [Key::new("Namespace", "", "a"), Key::new("Pod", "default", "p")]);
        let places: Vec<_> = faults.iter().map(|fault| fault.place.line).collect();
        assert_eq!(places, [4, 11]);
        assert!(faults[1].message.contains("metadata.name"), "{}", faults[1]);
    }
}
