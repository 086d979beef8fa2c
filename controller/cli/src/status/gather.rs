//! What programs say of themselves, and the controller of proxies, put together.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_crds::kind::Kind;
use ambit_crds::object::Object;
use serde::Deserialize;

use super::{Program, Ready, Status, Sync};
use crate::failure::Failure;
use crate::mesh::Where;
use crate::mesh::http::Answer;

/// On a waypoint's pod: its Gateway.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// On whatever is deployed for a Gateway.
const MANAGED: &str = "gateway.istio.io/managed";

/// Where every program says whether it is ready.
const READY: &str = "/healthz/ready";

/// Where a controller says how far proxies are.
const SYNCZ: &str = "/debug/syncz";

/// What the controller says of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Synced {
    generation: u64,
    settled: bool,
    proxies: Vec<Proxy>,
}

/// A connected proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Proxy {
    node: String,
    pod: String,
    #[serde(default)]
    waypoint: Option<String>,
    version: String,
    generation_acked: Option<u64>,
    overdue: Option<String>,
    nacks: Vec<Nack>,
}

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Nack {
    r#type: String,
    generation: u64,
    message: String,
}

/// A program that should run: its name, its place, how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    program: String,
    node: String,
    pod: String,
    ask: String,
}

/// Asks everybody.
pub(super) fn gather(place: &Where) -> Result<Status, Failure> {
    let synced = synced(&place.controller(SYNCZ)?)?;
    let controller = place.controller(READY);
    let Where::Lab(lab) = place else { return Ok(put_together(&synced, controller, Vec::new())) };
    let expected = expected(&lab.objects().objects);
    let asked = expected.into_iter().map(|one| {
        let answer = lab.ask(&one.ask, READY);
        (one, answer)
    });
    Ok(put_together(&synced, controller, asked.collect()))
}

fn synced(said: &Answer) -> Result<Synced, Failure> {
    serde_json::from_str(&said.body).map_err(|error| {
        let mend = "name the admin port of the controller (15014 unless set otherwise): --live ADDRESS";
        Failure::new(format!("what answers is no controller: {error}"), mend)
    })
}

/// What the controller says of proxies, whether it is ready itself, and what others said when they were asked that.
fn put_together(
    synced: &Synced,
    controller: Result<Answer, Failure>,
    asked: Vec<(Expected, Result<Answer, Failure>)>,
) -> Status {
    let mut waiting = Vec::new();
    if !synced.settled {
        waiting.push("controller: it has not taken up the latest changes of the objects".to_owned());
    }
    let mut programs = vec![Program {
        program: "controller".to_owned(),
        node: String::new(),
        pod: String::new(),
        version: String::new(),
        ready: ready("controller", controller, &mut waiting),
        sync: Sync::None,
        acknowledged: None,
    }];
    let others = synced.proxies.iter().filter(|proxy| !asked.iter().any(|(one, _)| one.is(proxy)));
    let others: Vec<&Proxy> = others.collect();
    for (one, answer) in asked {
        let proxy = synced.proxies.iter().find(|proxy| one.is(proxy));
        let ready = ready(&one.name(), answer, &mut waiting);
        programs.push(program(&one, ready, proxy, synced.generation, &mut waiting));
    }
    for proxy in others {
        let one = Expected::of(proxy);
        programs.push(program(&one, Ready::Unknown, Some(proxy), synced.generation, &mut waiting));
    }
    programs[1..].sort_by(|one, other| {
        (&one.program, &one.node, &one.pod).cmp(&(&other.program, &other.node, &other.pod))
    });
    Status { generation: Some(synced.generation), programs, waiting }
}

