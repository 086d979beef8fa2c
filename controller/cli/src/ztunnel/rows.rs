//! Dumps to rows.

use std::time::SystemTime;

use ambit_discovery::credentials::dump::rfc3339;
use serde::Serialize;
use serde_json::Value;

use super::Told;
use super::dump::{Connection, Link, waypoint};
use crate::output::Row;

/// A pod, or another endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadRow {
    namespace: String,
    name: String,
    addresses: Vec<String>,
    node: String,
    waypoint: Option<String>,
    protocol: String,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceRow {
    namespace: String,
    name: String,
    vips: Vec<String>,
    waypoint: Option<String>,
    /// Those that take connections.
    endpoints_taking: usize,
    endpoints: usize,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyRow {
    namespace: String,
    name: String,
    action: String,
    scope: String,
    rules: usize,
    dry_run: bool,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateRow {
    node: String,
    name: String,
    kind: &'static str,
    status: String,
    valid: bool,
    serial_number: String,
    not_after: String,
    not_before: String,
}

/// An open connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionRow {
    node: String,
    workload: String,
    direction: &'static str,
    local: String,
    remote: String,
    /// What the application dialled, where that is another address.
    remote_target: Option<String>,
    protocol: String,
}

impl Row for WorkloadRow {
    const HEAD: &'static [&'static str] =
        &["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"];

    fn cells(&self) -> Vec<String> {
        let node = if self.node.is_empty() { "-" } else { &self.node };
        vec![
            self.namespace.clone(),
            self.name.clone(),
            list(&self.addresses),
            node.to_owned(),
            none(&self.waypoint),
            self.protocol.clone(),
        ]
    }
}

impl Row for ServiceRow {
    const HEAD: &'static [&'static str] =
        &["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.name.clone(),
            list(&self.vips),
            none(&self.waypoint),
            format!("{}/{}", self.endpoints_taking, self.endpoints),
        ]
    }
}

impl Row for PolicyRow {
    const HEAD: &'static [&'static str] = &["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE", "RULES"];

    fn cells(&self) -> Vec<String> {
        let dry = if self.dry_run { " (dry run)" } else { "" };
        vec![
            self.namespace.clone(),
            self.name.clone(),
            format!("{}{dry}", self.action),
            self.scope.clone(),
            self.rules.to_string(),
        ]
    }
}

impl Row for CertificateRow {
    const HEAD: &'static [&'static str] = &[
        "NODE",
        "CERTIFICATE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ];

    fn cells(&self) -> Vec<String> {
        let valid = self.valid.to_string();
        let names = [&self.node, &self.name, self.kind, &self.status, &valid];
        let words = names.into_iter().chain([self.serial_number.as_str(), &self.not_after, &self.not_before]);
        words.map(|word| if word.is_empty() { "-".to_owned() } else { word.to_owned() }).collect()
    }
}

impl Row for ConnectionRow {
    const HEAD: &'static [&'static str] =
        &["NODE", "WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"];

    fn cells(&self) -> Vec<String> {
        let target = self.remote_target.clone().unwrap_or_default();
        let words =
            [&self.node, &self.workload, self.direction, &self.local, &self.remote, &target, &self.protocol];
        words.map(|word| if word.is_empty() { "-".to_owned() } else { word.to_owned() }).to_vec()
    }
}

/// The pods that it knows.
pub(super) fn workloads(told: &Told, namespace: Option<&str>) -> Vec<WorkloadRow> {
    let here = told.dump.workloads.iter().filter(|one| is_in(&one.namespace, namespace));
    here.map(|one| WorkloadRow {
        namespace: one.namespace.clone(),
        name: one.name.clone(),
        addresses: one.workload_ips.clone(),
        node: one.node.clone(),
        waypoint: waypoint(&one.waypoint),
        protocol: one.protocol.clone(),
    })
    .collect()
}

/// The Services that it knows.
pub(super) fn services(told: &Told, namespace: Option<&str>) -> Vec<ServiceRow> {
    let here = told.dump.services.iter().filter(|one| is_in(&one.namespace, namespace));
    here.map(|one| {
        let key = format!("{}/{}", one.namespace, one.hostname);
        let members = told.dump.workloads.iter().filter(|workload| workload.services.contains(&key)).count();
        ServiceRow {
            namespace: one.namespace.clone(),
            name: one.name.clone(),
            vips: one.vips.iter().map(|vip| address(vip)).collect(),
            waypoint: waypoint(&one.waypoint),
            endpoints_taking: one.taking(),
            endpoints: members.max(one.taking()),
        }
    })
    .collect()
}

