//! ServiceAccount: the name behind an identity.

use crate::meta::ObjectMeta;

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
}
