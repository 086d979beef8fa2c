//! Services: their ports and ready endpoints, the rules by which un-enrolled pods reach them, their names. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::address::Pair;
use crate::dns::Names;
use crate::manifest::{Document, at, text, texts};

/// A Service as the lab keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// None for a headless Service.
    pub(crate) address: Option<Pair>,
    pub(crate) ports: Vec<Port>,
    /// None when its endpoints are written by hand.
    pub(crate) selector: Option<BTreeMap<String, String>>,
    pub(crate) publish_unready: bool,
}

/// One port of a Service.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
    pub(crate) protocol: String,
    target: Value,
}

/// What a Service needs to know of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) address: Pair,
    pub(crate) labels: BTreeMap<String, String>,
    /// Container ports by name.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) ready: bool,
}

impl Service {
    /// Reads a Service object; `address` is what the lab gave it.
    pub(crate) fn read(document: &Document, address: Option<Pair>) -> Result<Self, String> {
        let selector = texts(&document.value, &["spec", "selector"]);
        let ports = document.at(&["spec", "ports"]).and_then(Value::as_array);
        Ok(Service {
            namespace: document.key.namespace.clone(),
            name: document.key.name.clone(),
            address,
            ports: ports.into_iter().flatten().map(Port::read).collect::<Result<_, _>>()?,
            selector: (!selector.is_empty()).then_some(selector),
            publish_unready: document.at(&["spec", "publishNotReadyAddresses"]) == Some(&Value::Bool(true)),
        })
    }

    fn selects(&self, pod: &Backend) -> bool {
        let Some(selector) = &self.selector else { return false };
        self.namespace == pod.namespace
            && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    }

    fn serves(&self, pod: &Backend) -> bool {
        self.selects(pod) && (pod.ready || self.publish_unready)
    }

    /// EndpointSlices for this Service, one for each address family.
    pub(crate) fn slices(&self, pods: &[Backend]) -> Vec<Value> {
        if self.selector.is_none() {
            return Vec::new();
        }
        let ports: Vec<_> = self.ports.iter().map(|port| {
            let target = pods.iter().filter(|pod| self.selects(pod)).find_map(|pod| port.target(pod)).unwrap_or(port.number);
            json!({"name": port.name.clone().unwrap_or_default(), "port": target, "protocol": port.protocol})
        }).collect();
        ["IPv4", "IPv6"].iter().enumerate().map(|(family, address_type)| {
            let endpoints: Vec<_> = pods.iter().filter(|pod| self.selects(pod)).map(|pod| json!({
                "addresses": [pod.address.both()[family]],
                "conditions": {"ready": pod.ready || self.publish_unready, "serving": pod.ready, "terminating": false},
                "nodeName": pod.node,
                "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            })).collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": address_type,
                "metadata": {
                    "name": format!("{}-{}", self.name, address_type.to_lowercase()), "namespace": self.namespace,
                    "labels": {
                        "kubernetes.io/service-name": self.name,
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    },
                },
                "endpoints": endpoints, "ports": ports,
            })
        }).collect()
    }
}

impl Port {
    fn read(value: &Value) -> Result<Self, String> {
        let number = value.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let number = number
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("spec.ports: port must be 1 to 65535 in {value}"))?;
        Ok(Port {
            name: text(value, &["name"]).map(str::to_owned),
            number,
            protocol: text(value, &["protocol"]).unwrap_or("TCP").to_owned(),
            target: value.get("targetPort").cloned().unwrap_or_else(|| number.into()),
        })
    }

    /// The port of this pod behind the Service's port.
    fn target(&self, pod: &Backend) -> Option<u16> {
        match &self.target {
            Value::Number(number) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
            Value::String(name) => pod.ports.get(name).copied().or_else(|| name.parse().ok()),
            _ => None,
        }
    }
}

/// Container ports of a pod by name.
pub(crate) fn named_ports(spec: &Value) -> BTreeMap<String, u16> {
    let containers = at(spec, &["containers"]).and_then(Value::as_array).into_iter().flatten();
    let ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    let named = ports.filter_map(|port| {
        let number = port.get("containerPort")?.as_u64()?;
        Some((text(port, &["name"])?.to_owned(), u16::try_from(number).ok()?))
    });
    named.collect()
}

/// The nft rules of one node: a random ready endpoint for every Service address and port.
pub(crate) fn rules(services: &[Service], pods: &[Backend]) -> String {
    // The table is emptied, never deleted: with its last rule the kernel would forget open connections.
    let mut rules = String::from(
        "table inet ambit-lab {
 chain services { }
 chain prerouting { type nat hook prerouting priority -100; }
 chain output { type nat hook output priority -100; }
 chain postrouting { type nat hook postrouting priority 100; }
}
flush table inet ambit-lab
table inet ambit-lab {
 chain prerouting { jump services; }
 chain output { jump services; }
 chain services {
",
    );
    for (service, port) in
        services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)))
    {
        let Some(address) = service.address else { continue };
        for (family, vip) in address.both().into_iter().enumerate() {
            let serving = pods.iter().filter(|pod| service.serves(pod));
            let targets: Vec<_> =
                serving.filter_map(|pod| Some((pod.address.both()[family], port.target(pod)?))).collect();
            rules.push_str(&balance(vip, port, &targets));
        }
    }
    // Only a pod that reached itself through a Service must see another source, or its answer takes a short cut.
    rules.push_str(" }\n chain postrouting {\n");
    for address in pods.iter().flat_map(|pod| pod.address.both()) {
        let family = family(address);
        let _written =
            writeln!(rules, "  ct status dnat {family} saddr {address} {family} daddr {address} masquerade");
    }
    rules.push_str(" }\n}\n");
    rules
}

fn balance(vip: IpAddr, port: &Port, targets: &[(IpAddr, u16)]) -> String {
    let (family, protocol) = (family(vip), port.protocol.to_lowercase());
    if targets.is_empty() || !matches!(protocol.as_str(), "tcp" | "udp") {
        return String::new();
    }
    let choices: Vec<_> = targets
        .iter()
        .enumerate()
        .map(|(index, (address, port))| format!("{index} : {address} . {port}"))
        .collect();
    format!(
        "  {family} daddr {vip} {protocol} dport {} dnat {family} to numgen random mod {} map {{ {} }}\n",
        port.number,
        targets.len(),
        choices.join(", "),
    )
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// The names under which Services and their pods are found.
pub(crate) fn names(services: &[Service], pods: &[Backend]) -> Names {
    let mut names = Names::default();
    for service in services {
        let name = format!("{}.{}.svc.cluster.local.", service.name, service.namespace);
        let addresses = match service.address {
            Some(address) => address.both().to_vec(),
            None => {
                pods.iter().filter(|pod| service.serves(pod)).flat_map(|pod| pod.address.both()).collect()
            }
        };
        if service.address.is_none() {
            for pod in pods.iter().filter(|pod| service.serves(pod)) {
                names.insert(format!("{}.{name}", pod.name), pod.address.both().to_vec());
            }
        }
        names.insert(name, addresses);
    }
    names
}

#[cfg(test)]
mod tests;
