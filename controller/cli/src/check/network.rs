//! Users' NetworkPolicies: in the mesh a pod is reached on port 15008, whatever port its application has, and a policy that
//! knows the application's alone closes it.

use serde_json::Value;

use super::Finding;
use crate::cluster::{name, namespace};
use crate::enroll;

/// Where pods of the mesh are reached.
const HBONE: i64 = 15008;

/// A side of a policy: its field, its peers' field, what it restricts.
const SIDES: [(&str, &str, &str); 2] =
    [("ingress", "from", "who may reach its pods"), ("egress", "to", "whom its pods may reach")];

/// Policies of enrolled namespaces that close the mesh.
pub(super) fn policies(namespaces: &[Value], policies: &[Value]) -> Vec<Finding> {
    let enrolled: Vec<&str> = namespaces.iter().filter(|one| enroll::is_enrolled(one)).map(name).collect();
    let concerned = policies.iter().filter(|policy| enrolled.contains(&namespace(policy)));
    let concerned: Vec<&Value> = concerned.collect();
    let mut findings = Vec::new();
    for policy in &concerned {
        for (side, peers, restricts) in SIDES {
            let others = || concerned.iter().filter(|other| namespace(other) == namespace(policy));
            let rules = policy["spec"][side].as_array().into_iter().flatten();
            let closed = rules.enumerate().find(|(_, rule)| {
                closes(rule) && !others().any(|other| opens(other, policy, side, &rule[peers], peers))
            });
            if let Some((place, _)) = closed {
                findings.push(Finding::error(
                    format!(
                        "networkpolicy {}/{} limits {restricts} to ports without {HBONE}, where pods of the mesh are reached",
                        namespace(policy),
                        name(policy)
                    ),
                    format!(
                        "kubectl -n {} patch networkpolicy {} --type json -p '[{{\"op\":\"add\",\"path\":\"/spec/{side}/{place}/ports/-\",\"value\":{{\"protocol\":\"TCP\",\"port\":{HBONE}}}}}]'",
                        namespace(policy),
                        name(policy)
                    ),
                ));
            }
        }
    }
    findings
}

/// Whether a rule lets something pass, but nothing on the mesh's port.
fn closes(rule: &Value) -> bool {
    let ports: Vec<&Value> = rule["ports"].as_array().into_iter().flatten().collect();
    let tcp = |port: &&&Value| matches!(port["protocol"].as_str(), None | Some("TCP"));
    // Names of ports are not resolved: no container calls the mesh's port by a name.
    ports.iter().any(|port| tcp(&port)) && !ports.iter().filter(tcp).any(|port| covers(port))
}

fn covers(port: &Value) -> bool {
    match (port["port"].as_i64(), port["endPort"].as_i64()) {
        _ if port["port"].is_null() => true,
        (Some(first), last) => (first..=last.unwrap_or(first)).contains(&HBONE),
        (None, _) => false,
    }
}

/// Whether another policy lets the same peers of the same pods pass on the mesh's port.
fn opens(other: &Value, policy: &Value, side: &str, wanted: &Value, peers: &str) -> bool {
    let selector = &other["spec"]["podSelector"];
    let everywhere = selector.as_object().is_none_or(serde_json::Map::is_empty);
    if !everywhere && *selector != policy["spec"]["podSelector"] {
        return false;
    }
    let rules = other["spec"][side].as_array().into_iter().flatten();
    rules.filter(|rule| !closes(rule)).any(|rule| {
        let from = &rule[peers];
        let anybody = from.as_array().is_none_or(Vec::is_empty);
        let ports = rule["ports"].as_array().is_none_or(Vec::is_empty);
        let open = ports || rule["ports"].as_array().into_iter().flatten().any(covers);
        open && (anybody || from == wanted)
    })
}