/// The agent and the ztunnel of every node, and the replicas of every waypoint.
fn expected(objects: &[Arc<Object>]) -> Vec<Expected> {
    let nodes: BTreeSet<&str> = objects
        .iter()
        .filter(|object| object.kind() == Kind::Node)
        .map(|object| object.meta().name.as_str())
        .collect();
    let each = |program: &str, node: &str, pod: String| Expected {
        program: program.to_owned(),
        node: node.to_owned(),
        pod,
        ask: format!("{program}/{node}"),
    };
    let agents = nodes.iter().map(|node| each("agent", node, String::new()));
    let ztunnels = nodes.iter().map(|node| each("ztunnel", node, String::new()));
    let replicas = objects.iter().filter_map(|object| match &**object {
        Object::Pod(pod) if !pod.is_terminal() && pod.meta.label(MANAGED).is_some() => {
            let pod_name = format!("{}/{}", pod.meta.namespace, pod.meta.name);
            Some(Expected {
                program: format!("waypoint {}/{}", pod.meta.namespace, pod.meta.label(GATEWAY)?),
                node: pod.spec.node_name.clone(),
                ask: pod_name.clone(),
                pod: pod_name,
            })
        }
        _ => None,
    });
    agents.chain(ztunnels).chain(replicas).collect()
}

impl Expected {
    fn of(proxy: &Proxy) -> Self {
        let program = match &proxy.waypoint {
            Some(gateway) => format!("waypoint {gateway}"),
            None => "ztunnel".to_owned(),
        };
        Self { program, node: proxy.node.clone(), pod: proxy.pod.clone(), ask: String::new() }
    }

    fn is(&self, proxy: &Proxy) -> bool {
        match &proxy.waypoint {
            Some(_) => self.pod == proxy.pod,
            None => self.program == "ztunnel" && self.node == proxy.node,
        }
    }

    fn name(&self) -> String {
        if self.pod.is_empty() || self.program == "ztunnel" {
            format!("{} of {}", self.program, self.node)
        } else {
            format!("{} ({})", self.program, self.pod)
        }
    }

    fn is_proxy(&self) -> bool {
        self.program != "agent"
    }
}

fn ready(name: &str, answer: Result<Answer, Failure>, waiting: &mut Vec<String>) -> Ready {
    match answer {
        Ok(Answer { status: 200, .. }) => Ready::Yes,
        Ok(Answer { body, .. }) => {
            waiting.push(format!("{name}: {}", body.trim()));
            Ready::No
        }
        Err(_) => {
            waiting.push(format!("{name}: it does not answer"));
            Ready::Down
        }
    }
}

fn program(
    one: &Expected,
    ready: Ready,
    proxy: Option<&Proxy>,
    generation: u64,
    waiting: &mut Vec<String>,
) -> Program {
    let sync = match proxy {
        None if one.is_proxy() => Sync::NotConnected,
        None => Sync::None,
        Some(proxy) => proxy.sync(generation),
    };
    let name = one.name();
    match (sync, proxy) {
        (Sync::NotConnected, _) => waiting.push(format!("{name}: it is not connected to the controller")),
        (Sync::Waiting, Some(proxy)) => waiting.push(format!(
            "{name}: it has acknowledged {}",
            proxy.generation_acked.map_or_else(
                || "nothing yet".to_owned(),
                |acked| format!("generation {acked} of {generation}")
            )
        )),
        (Sync::Overdue, Some(proxy)) => {
            let kind = proxy.overdue.as_deref().unwrap_or_default();
            waiting.push(format!("{name}: it owes an answer about {kind} for too long"));
        }
        (Sync::Refused, Some(proxy)) => waiting.extend(proxy.nacks.iter().map(|nack| {
            format!("{name}: refused {} at generation {}: {}", nack.r#type, nack.generation, nack.message)
        })),
        _ => {}
    }
    Program {
        program: one.program.clone(),
        node: one.node.clone(),
        pod: proxy.map_or_else(|| one.pod.clone(), |proxy| proxy.pod.clone()),
        version: proxy.map(|proxy| proxy.version.clone()).unwrap_or_default(),
        ready,
        sync,
        acknowledged: proxy.and_then(|proxy| proxy.generation_acked),
    }
}

impl Proxy {
    /// A refusal stays told until the proxy connects anew: what it refused may still be missing there.
    fn sync(&self, generation: u64) -> Sync {
        if self.overdue.is_some() {
            Sync::Overdue
        } else if !self.nacks.is_empty() {
            Sync::Refused
        } else if self.generation_acked.is_some_and(|acked| acked >= generation) {
            Sync::Synced
        } else {
            Sync::Waiting
        }
    }
}

#[cfg(test)]
mod tests;
