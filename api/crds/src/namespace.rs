//! Namespace: a name and labels.

use crate::meta::ObjectMeta;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
}
