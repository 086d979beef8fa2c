//! Who may have which certificate. Pure: a table of who asks, what for, and which pods exist.
//!
//! A node proxy gets certificates for service accounts of live pods on its own node, but never a waypoint's. A waypoint gets
//! its own, by the token of its own pod (policy.md rules 1 and 2). An application's own token gets nothing: in an ambient
//! mesh a pod's key never leaves its node's proxy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ambit_api::identity::{Identity, TrustDomain};

use super::pods::{Phase, PodFact, Pods};
use super::tokens::{Account, Caller};
use crate::xds::Audience;

/// Proof that a caller is a node proxy, on a node that we know for certain. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProxy {
    node: String,
    pod: String,
}

/// Proof that a caller is a replica of an accepted waypoint. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaypointProxy {
    gateway: Arc<str>,
    account: Account,
    node: String,
    pod: String,
}

/// A caller that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// A node's.
    Node(NodeProxy),
    /// A waypoint's.
    Waypoint(WaypointProxy),
}

/// The accepted waypoints: `namespace/name` of the Gateway by the service account that is made for it.
pub type Waypoints = HashMap<Account, Arc<str>>;

/// The service accounts that exist and that we made for Gateways.
pub type Made = HashSet<Account>;

/// Proof that an identity may be signed for a caller. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    identity: Identity,
}

/// Why a caller gets nothing. The text is for our log; what the caller is told is [`Refused::public`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An application's token.
    #[error(
        "application tokens may not obtain mesh certificates or configuration: {account} is no trusted node account"
    )]
    Application {
        /// Whose token.
        account: Account,
    },
    /// The token's pod is not there.
    #[error("the token is bound to pod {namespace}/{pod}, which does not exist")]
    PodGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
    /// A pod of that name exists, but another one.
    #[error("the token is bound to pod {namespace}/{pod} with UID {claimed}, which was replaced by {found}")]
    PodReplaced {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// The token's UID.
        claimed: String,
        /// The living pod's UID.
        found: String,
    },
    /// The pod has ended.
    #[error("the token's pod {namespace}/{pod} has ended")]
    PodEnded {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
    /// The pod runs under another service account.
    #[error("the token is for {claimed}, but its pod runs as {found}")]
    OtherAccount {
        /// The token's.
        claimed: Account,
        /// The pod's.
        found: String,
    },
    /// Token or node metadata name another node than the pod's.
    #[error("the caller says it is on node {claimed:?}, but its pod runs on {found:?}")]
    OtherNode {
        /// What was said.
        claimed: String,
        /// Where the pod runs.
        found: String,
    },
    /// An account that a waypoint is to have, and that is somebody else's or not there yet.
    #[error("service account {account} is to be that of waypoint {gateway}, but we have not made it yet")]
    AccountNotMade {
        /// The account.
        account: Account,
        /// The Gateway, `namespace/name`.
        gateway: Arc<str>,
    },
    /// A waypoint's account, but another pod than a replica of it.
    #[error("pod {namespace}/{pod} has the account of waypoint {gateway}, but is none of its replicas")]
    NoReplica {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// The Gateway, `namespace/name`.
        gateway: Arc<str>,
    },
    /// A node asks for a waypoint's identity.
    #[error("{asked} is the identity of waypoint {gateway}, which no node may impersonate")]
    Impersonation {
        /// What was asked for.
        asked: Identity,
        /// The Gateway, `namespace/name`.
        gateway: Arc<str>,
    },
    /// A waypoint asks for somebody else's identity.
    #[error("waypoint {gateway} may have its own identity alone, not {asked}")]
    OtherIdentity {
        /// What was asked for.
        asked: Identity,
        /// The Gateway, `namespace/name`.
        gateway: Arc<str>,
    },
    /// Nothing was asked for.
    #[error("a node proxy must name the identity to impersonate")]
    NothingAsked,
    /// Another trust domain's.
    #[error("{asked} is not of our trust domain {ours}")]
    TrustDomain {
        /// What was asked for.
        asked: Identity,
        /// Ours.
        ours: TrustDomain,
    },
    /// No pod of that service account is on the node.
    #[error("no live pod of {asked} runs on the caller's node {node:?}")]
    NotOnNode {
        /// What was asked for.
        asked: Identity,
        /// The caller's node.
        node: String,
    },
}

/// What the rules need besides the caller.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Accounts of node proxies.
    pub trusted: &'a [Account],
    /// Accounts of waypoints.
    pub waypoints: &'a Waypoints,
    /// Those of them that exist, by our hand.
    pub made: &'a Made,
    /// Our trust domain.
    pub trust_domain: &'a TrustDomain,
    /// The pods.
    pub pods: &'a Pods,
}

impl Proxy {
    /// The node it runs on, from the pod itself.
    pub fn node(&self) -> &str {
        match self {
            Self::Node(proxy) => &proxy.node,
            Self::Waypoint(proxy) => &proxy.node,
        }
    }

    /// Its pod, `namespace/name`.
    pub fn pod(&self) -> &str {
        match self {
            Self::Node(proxy) => &proxy.pod,
            Self::Waypoint(proxy) => &proxy.pod,
        }
    }

    /// What it may ask for.
    pub fn audience(&self) -> Audience {
        match self {
            Self::Node(_) => Audience::Ztunnel,
            Self::Waypoint(proxy) => Audience::Waypoint(proxy.gateway.clone()),
        }
    }
}

