//! What becomes of a request, given what a waypoint knows: the decisions that the data plane takes and `ambit explain`
//! repeats, in the order of policy.md rule 5.

use std::sync::Arc;

use super::{Gateway, Lock, Policy, Service, Workload};
use crate::authz::http::{self, Facts, Judged, Set};
use crate::authz::{Denied, Layer};
use crate::policy::PolicyKey;
use crate::reason::Reason;
use crate::route::{HttpTable, Matched, Request};
use crate::service::ServiceKey;
use crate::workload::Uid;

/// What a waypoint knows at one moment.
pub trait Snapshot {
    /// Its own settings, once they have arrived.
    fn gateway(&self) -> Option<&Arc<Gateway>>;

    /// A service it stands before.
    fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>>;

    /// A pod.
    fn workload(&self, uid: &Uid) -> Option<&Arc<Workload>>;

    /// A policy.
    fn policy(&self, key: &PolicyKey) -> Option<&Arc<Policy>>;
}

/// What was dialled.
#[derive(Clone, Copy, Debug)]
pub enum Dialled<'a> {
    /// A service, on one of its ports.
    Service {
        /// The service.
        service: &'a Service,
        /// Its port.
        port: u16,
    },
    /// A pod's own address.
    Pod,
}

/// A request that may go on, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed<'t> {
    /// The rule.
    pub matched: Matched<'t>,
    /// That T allows it.
    pub permit: http::Permit,
}

/// Why a request goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A policy forbids it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// No rule takes it.
    #[error("no route matches")]
    NoRoute,
}

impl Refused {
    /// The reason, as metrics and answers carry it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Denied(denied) => denied.reason,
            Self::NoRoute => Reason::NoRoute,
        }
    }
}

/// The first decision on a request: its rule in `table`, and T. `facts` tell the address and port dialled, and the
/// request as received and normalised. Who may not call learns nothing about routes.
pub fn request<'t>(
    snapshot: &(impl Snapshot + ?Sized),
    dialled: Dialled<'_>,
    table: &'t HttpTable,
    asked: &Request<'_>,
    facts: &Facts<'_>,
) -> Result<Routed<'t>, Refused> {
    let matched = table.find(asked);
    let permit = target(snapshot, dialled, facts)?;
    Ok(Routed { matched: matched.ok_or(Refused::NoRoute)?, permit })
}

/// T: the policies of the gateway and of the service dialled. For connections as for requests.
pub fn target(
    snapshot: &(impl Snapshot + ?Sized),
    dialled: Dialled<'_>,
    facts: &Facts<'_>,
) -> Result<http::Permit, Denied> {
    http::decide(&target_set(snapshot, dialled)?, facts, Judged::Target)
}

/// S of the pod a request is sent to (rule 4), and T of every service that locks the port (rule 6). `facts` tell the
/// pod's address and port, and the request as the pod will receive it.
pub fn endpoint(
    snapshot: &(impl Snapshot + ?Sized),
    dialled: Dialled<'_>,
    uid: &Uid,
    facts: &Facts<'_>,
) -> Result<http::Permit, Denied> {
    let workload = snapshot.workload(uid).ok_or_else(|| http::unknown(Layer::Endpoint, None))?;
    let permit =
        http::decide(&endpoint_set(snapshot, workload), facts, Judged::Endpoint(&workload.port_aliases))?;
    for lock in &workload.locks {
        if lock.port.is_none_or(|port| port == facts.destination.port()) {
            locked(snapshot, dialled, lock, facts)?;
        }
    }
    Ok(permit)
}

/// One lock. A request that came through the service itself, on one of the ports that lead here, has been judged.
fn locked(
    snapshot: &(impl Snapshot + ?Sized),
    dialled: Dialled<'_>,
    lock: &Lock,
    facts: &Facts<'_>,
) -> Result<(), Denied> {
    if let Dialled::Service { service, port } = dialled
        && service.key == lock.service
        && lock.service_ports.contains(&port)
    {
        return Ok(());
    }
    let set = Set::new(&lock.policies, |key| snapshot.policy(key).map(|policy| &**policy));
    // Which of these ports the client would have dialled is not known, so every one of them has to be allowed.
    for port in &lock.service_ports {
        http::decide(&set, facts, Judged::Lock { port: *port })?;
    }
    if lock.service_ports.is_empty() {
        http::decide(&set, facts, Judged::Lock { port: facts.destination.port() })?;
    }
    Ok(())
}

/// The policies of T. Without the gateway's own resource nobody knows what T(gw) says.
pub fn target_set<'s>(
    snapshot: &'s (impl Snapshot + ?Sized),
    dialled: Dialled<'s>,
) -> Result<Set<'s, impl Fn(&PolicyKey) -> Option<&'s Policy>>, Denied> {
    let gateway = snapshot.gateway().ok_or_else(|| http::unknown(Layer::Target, None))?;
    let service: &[PolicyKey] = match dialled {
        Dialled::Service { service, .. } => &service.policies,
        Dialled::Pod => &[],
    };
    Ok(Set::new(service, |key: &PolicyKey| snapshot.policy(key).map(|policy| &**policy))
        .and(&gateway.policies))
}

/// The policies of S.
pub fn endpoint_set<'s>(
    snapshot: &'s (impl Snapshot + ?Sized),
    workload: &'s Workload,
) -> Set<'s, impl Fn(&PolicyKey) -> Option<&'s Policy>> {
    Set::new(&workload.policies, |key: &PolicyKey| snapshot.policy(key).map(|policy| &**policy))
}
