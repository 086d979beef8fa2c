//! What every object has: its name, labels, annotations and age.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// Labels or annotations.
pub type Map = BTreeMap<String, String>;

/// The part every object has in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Name.
    pub name: String,
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Unique ID; a stable hash of kind, namespace and name where none is written.
    pub uid: String,
    /// Labels.
    pub labels: Map,
    /// Annotations, with what was written back laid over them.
    pub annotations: Map,
    /// When it was created, relative to others.
    pub creation: Order,
    /// Generation of its spec; 0 when unknown.
    pub generation: i64,
    /// When its deletion was requested, if it was.
    pub deletion: Option<String>,
    /// The controlling owner, else the first one.
    pub owner: Option<Owner>,
}

/// A place in the order of creation: smaller is older.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    /// Place of the directory in the list, or seconds of the creation timestamp.
    pub rank: u64,
    /// File name; empty where time alone decides.
    pub file: Arc<str>,
    /// Place of the document in its file.
    pub index: u32,
}

/// Who an object belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Owner {
    /// Kind, as written.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Unique ID.
    pub uid: String,
    /// Whether it is the one that controls the object.
    pub controller: bool,
}

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Labels an object must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must be equal.
    pub match_labels: Map,
    /// Further requirements.
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// With what.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelOperator {
    /// Present with one of the values.
    In,
    /// Absent, or with none of the values.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl ObjectRef {
    /// Names an object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl ObjectMeta {
    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether its deletion was requested.
    pub fn is_terminating(&self) -> bool {
        self.deletion.is_some()
    }
}

impl LabelSelector {
    /// Whether an object with these labels is selected; an empty selector selects everything.
    pub fn matches(&self, labels: &Map) -> bool {
        selects(&self.match_labels, labels) && self.match_expressions.iter().all(|one| one.matches(labels))
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &Map) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// Whether an object with these labels has all of the wanted ones; no wanted label means every object.
pub fn selects(wanted: &Map, labels: &Map) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_reference_reads_like_a_sentence() {
        assert_eq!(ObjectRef::new(Kind::Pod, "shop", "web-1").to_string(), "Pod shop/web-1");
        assert_eq!(ObjectRef::new(Kind::Node, "", "n1").to_string(), "Node n1");
    }

    #[test]
    fn selectors_ask_for_all_labels_and_expressions() {
        let labels = map(&[("app", "web"), ("tier", "front")]);
        assert!(selects(&map(&[]), &labels));
        assert!(selects(&map(&[("app", "web")]), &labels));
        assert!(!selects(&map(&[("app", "web"), ("version", "v1")]), &labels));
        let table = [
            (LabelOperator::In, "app", vec!["web", "api"], true),
            (LabelOperator::In, "app", vec!["api"], false),
            (LabelOperator::In, "zone", vec!["a"], false),
            (LabelOperator::NotIn, "app", vec!["web"], false),
            (LabelOperator::NotIn, "zone", vec!["a"], true),
            (LabelOperator::Exists, "tier", vec![], true),
            (LabelOperator::Exists, "zone", vec![], false),
            (LabelOperator::DoesNotExist, "zone", vec![], true),
            (LabelOperator::DoesNotExist, "tier", vec![], false),
        ];
        for (operator, key, values, expected) in table {
            let values = values.into_iter().map(str::to_owned).collect();
            let one = LabelRequirement { key: key.to_owned(), operator, values };
            let selector =
                LabelSelector { match_labels: map(&[("app", "web")]), match_expressions: vec![one] };
            assert_eq!(selector.matches(&labels), expected, "{key} {operator:?}");
        }
    }
}