impl Granted {
    /// What may be signed.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Refused {
    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Application { .. } => "application_token",
            Self::PodGone { .. } => "pod_gone",
            Self::PodReplaced { .. } => "pod_replaced",
            Self::PodEnded { .. } => "pod_ended",
            Self::OtherAccount { .. } => "other_account",
            Self::OtherNode { .. } => "other_node",
            Self::AccountNotMade { .. } => "account_not_made",
            Self::NoReplica { .. } => "no_replica",
            Self::Impersonation { .. } => "impersonation",
            Self::OtherIdentity { .. } => "other_identity",
            Self::NothingAsked => "nothing_asked",
            Self::TrustDomain { .. } => "trust_domain",
            Self::NotOnNode { .. } => "not_on_node",
        }
    }

    /// What the caller may read: enough to mend a set-up, nothing about pods it does not own.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Application { .. } | Self::AccountNotMade { .. } => {
                "this service account is no trusted node account"
            }
            Self::PodGone { .. } | Self::PodReplaced { .. } | Self::PodEnded { .. } => {
                "the pod this token is bound to does not exist any more, or not yet"
            }
            Self::OtherAccount { .. } | Self::OtherNode { .. } | Self::NoReplica { .. } => {
                "the token does not fit the pod it is bound to"
            }
            Self::NothingAsked => "no identity was asked for",
            Self::TrustDomain { .. } | Self::NotOnNode { .. } | Self::Impersonation { .. } => {
                "this identity may not be issued to this node (see the controller's log)"
            }
            Self::OtherIdentity { .. } => "a waypoint may have its own identity alone",
        }
    }
}

/// Who a caller is. `claimed_node` is what it says of itself outside the token, if anything.
pub fn proxy(caller: &Caller, claimed_node: Option<&str>, rules: Rules<'_>) -> Result<Proxy, Refused> {
    let named = || format!("{}/{}", caller.account.namespace, caller.pod.name);
    if rules.trusted.contains(&caller.account) {
        let pod = bound_pod(caller, claimed_node, rules)?;
        return Ok(Proxy::Node(NodeProxy { node: pod.node.clone(), pod: named() }));
    }
    let Some(gateway) = rules.waypoints.get(&caller.account) else {
        return Err(Refused::Application { account: caller.account.clone() });
    };
    if !rules.made.contains(&caller.account) {
        return Err(Refused::AccountNotMade { account: caller.account.clone(), gateway: gateway.clone() });
    }
    let pod = bound_pod(caller, claimed_node, rules)?;
    if pod.waypoint.as_ref().is_none_or(|name| **gateway != *format!("{}/{name}", pod.namespace)) {
        let (namespace, pod) = (pod.namespace.clone(), pod.name.clone());
        return Err(Refused::NoReplica { namespace, pod, gateway: gateway.clone() });
    }
    Ok(Proxy::Waypoint(WaypointProxy {
        gateway: gateway.clone(),
        account: caller.account.clone(),
        node: pod.node.clone(),
        pod: named(),
    }))
}

/// The living pod that a token is bound to.
fn bound_pod<'a>(
    caller: &Caller,
    claimed_node: Option<&str>,
    rules: Rules<'a>,
) -> Result<&'a PodFact, Refused> {
    let (namespace, pod) = (caller.account.namespace.clone(), caller.pod.name.clone());
    let Some(found) = rules.pods.get(&namespace, &pod) else {
        return Err(Refused::PodGone { namespace, pod });
    };
    if found.uid != caller.pod.uid {
        return Err(Refused::PodReplaced {
            namespace,
            pod,
            claimed: caller.pod.uid.clone(),
            found: found.uid.clone(),
        });
    }
    if found.phase == Phase::Terminal {
        return Err(Refused::PodEnded { namespace, pod });
    }
    if found.service_account != caller.account.name {
        return Err(Refused::OtherAccount {
            claimed: caller.account.clone(),
            found: found.service_account.clone(),
        });
    }
    for claimed in caller.node.as_deref().into_iter().chain(claimed_node) {
        if claimed != found.node || found.node.is_empty() {
            return Err(Refused::OtherNode { claimed: claimed.to_owned(), found: found.node.clone() });
        }
    }
    Ok(found)
}

/// Whether a proxy may have a certificate for `asked`.
pub fn certificate(proxy: &Proxy, asked: Option<&Identity>, rules: Rules<'_>) -> Result<Granted, Refused> {
    let asked = asked.ok_or(Refused::NothingAsked)?;
    if asked.trust_domain() != rules.trust_domain {
        return Err(Refused::TrustDomain { asked: asked.clone(), ours: rules.trust_domain.clone() });
    }
    match proxy {
        Proxy::Node(proxy) => impersonated(proxy, asked, rules)?,
        Proxy::Waypoint(proxy) => own(proxy, asked)?,
    }
    Ok(Granted { identity: asked.clone() })
}

/// A node proxy may stand for the pods of its node, except for waypoints: a node that is broken into must not become one.
fn impersonated(proxy: &NodeProxy, asked: &Identity, rules: Rules<'_>) -> Result<(), Refused> {
    let account =
        Account { namespace: asked.namespace().to_owned(), name: asked.service_account().to_owned() };
    if let Some(gateway) = rules.waypoints.get(&account) {
        return Err(Refused::Impersonation { asked: asked.clone(), gateway: gateway.clone() });
    }
    if proxy.node.is_empty() || rules.pods.running(&proxy.node, &account.namespace, &account.name) == 0 {
        return Err(Refused::NotOnNode { asked: asked.clone(), node: proxy.node.clone() });
    }
    Ok(())
}

fn own(proxy: &WaypointProxy, asked: &Identity) -> Result<(), Refused> {
    if asked.namespace() == proxy.account.namespace && asked.service_account() == proxy.account.name {
        return Ok(());
    }
    Err(Refused::OtherIdentity { asked: asked.clone(), gateway: proxy.gateway.clone() })
}

#[cfg(test)]
mod tests;
