//! Conditions in the forms that statuses have: what is there, and what has to be written for it to be right. Pure.

use serde_json::{Value, json};

use super::CONTROLLER_NAME;
use super::arrival::Face;
use crate::kind::Kind;
use crate::status::{Address, Condition, ConditionStatus, Details, ListenerStatus};

/// Types of conditions that are Ambit's to write, besides those that begin with one of [`OUR_PREFIXES`].
const OURS: [&str; 8] = [
    "Enforced",
    "ZtunnelAccepted",
    "WaypointAccepted",
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "ResolvedWaypoints",
    "Conflicted",
];
const OUR_PREFIXES: [&str; 2] = ["istio.io/", "ambit.mesh/"];

/// The longest message that Kubernetes takes.
const MAX_MESSAGE: usize = 32_768;

/// What a status says that may be ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    /// Conditions of the object.
    conditions: Vec<Value>,
    /// What every controller says about a route, by what it is attached to.
    parents: Vec<Value>,
    /// Of a Gateway.
    addresses: Vec<Value>,
    listeners: Vec<Value>,
}

/// A status that has to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// What is ours: conditions, to be merged with others by their type, and a Gateway's own fields.
    Status(Value),
    /// All parents of a route, others' included.
    Parents(Value),
}

impl Held {
    /// Takes what may be ours of a status.
    pub(super) fn new(kind: Kind, status: &Value) -> Self {
        let list = |field: &str| status[field].as_array().cloned().unwrap_or_default();
        if is_route(kind) {
            return Self { parents: list("parents"), ..Self::default() };
        }
        let conditions = list("conditions").into_iter().filter(|one| is_ours(&one["type"])).collect();
        let of_gateway = |field| if kind == Kind::Gateway { list(field) } else { Vec::new() };
        let (addresses, listeners) = (of_gateway("addresses"), of_gateway("listeners"));
        Self { conditions, addresses, listeners, ..Self::default() }
    }
}

/// Whether the status of this kind speaks of each parent by itself.
pub(super) fn is_route(kind: Kind) -> bool {
    matches!(kind, Kind::HttpRoute | Kind::GrpcRoute)
}

fn is_ours(kind: &Value) -> bool {
    let kind = kind.as_str().unwrap_or_default();
    OURS.contains(&kind) || OUR_PREFIXES.iter().any(|prefix| kind.starts_with(prefix))
}

/// What has to be written so that an object has these conditions and no others of ours, and a Gateway what else is said of it;
/// `None` when that is there already.
pub(super) fn plan(face: &Face, wanted: &[Condition], details: &Details, now: &str) -> Option<Write> {
    let held = &face.status;
    let are_same = same(&held.conditions, wanted);
    let Details::Gateway(gateway) = details else {
        return (!are_same)
            .then(|| Write::Status(json!({ "conditions": merged(&held.conditions, wanted, now) })));
    };
    let addresses: Vec<Value> = gateway.addresses.iter().map(address).collect();
    let listeners: Vec<Value> =
        gateway.listeners.iter().map(|one| listener(&held.listeners, one, now)).collect();
    if are_same && held.addresses == addresses && held.listeners == listeners {
        return None;
    }
    let conditions = merged(&held.conditions, wanted, now);
    Some(Write::Status(json!({ "conditions": conditions, "addresses": addresses, "listeners": listeners })))
}

fn address(address: &Address) -> Value {
    match address {
        Address::Hostname(name) => json!({ "type": "Hostname", "value": name }),
        Address::Ip(ip) => json!({ "type": "IPAddress", "value": ip }),
    }
}

/// What is said of a listener; what is held of it, where that says the same.
fn listener(held: &[Value], wanted: &ListenerStatus, now: &str) -> Value {
    let before = held.iter().find(|one| one["name"] == wanted.name.as_str());
    let conditions = before.and_then(|before| before["conditions"].as_array()).map(Vec::as_slice);
    let conditions = conditions.unwrap_or_default();
    let conditions = match same(conditions, &wanted.conditions) {
        true => conditions.to_vec(),
        false => merged(conditions, &wanted.conditions, now),
    };
    let kinds: Vec<Value> =
        wanted.kinds.iter().map(|kind| json!({ "group": kind.group(), "kind": kind.name() })).collect();
    json!({
        "name": wanted.name, "attachedRoutes": wanted.attached, "supportedKinds": kinds, "conditions": conditions,
    })
}

/// As [`plan`], for a route: each parent that is ours to answer for gets what is said of it, or else these conditions.
pub(super) fn plan_route(
    face: &Face,
    (wanted, details): (&[Condition], &Details),
    now: &str,
    is_ours: impl Fn(&Value) -> bool,
) -> Option<Write> {
    let held = &face.status.parents;
    let foreign = held.iter().filter(|one| one["controllerName"] != CONTROLLER_NAME);
    let mut parents: Vec<Value> = foreign.cloned().collect();
    let said = match details {
        Details::Parents(said) if !wanted.is_empty() => {
            // It is about other parents than there are now: the next verdict is on its way.
            if said.len() != face.parents.len() {
                return None;
            }
            Some(said)
        }
        _ => None,
    };
    for (at, parent) in face.parents.iter().enumerate().filter(|(_, one)| !wanted.is_empty() && is_ours(one))
    {
        let wanted = said.map_or(wanted, |said| &said[at]);
        let own =
            held.iter().find(|one| one["controllerName"] == CONTROLLER_NAME && one["parentRef"] == *parent);
        let before = own.and_then(|own| own["conditions"].as_array()).map(Vec::as_slice).unwrap_or_default();
        parents.push(json!({
            "parentRef": parent, "controllerName": CONTROLLER_NAME, "conditions": merged(before, wanted, now),
        }));
    }
    (parents != *held).then(|| Write::Parents(parents.into()))
}

fn same(held: &[Value], wanted: &[Condition]) -> bool {
    held.len() == wanted.len()
        && wanted.iter().all(|wanted| {
            let held = held.iter().find(|held| held["type"] == wanted.kind.as_str());
            held.is_some_and(|held| says(held, wanted))
        })
}

/// Whether a condition says this already.
fn says(held: &Value, wanted: &Condition) -> bool {
    let generation = held["observedGeneration"].as_i64().unwrap_or_default();
    held["status"] == text(wanted.status)
        && held["reason"] == wanted.reason.as_str()
        && held["message"] == message(wanted)
        && generation == wanted.observed_generation
}

/// The conditions to write; one whose status has not changed keeps its time.
fn merged(held: &[Value], wanted: &[Condition], now: &str) -> Vec<Value> {
    let one = |wanted: &Condition| {
        let before = held.iter().find(|held| held["type"] == wanted.kind.as_str());
        let unchanged = before.filter(|before| before["status"] == text(wanted.status));
        let since = unchanged.and_then(|before| before["lastTransitionTime"].as_str()).unwrap_or(now);
        let mut condition = json!({
            "type": wanted.kind, "status": text(wanted.status), "reason": wanted.reason, "message": message(wanted),
            "lastTransitionTime": since,
        });
        if wanted.observed_generation > 0 {
            condition["observedGeneration"] = wanted.observed_generation.into();
        }
        condition
    };
    wanted.iter().map(one).collect()
}

fn message(condition: &Condition) -> &str {
    let text = condition.message.as_str();
    &text[..text.floor_char_boundary(MAX_MESSAGE)]
}

fn text(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    }
}

#[cfg(test)]
mod tests;
