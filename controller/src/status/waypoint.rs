//! Verdicts about Gateways, and about what they stand before.

use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Condition, ConditionStatus};

use super::{condition, no, yes};

/// What became of a Gateway of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GatewayOutcome {
    /// It is no waypoint: reason and sentence.
    Refused(&'static str, String),
    /// It is one, or a gateway.
    Accepted {
        role: Role,
        /// Where it is reached: its host name, then its addresses.
        addresses: Vec<String>,
        readiness: Ready,
        parameters: Parameters,
    },
}

/// Whether a Gateway refers to an object with further settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameters {
    None,
    /// It does, and nothing obeys that yet.
    Asked,
}

/// What an accepted Gateway is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It stands before Services and pods.
    Waypoint,
    /// It takes plain HTTP from anybody.
    Gateway,
}

/// How a waypoint's replicas are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Yes,
    /// Not yet.
    Never,
    /// For a moment: traffic still goes to it.
    NotNow,
    /// For so long that traffic no longer goes to it unless it must.
    Down,
}

/// What the label of a Service or a pod came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// `namespace/name` of the Gateway.
    pub(crate) gateway: String,
    pub(crate) how: How,
    pub(crate) canary: Option<Canary>,
}

/// Whether a waypoint stands before a Service or a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Led,
    /// It is not ready, and nothing but the label asks for it.
    Waiting,
    /// It is not ready, and something asks for it.
    Closed,
    Missing,
    Refused,
    NotAdmitted,
    OtherTraffic,
}

/// What became of the second waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// `namespace/name`, and its share of a hundred.
    Led(String, u32),
    InvalidWeight,
    SameAsPrimary,
    Unbound(String),
}

/// Conditions of a Gateway.
pub(crate) fn gateway(outcome: &GatewayOutcome) -> Vec<Condition> {
    match outcome {
        GatewayOutcome::Refused(reason, message) => {
            let programmed = no("Programmed", "Invalid", "nothing is deployed for it".to_owned());
            vec![no("Accepted", reason, message.clone()), programmed]
        }
        GatewayOutcome::Accepted { role, addresses, readiness, parameters } => {
            let (what, meanwhile) = match role {
                Role::Waypoint => ("it is a waypoint", "; traffic that needs no waypoint goes direct"),
                Role::Gateway => ("it is a gateway", ""),
            };
            let at = addresses.join(", ");
            let programmed = match readiness {
                Ready::Yes => yes("Programmed", "Programmed", format!("it serves at {at}")),
                Ready::Never => {
                    no("Programmed", "AddressNotUsable", format!("no replica has been ready yet{meanwhile}"))
                }
                Ready::NotNow => {
                    let message = format!("no replica is ready just now; traffic still goes to {at}");
                    no("Programmed", "AddressNotUsable", message)
                }
                Ready::Down => {
                    no("Programmed", "AddressNotUsable", format!("no replica is ready{meanwhile}"))
                }
            };
            let mut conditions = vec![yes("Accepted", "Accepted", what.to_owned()), programmed];
            if *parameters == Parameters::Asked {
                let message = "spec.infrastructure.parametersRef: nothing obeys it yet; labels and annotations of \
                               spec.infrastructure are obeyed, and what else is set on the Deployment stays";
                conditions.push(no("ambit.mesh/ParametersApplied", "NotYetEnforced", message.to_owned()));
            }
            conditions
        }
    }
}

/// Conditions of a listener. `fault` says what is wrong with it, `strange` which kind of routes it asks for in vain.
pub(crate) fn listener(
    fault: Option<(&'static str, String)>,
    strange: Option<String>,
    is_served: bool,
) -> Vec<Condition> {
    let resolved = match strange {
        None => yes("ResolvedRefs", "ResolvedRefs", "everything that it refers to is there".to_owned()),
        Some(kind) => {
            let message = format!("allowedRoutes.kinds: {kind} is not served; use HTTPRoute or GRPCRoute");
            no("ResolvedRefs", "InvalidRouteKinds", message)
        }
    };
    let calm = no("Conflicted", "NoConflicts", "no other listener is in its way".to_owned());
    if let Some((reason, message)) = fault {
        let programmed = no("Programmed", "Invalid", "nothing listens".to_owned());
        return vec![no("Accepted", reason, message), programmed, resolved, calm];
    }
    let programmed = match is_served {
        true => yes("Programmed", "Programmed", "it is served".to_owned()),
        false => no("Programmed", "Pending", "see the Gateway's own condition".to_owned()),
    };
    vec![yes("Accepted", "Accepted", "it is as its class asks".to_owned()), programmed, resolved, calm]
}

/// Conditions of a class whose Gateways are ours.
pub(crate) fn class() -> Vec<Condition> {
    vec![yes("Accepted", "Accepted", "Ambit serves Gateways of this class".to_owned())]
}

/// `WaypointBound` of a Service or a pod.
pub(crate) fn bound(object: &ObjectRef, bound: &Bound) -> Condition {
    const KIND: &str = "istio.io/WaypointBound";
    if let Some((reason, message)) = unbound(object, bound) {
        return no(KIND, reason, message);
    }
    let mut message = format!("bound to {}", bound.gateway);
    let reason = match &bound.canary {
        None => "WaypointAccepted",
        Some(Canary::Led(canary, share)) => {
            message.push_str(&format!(", and to {canary} with {share} of 100 connections"));
            "WaypointAccepted"
        }
        Some(Canary::InvalidWeight) => {
            message.push_str(" alone: the second waypoint's weight is not a number from 0 to 100");
            "CanaryInvalidWeight"
        }
        Some(Canary::SameAsPrimary) => {
            message.push_str(" alone: the second waypoint is the same");
            "CanarySameAsPrimary"
        }
        Some(Canary::Unbound(canary)) => {
            message.push_str(&format!(" alone: {canary} cannot be used yet"));
            "WaypointAccepted"
        }
    };
    condition(KIND, ConditionStatus::True, reason, message)
}

/// Why traffic does not go by the waypoint, if it does not.
fn unbound(object: &ObjectRef, bound: &Bound) -> Option<(&'static str, String)> {
    let gateway = &bound.gateway;
    let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
    let place = format!("{} {} -n {}", object.kind.name().to_lowercase(), object.name, object.namespace);
    Some(match bound.how {
        How::Led => return None,
        How::Waiting => {
            ("WaypointIsNotReady", format!("{gateway} is not ready; until it is, traffic goes direct"))
        }
        How::Closed => {
            let message = format!(
                "{gateway} is not ready, and what is asked for needs it; until it is, everyone is refused"
            );
            ("WaypointIsNotReady", message)
        }
        How::Missing => {
            let message = format!(
                "there is no waypoint {gateway}; kubectl apply a Gateway of that name with gatewayClassName ambit-waypoint \
                 and the listener {{name: mesh, port: 15008, protocol: HBONE}}, or kubectl label {place} \
                 istio.io/use-waypoint-"
            );
            ("WaypointIsNotReady", message)
        }
        How::Refused => ("WaypointIsNotReady", format!("Gateway {gateway} is not accepted; see its status")),
        How::NotAdmitted => {
            let message = format!(
                "Gateway {gateway} does not admit namespace {}; set allowedRoutes.namespaces of its listener",
                object.namespace
            );
            ("AttachmentDenied", message)
        }
        How::OtherTraffic => {
            let message = format!(
                "{gateway} serves no traffic of a {}; kubectl label gateway {name} -n {namespace} --overwrite \
                 istio.io/waypoint-for=all",
                object.kind
            );
            ("UnsupportedTrafficType", message)
        }
    })
}
