//! Telling proxies: delta xDS. [`session`] decides what one stream is sent (pure), [`server`] does the I/O.

pub mod metrics;
pub mod pass;
pub mod server;
pub mod session;
pub mod syncz;

use std::fmt;
use std::sync::Arc;

use crate::snapshot::{
    ADDRESS, AUTHORIZATION, Resources, Snapshot, WAYPOINT_DESTINATION, WAYPOINT_GATEWAY, WAYPOINT_POLICY,
    WAYPOINT_SERVICE, WAYPOINT_WORKLOAD,
};

/// The types we serve. Their order is the order of a pass: each names resources of those before it, so additions go out in
/// this order and removals in the opposite one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `istio.security.Authorization`.
    Authorization,
    /// `ambit.waypoint.Policy`.
    Policy,
    /// `ambit.waypoint.Workload`.
    Workload,
    /// `istio.workload.Address`.
    Address,
    /// `ambit.waypoint.Destination`.
    Destination,
    /// `ambit.waypoint.Service`.
    Service,
    /// `ambit.waypoint.Gateway`.
    Gateway,
}

/// Whose stream it is: what it may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Audience {
    /// A node's proxy: everything a ztunnel understands.
    #[default]
    Ztunnel,
    /// A waypoint, by `namespace/name` of its Gateway: all addresses, and what concerns its gateway.
    Waypoint(Arc<str>),
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Authorization,
        Self::Policy,
        Self::Workload,
        Self::Address,
        Self::Destination,
        Self::Service,
        Self::Gateway,
    ];

    /// Its type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Authorization => AUTHORIZATION,
            Self::Policy => WAYPOINT_POLICY,
            Self::Workload => WAYPOINT_WORKLOAD,
            Self::Address => ADDRESS,
            Self::Destination => WAYPOINT_DESTINATION,
            Self::Service => WAYPOINT_SERVICE,
            Self::Gateway => WAYPOINT_GATEWAY,
        }
    }

    /// The kind of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// A short name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authorization => "Authorization",
            Self::Policy => "waypoint.Policy",
            Self::Workload => "waypoint.Workload",
            Self::Address => "Address",
            Self::Destination => "waypoint.Destination",
            Self::Service => "waypoint.Service",
            Self::Gateway => "waypoint.Gateway",
        }
    }
}

impl Audience {
    /// What is told to it, or nothing: a kind that is not for it, or a waypoint that is not accepted (any more).
    pub fn resources<'a>(&self, kind: Kind, snapshot: &'a Snapshot) -> Option<&'a Resources> {
        match (self, kind) {
            (Self::Ztunnel, Kind::Authorization) => Some(&snapshot.authorizations),
            (Self::Ztunnel, Kind::Address) => Some(&snapshot.addresses),
            (Self::Ztunnel, _) | (Self::Waypoint(_), Kind::Authorization) => None,
            (Self::Waypoint(gateway), kind) => {
                let own = snapshot.waypoints.get(gateway)?;
                Some(match kind {
                    Kind::Address => &snapshot.addresses,
                    Kind::Policy => &own.policies,
                    Kind::Workload => &own.workloads,
                    Kind::Destination => &own.destinations,
                    Kind::Service => &own.services,
                    Kind::Gateway | Kind::Authorization => &own.gateway,
                })
            }
        }
    }

    /// Whether a kind is for it at all.
    pub fn may_ask(&self, kind: Kind) -> bool {
        match self {
            Self::Ztunnel => matches!(kind, Kind::Authorization | Kind::Address),
            Self::Waypoint(_) => kind != Kind::Authorization,
        }
    }

    /// The kinds that protect the others: nothing else is sent to a stream that does not ask for them too.
    pub fn guards(&self) -> &'static [Kind] {
        match self {
            Self::Ztunnel => &[Kind::Authorization],
            Self::Waypoint(_) => &[Kind::Policy, Kind::Workload],
        }
    }

    /// Whether there is anything for it in a snapshot: a waypoint's Gateway may be gone.
    pub fn is_in(&self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Ztunnel => true,
            Self::Waypoint(gateway) => snapshot.waypoints.contains_key(gateway),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
