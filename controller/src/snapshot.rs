//! What the data plane is told: named, encoded, hashed resources. One snapshot per batch of changes, immutable and cheap to keep.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::ca::tokens::Account;

mod dump;

pub use dump::DumpError;

/// Type URL of `Address` resources.
pub const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";

/// Type URL of `Authorization` resources.
pub const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";

/// Type URL of a waypoint's `Gateway`.
pub const WAYPOINT_GATEWAY: &str = "type.googleapis.com/ambit.waypoint.Gateway";

/// Type URL of a waypoint's `Service` resources.
pub const WAYPOINT_SERVICE: &str = "type.googleapis.com/ambit.waypoint.Service";

/// Type URL of a waypoint's `Destination` resources.
pub const WAYPOINT_DESTINATION: &str = "type.googleapis.com/ambit.waypoint.Destination";

/// Type URL of a waypoint's `Workload` resources.
pub const WAYPOINT_WORKLOAD: &str = "type.googleapis.com/ambit.waypoint.Workload";

/// Type URL of a waypoint's `Policy` resources.
pub const WAYPOINT_POLICY: &str = "type.googleapis.com/ambit.waypoint.Policy";

/// One resource by name.
pub type Resources = OrdMap<Arc<str>, Arc<Resource>>;

/// One resource, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique name within its type: a workload's uid, `namespace/hostname`, `namespace/name`.
    pub name: Arc<str>,
    /// Hash of name, aliases and body: equal exactly when nothing changed.
    pub version: Arc<str>,
    /// Other names it may be asked for by (`network/ip`).
    pub aliases: Vec<String>,
    /// The encoded message, without its `Any` wrapping.
    pub body: Bytes,
}

/// Everything the data plane is told at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts up by one with every batch of changes.
    pub generation: u64,
    /// Counts the publications while a generation is told in steps ([`crate::staging`]); a translation leaves it at zero.
    pub step: u64,
    /// `istio.workload.Address`.
    pub addresses: Resources,
    /// `istio.security.Authorization`.
    pub authorizations: Resources,
    /// What each accepted waypoint is told, by `namespace/name` of its Gateway.
    pub waypoints: OrdMap<Arc<str>, Arc<WaypointResources>>,
}

/// What one waypoint is told besides the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaypointResources {
    /// The service account that we made for its Gateway: who shows it may ask for these, and is signed this identity.
    pub account: Account,
    /// `ambit.waypoint.Gateway`: one, its own.
    pub gateway: Resources,
    /// `ambit.waypoint.Service`.
    pub services: Resources,
    /// `ambit.waypoint.Destination`.
    pub destinations: Resources,
    /// `ambit.waypoint.Workload`.
    pub workloads: Resources,
    /// `ambit.waypoint.Policy`.
    pub policies: Resources,
}

/// A point in what proxies are told: steps within a generation count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The newest generation that is told in full.
    pub generation: u64,
    /// The publication.
    pub step: u64,
}

impl Snapshot {
    /// When it is told.
    pub fn moment(&self) -> Moment {
        Moment { generation: self.generation, step: self.step }
    }
}

impl WaypointResources {
    /// A waypoint of this account that is told nothing yet.
    pub fn new(account: Account) -> Self {
        let none = Resources::new;
        Self {
            account,
            gateway: none(),
            services: none(),
            destinations: none(),
            workloads: none(),
            policies: none(),
        }
    }
}

impl Resource {
    /// Makes a resource and computes its version.
    pub fn new(name: impl Into<Arc<str>>, aliases: Vec<String>, body: Bytes) -> Self {
        let name = name.into();
        let others = aliases.iter().map(String::as_bytes);
        let parts: Vec<&[u8]> = std::iter::once(name.as_bytes()).chain(others).chain([&body[..]]).collect();
        let version = digest(&parts).into();
        Self { name, version, aliases, body }
    }
}

/// 128 bits of FNV-1a over parts and their lengths, as hex. It must be stable across restarts and builds (a proxy that
/// reconnects names the versions it holds), and it guards against nobody.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(*part) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_depends_on_every_part_and_on_where_parts_end() {
        let one = Resource::new("a", vec!["b".into()], Bytes::from_static(b"c"));
        assert_eq!(one, Resource::new("a", vec!["b".into()], Bytes::from_static(b"c")));
        for other in [
            Resource::new("A", vec!["b".into()], Bytes::from_static(b"c")),
            Resource::new("a", vec![], Bytes::from_static(b"c")),
            Resource::new("a", vec!["bc".into()], Bytes::new()),
            Resource::new("a", vec!["b".into()], Bytes::from_static(b"d")),
        ] {
            assert_ne!(one.version, other.version, "{other:?}");
        }
    }
}
