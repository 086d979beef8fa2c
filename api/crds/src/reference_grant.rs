//! ReferenceGrant: who of other namespaces may refer to objects of its own.

use serde::Deserialize;

use crate::meta::ObjectMeta;

/// A ReferenceGrant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: ReferenceGrantSpec,
}

/// What a ReferenceGrant says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceGrantSpec {
    /// Whose references are good.
    pub from: Vec<GrantFrom>,
    /// What they may refer to.
    pub to: Vec<GrantTo>,
}

/// Whose references are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantFrom {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
}

/// What may be referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTo {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// One object; all of the kind where it is absent.
    #[serde(default)]
    pub name: Option<String>,
}

impl ReferenceGrant {
    /// Whether an object of `from` may refer to the object `name` of kind `to` in the grant's own namespace.
    pub fn permits(&self, from: &GrantFrom, to: &GrantTo) -> bool {
        let named = |grant: &GrantTo| grant.name.is_none() || grant.name == to.name;
        self.spec.from.contains(from)
            && self.spec.to.iter().any(|one| one.group == to.group && one.kind == to.kind && named(one))
    }
}
