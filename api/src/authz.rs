//! Layer-4 authorization: which policies apply, and whether they let a connection in. Pure; l4-protocols §6.
//!
//! The same evaluation decides, explains a denial, and re-judges open connections when policies change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::identity::Identity;
use crate::policy::{Policy, PolicyKey};
use crate::reason::Reason;

/// What a connection is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The peer's identity from its certificate; `None` for plaintext.
    pub peer: Option<Identity>,
    /// The TCP peer's address.
    pub source: IpAddr,
    /// The pod's address and the application's port.
    pub destination: SocketAddr,
}

/// The policies that apply to one workload: its namespace's, the mesh's, and those it lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// The policies, in no particular order.
    pub policies: Vec<Arc<Policy>>,
    /// Policies the workload names that have not arrived.
    pub missing: Vec<PolicyKey>,
}

/// Proof that a connection was judged and may go on. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    attributes: Attributes,
    by: Option<PolicyKey>,
}

/// A refusal, with what a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explain())]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// The DENY policy that matched, the policy that is missing, or the nearest ALLOW.
    pub policy: Option<PolicyKey>,
    /// The rule of that policy (0-based): the one that matched, or the one that came nearest.
    pub rule: Option<usize>,
    /// The first attribute of that rule that did not match, by its Kubernetes name (for example `principals`).
    pub attribute: Option<&'static str>,
}

/// What dry-run policies would have done, for counters and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// The policy.
    pub policy: PolicyKey,
    /// Whether it matched.
    pub matched: bool,
}

impl Attributes {
    /// The application's port.
    pub fn port(&self) -> u16 {
        self.destination.port()
    }
}

impl Permit {
    /// What was judged.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The ALLOW policy that let it in; `None` when no ALLOW policy applies.
    pub fn by(&self) -> Option<&PolicyKey> {
        self.by.as_ref()
    }
}

impl Denied {
    /// One line for logs: layer, policy, rule and the attribute that failed.
    pub fn explain(&self) -> String {
        format!("{}", self.reason)
    }
}
