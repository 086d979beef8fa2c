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
    },
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

/// What a Service's label came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// `namespace/name` of the Gateway.
    pub(crate) gateway: String,
    pub(crate) how: How,
    pub(crate) canary: Option<Canary>,
}

/// Whether a waypoint stands before a Service.
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
        GatewayOutcome::Accepted { role, addresses, readiness } => {
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
            vec![yes("Accepted", "Accepted", what.to_owned()), programmed]
        }
    }
}

/// `WaypointBound` of a Service.
pub(crate) fn bound(object: &ObjectRef, bound: &Bound) -> Condition {
    const KIND: &str = "istio.io/WaypointBound";
    let gateway = &bound.gateway;
    let refused = |reason, message: String| no(KIND, reason, message);
    let (reason, mut message) = match bound.how {
        How::Led => ("WaypointAccepted", format!("bound to {gateway}")),
        How::Waiting => {
            let message = format!("{gateway} is not ready; until it is, traffic goes direct");
            return refused("WaypointIsNotReady", message);
        }
        How::Closed => {
            let message = format!(
                "{gateway} is not ready, and what is asked for needs it; until it is, everyone is refused"
            );
            return refused("WaypointIsNotReady", message);
        }
        How::Missing => {
            let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
            let message = format!(
                "there is no waypoint {gateway}; ambit waypoint apply -n {namespace} --name {name}, or kubectl label service {} \
                 -n {} istio.io/use-waypoint-",
                object.name, object.namespace
            );
            return refused("WaypointIsNotReady", message);
        }
        How::Refused => {
            return refused(
                "WaypointIsNotReady",
                format!("Gateway {gateway} is not accepted; see its status"),
            );
        }
        How::NotAdmitted => {
            let message = format!(
                "Gateway {gateway} does not admit namespace {}; set allowedRoutes.namespaces of its listener",
                object.namespace
            );
            return refused("AttachmentDenied", message);
        }
        How::OtherTraffic => {
            let message = format!(
                "{gateway} does not serve Services; kubectl label gateway istio.io/waypoint-for=service"
            );
            return refused("UnsupportedTrafficType", message);
        }
    };
    let reason = match &bound.canary {
        None => reason,
        Some(Canary::Led(canary, share)) => {
            message.push_str(&format!(", and to {canary} with {share} of 100 connections"));
            reason
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
            reason
        }
    };
    condition(KIND, ConditionStatus::True, reason, message)
}
