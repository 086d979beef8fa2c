//! Waypoints as they are.

use serde::Serialize;
use serde_json::Value;

use super::{Asked, CLASSES, Listed, REVISION, WAYPOINT_FOR};
use crate::cluster::{Cluster, kinds, label, name, namespace};
use crate::failure::{End, Failure};
use crate::output::{self, Row, Rows};

/// A waypoint in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waypoint {
    namespace: String,
    name: String,
    revision: String,
    traffic_type: String,
    programmed: String,
}

/// What is said about one.
#[derive(Debug, Serialize)]
pub(super) struct Said {
    namespace: String,
    name: String,
    status: String,
    r#type: String,
    reason: String,
    message: String,
}

/// The waypoints of a namespace, or of all where none is named.
pub(crate) fn waypoints(cluster: &Cluster, namespace: &str) -> Result<Vec<Value>, Failure> {
    let held = cluster.list(&kinds::GATEWAY, namespace, "");
    let mut held = held.map_err(|refused| cluster.failed("Gateways", &refused))?;
    held.retain(|one| one["spec"]["gatewayClassName"].as_str().is_some_and(|class| CLASSES.contains(&class)));
    Ok(held)
}

/// A condition of an object.
pub(crate) fn condition<'a>(object: &'a Value, wanted: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == wanted)
}

/// Shows them.
pub(super) fn list(listed: &Listed) -> Result<End, Failure> {
    let cluster = listed.asked.to.open()?;
    let namespace = if listed.all_namespaces { "" } else { &listed.asked.namespace };
    let rows = waypoints(&cluster, namespace)?.iter().map(Waypoint::of).collect();
    let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") };
    output::print(&Rows::<Waypoint>::new(rows, format!("no waypoints{place}")), listed.asked.output.format)?;
    Ok(End::Yes)
}

/// Shows what is said about them: ends 0 if all are ready, else 1.
pub(super) fn status(asked: &Asked) -> Result<End, Failure> {
    let cluster = asked.to.open()?;
    let held = waypoints(&cluster, &asked.namespace)?;
    let rows: Vec<Said> = held.iter().flat_map(Said::of).collect();
    let ready =
        held.iter().all(|one| condition(one, "Programmed").is_some_and(|one| one["status"] == "True"));
    output::print(
        &Rows::new(rows, format!("no waypoints in namespace {}", asked.namespace)),
        asked.output.format,
    )?;
    Ok(if ready { End::Yes } else { End::No })
}

impl Waypoint {
    pub(super) fn of(gateway: &Value) -> Self {
        let programmed = condition(gateway, "Programmed").and_then(|one| one["status"].as_str());
        Self {
            namespace: namespace(gateway).to_owned(),
            name: name(gateway).to_owned(),
            revision: label(gateway, REVISION).unwrap_or("default").to_owned(),
            traffic_type: label(gateway, WAYPOINT_FOR).unwrap_or("service").to_owned(),
            programmed: programmed.unwrap_or("Unknown").to_owned(),
        }
    }
}

impl Said {
    pub(super) fn of(gateway: &Value) -> Vec<Self> {
        let said = |status: &str, r#type: &str, reason: &str, message: &str| Self {
            namespace: namespace(gateway).to_owned(),
            name: name(gateway).to_owned(),
            status: status.to_owned(),
            r#type: r#type.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let text = |one: &'_ Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let conditions = gateway["status"]["conditions"].as_array().into_iter().flatten();
        let mut all: Vec<Self> = conditions
            .map(|one| {
                said(&text(one, "status"), &text(one, "type"), &text(one, "reason"), &text(one, "message"))
            })
            .collect();
        if all.is_empty() {
            all.push(said("Unknown", "Programmed", "", "no controller has taken it up yet"));
        }
        all
    }
}

impl Row for Waypoint {
    const HEAD: &'static [&'static str] = &["NAMESPACE", "NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"];

    fn cells(&self) -> Vec<String> {
        [&self.namespace, &self.name, &self.revision, &self.traffic_type, &self.programmed]
            .map(String::clone)
            .into()
    }
}

impl Row for Said {
    const HEAD: &'static [&'static str] = &["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        let words = [&self.namespace, &self.name, &self.status, &self.r#type, &self.reason, &self.message];
        words.map(String::clone).into()
    }
}
