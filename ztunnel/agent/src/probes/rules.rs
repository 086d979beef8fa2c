//! The rules in the node's own network, as text for `nft -f -`. Pure.
//!
//! One table of our own, and nothing of anybody else's is touched. A probe's opening packet is recognised where it leaves the
//! kubelet's socket, remembered by its addresses and ports for the instant until it leaves the node, and given the source
//! address there; connection tracking does the rest of the connection. No mark is used: those of the node's network belong
//! to its network plugin and kube-proxy.
//!
//! The address is worth something, so nobody else may show it: what comes in with it from any cable is dropped, what a
//! process of the node made up itself is dropped, and what would cross a bridge from one pod to another is dropped there.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use super::Openings;
use super::kubelet::Kubelet;
use crate::redirect::rules::{PROBE_SOURCE_V4, PROBE_SOURCE_V6};

/// Our table in the node's network, and the one for its bridges.
pub const TABLE: &str = "ambit-node";

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// For both families of addresses.
    pub inet: String,
    /// For bridges.
    pub bridge: String,
}

/// One family of addresses, as nft names its parts.
struct Family {
    protocol: &'static str,
    kind: &'static str,
    set: &'static str,
    source: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family { protocol: "ip", kind: "ipv4_addr", set: "probes4", source: PROBE_SOURCE_V4 },
    Family { protocol: "ip6", kind: "ipv6_addr", set: "probes6", source: PROBE_SOURCE_V6 },
];

impl Script {
    /// The transactions that make these openings, and no others, whatever stood there before.
    pub fn new(openings: &Openings, kubelet: Option<&Kubelet>) -> Self {
        let mut inet = format!("add table inet {TABLE}\nflush table inet {TABLE}\ntable inet {TABLE} {{\n");
        for Family { kind, set, .. } in &FAMILIES {
            // Writing to a String cannot fail.
            let _ = writeln!(
                inet,
                "\tset {set} {{\n\t\ttype {kind} . inet_service . {kind} . inet_service\n\
                 \t\tsize 4096\n\t\tflags dynamic,timeout\n\t\ttimeout 2s\n\t}}"
            );
        }
        let drops = |field: &str| {
            FAMILIES.map(|Family { protocol, source, .. }| format!("{protocol} {field} {source} drop"))
        };
        let incoming = drops("saddr").map(|rule| format!("iifname != \"lo\" {rule}"));
        chain(&mut inet, "prerouting", "filter hook prerouting priority raw", &incoming);
        let mut output = drops("saddr").to_vec();
        output.extend(FAMILIES.iter().filter_map(|family| family.remember(openings, kubelet)));
        chain(&mut inet, "output", "filter hook output priority filter", &output);
        // Before anybody else who gives addresses.
        chain(
            &mut inet,
            "postrouting",
            "nat hook postrouting priority srcnat - 5",
            &FAMILIES.map(|family| family.translate()),
        );
        inet.push_str("}\n");
        let mut bridge =
            format!("add table bridge {TABLE}\nflush table bridge {TABLE}\ntable bridge {TABLE} {{\n");
        chain(&mut bridge, "forward", "filter hook forward priority filter", &drops("saddr"));
        bridge.push_str("}\n");
        Self { inet, bridge }
    }
}

impl Family {
    fn flow(&self) -> String {
        let Self { protocol, .. } = self;
        format!("{protocol} saddr . tcp sport . {protocol} daddr . tcp dport")
    }

    /// `None` without openings of this family.
    fn remember(&self, openings: &Openings, kubelet: Option<&Kubelet>) -> Option<String> {
        let Self { protocol, set, .. } = self;
        let elements: BTreeSet<String> = openings
            .iter()
            .filter(|(address, _)| matches!(address, IpAddr::V4(_)) == (*protocol == "ip"))
            .map(|(address, port)| format!("{address} . {port}"))
            .collect();
        if elements.is_empty() {
            return None;
        }
        let elements = elements.into_iter().collect::<Vec<_>>().join(", ");
        let owner = owner(kubelet);
        Some(format!(
            "tcp flags & (fin|syn|rst|ack) == syn {protocol} daddr . tcp dport {{ {elements} }} {owner} \
             update @{set} {{ {} }}",
            self.flow()
        ))
    }

    fn translate(&self) -> String {
        let Self { protocol, set, source, .. } = self;
        format!("{} @{set} snat {protocol} to {source}", self.flow())
    }
}

/// Whose socket it must be. Without a kubelet to be found, root's.
fn owner(kubelet: Option<&Kubelet>) -> String {
    let uid = kubelet.map_or(0, |kubelet| kubelet.uid);
    match kubelet.and_then(|kubelet| kubelet.group.as_ref()) {
        Some(group) => format!("meta skuid {uid} socket cgroupv2 level {} \"{}\"", group.level, group.path),
        None => format!("meta skuid {uid}"),
    }
}

/// The transaction that takes everything away.
pub fn removal() -> String {
    ["inet", "bridge"]
        .map(|family| format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n"))
        .concat()
}

fn chain(script: &mut String, name: &str, hook: &str, rules: &[String]) {
    let _ = writeln!(script, "\tchain {name} {{\n\t\ttype {hook}; policy accept;");
    for rule in rules {
        let _ = writeln!(script, "\t\t{rule}");
    }
    script.push_str("\t}\n");
}

#[cfg(test)]
mod tests;