/// The policies that it knows.
pub(super) fn policies(told: &Told, namespace: Option<&str>) -> Vec<PolicyRow> {
    let here = told.dump.policies.iter().filter(|one| is_in(one.named().0, namespace));
    here.map(|one| PolicyRow {
        namespace: one.named().0.to_owned(),
        name: one.named().1.to_owned(),
        action: one.action.clone(),
        scope: one.scope.clone(),
        rules: one.rules.len(),
        dry_run: one.dry_run,
    })
    .collect()
}

/// The certificates that it holds.
pub(super) fn certificates(told: &Told, namespace: Option<&str>) -> Vec<CertificateRow> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = rfc3339(i64::try_from(now).unwrap_or(i64::MAX));
    let of = |identity: &str| identity.split('/').nth(4).unwrap_or_default().to_owned();
    let here = told.dump.certificates.iter().filter(|one| is_in(&of(&one.identity), namespace));
    let rows = here.flat_map(|one| {
        let leaf = one.cert_chain.first().map(|link| ("Leaf", link));
        let intermediate = one.cert_chain.iter().skip(1).map(|link| ("Intermediate", link));
        let roots = one.root_certs.iter().map(|link| ("Root", link));
        let links: Vec<(&'static str, Option<&Link>)> = leaf
            .into_iter()
            .chain(intermediate)
            .chain(roots)
            .map(|(kind, link)| (kind, Some(link)))
            .collect();
        let links = if links.is_empty() { vec![("Leaf", None)] } else { links };
        links
            .into_iter()
            .map(|(kind, link)| CertificateRow {
                node: told.node.clone(),
                name: one.identity.clone(),
                kind,
                status: one.state.clone(),
                // Both are written alike, so the order of the texts is that of the times.
                valid: link.is_some_and(|link| link.valid_from <= now && now < link.expiration_time),
                serial_number: link.map(|link| link.serial_number.clone()).unwrap_or_default(),
                not_after: link.map(|link| link.expiration_time.clone()).unwrap_or_default(),
                not_before: link.map(|link| link.valid_from.clone()).unwrap_or_default(),
            })
            .collect::<Vec<_>>()
    });
    rows.collect()
}

/// The open connections of its pods.
pub(super) fn connections(told: &Told, namespace: Option<&str>) -> Vec<ConnectionRow> {
    let here = told.dump.workload_state.values().filter(|one| is_in(&one.info.namespace, namespace));
    let rows = here.flat_map(|state| {
        let workload = format!("{}/{}", state.info.namespace, state.info.name);
        let row = move |direction, one: &Connection| {
            let (src, original, actual) = (text(&one.src), text(&one.original_dst), text(&one.actual_dst));
            let (local, remote, target) = match direction {
                "Inbound" => (actual.clone(), src, original),
                _ => (src, actual.clone(), original),
            };
            ConnectionRow {
                node: told.node.clone(),
                workload: workload.clone(),
                direction,
                local,
                remote,
                remote_target: Some(target).filter(|target| *target != actual && !target.is_empty()),
                protocol: one.protocol.clone(),
            }
        };
        let outbound = row.clone();
        let inbound = state.connections.inbound.iter().map(move |one| row("Inbound", one));
        inbound.chain(state.connections.outbound.iter().map(move |one| outbound("Outbound", one)))
    });
    rows.collect()
}

fn is_in(namespace: &str, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| wanted == namespace)
}

fn list(parts: &[String]) -> String {
    if parts.is_empty() { "-".to_owned() } else { parts.join(",") }
}

fn none(name: &Option<String>) -> String {
    name.clone().unwrap_or_else(|| "None".to_owned())
}

/// An address without its network and without a prefix length that says nothing.
fn address(vip: &str) -> String {
    let (_, address) = vip.split_once('/').unwrap_or(("", vip));
    let whole = if address.contains(':') { "/128" } else { "/32" };
    address.strip_suffix(whole).unwrap_or(address).to_owned()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}
