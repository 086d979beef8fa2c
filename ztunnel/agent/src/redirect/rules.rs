//! The ruleset of a pod's network namespace, as text for `nft -f -`. Pure: a `Ruleset` in, one atomic transaction out.
//!
//! Everything stands in one table of our own (`inet ambit`, both families), and a change of ruleset flushes and refills
//! that table in one transaction without ever deleting a chain. That matters: the kernel drops its connection tracking
//! hooks with the last rule that needs them, and every redirected connection would be reset. For the same reason every
//! ruleset, the residual one too, keeps a rule on `ct state` in both nat chains.
//!
//! Redirect rules match the opening SYN alone, so that connections opened before enrolment, which connection tracking
//! picks up in mid-stream, live on as they are. The guard chains are the second lock: an opening SYN that reached the
//! filter hooks without being redirected (a stale tracking entry, a `notrack` rule of somebody's) is refused, because an
//! enrolled pod fails rather than leaks.
//!
//! The proxy's own packets carry `PROXY_MARK`, which only a process with CAP_NET_ADMIN (since Linux 5.17 also
//! CAP_NET_RAW) can set: pods that must not be able to step round the mesh have to drop both.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The packet mark of every socket a ztunnel opens in a pod's network.
pub const PROXY_MARK: u32 = 0x539;
/// The connection mark of a connection that the ztunnel opened towards the application with its client's address.
pub const CONNECTION_MARK: u32 = 0x111;
/// The bits of a mark that are ours.
pub const MARK_MASK: u32 = 0xfff;
/// Where outbound connections are redirected to.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where inbound plaintext connections are redirected to.
pub const INBOUND_PORT: u16 = 15006;
/// Where HBONE arrives; never redirected.
pub const HBONE_PORT: u16 = 15008;
/// The ports a ztunnel needs for itself in every pod.
pub const PROXY_PORTS: [u16; 3] = [OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT];
/// The source address the node gives to the kubelet's probes, which reach the application unproxied.
pub const PROBE_SOURCE_V4: &str = "169.254.7.127";
/// The same for IPv6.
pub const PROBE_SOURCE_V6: &str = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff";
/// The routing table that turns replies to a spoofed client round to the ztunnel.
pub const ROUTE_TABLE: u32 = 100;
/// The preference of the rule that leads there.
pub const ROUTE_PREFERENCE: u32 = 32764;
/// The family and name of our table.
pub const TABLE: &str = "inet ambit";

const OPENING: &str = "tcp flags & (fin|syn|rst|ack) == syn";
const LABEL: &str = "ambit: ";

/// What happens to connections that arrive at an enrolled pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InboundCapture {
    /// They are redirected to the ztunnel (HBONE, probes and the pod's own traffic apart).
    #[default]
    On,
    /// They go to the application: the pod carries `ambient.istio.io/bypass-inbound-capture`.
    Bypassed,
}

/// The ports at which the kubelet, and nobody else, reaches the application without the ztunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePorts(pub BTreeSet<u16>);

/// What stands in a pod's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruleset {
    /// New connections go through the ztunnel; nothing else opens.
    Enrolled {
        /// Whether inbound connections are captured.
        inbound: InboundCapture,
        /// Where the kubelet may connect.
        probes: ProbePorts,
    },
    /// New TCP connections are refused both ways: the pod belongs to the mesh and cannot be served yet.
    Closed {
        /// Where the kubelet may connect.
        probes: ProbePorts,
    },
    /// The pod left the mesh: new connections go plain, redirected ones that are still open keep working.
    Residual,
}

/// Which kind of ruleset was found in a pod's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// None of ours.
    Nothing,
    /// New connections are redirected.
    Enrolled,
    /// New connections are refused.
    Closed,
    /// Only what keeps open connections alive.
    Residual,
    /// A table of our name without a label we know: somebody's edit, or another version.
    Unknown,
}

impl Found {
    fn label(self) -> &'static str {
        match self {
            Found::Nothing => "nothing",
            Found::Enrolled => "enrolled",
            Found::Closed => "closed",
            Found::Residual => "residual",
            Found::Unknown => "unknown",
        }
    }
}

impl ProbePorts {
    /// The kubelet's source alone is not enough: nothing but the ports it asks at is open to it.
    fn accept(&self) -> Vec<String> {
        let ports: Vec<String> = self.0.iter().map(u16::to_string).collect();
        if ports.is_empty() {
            return Vec::new();
        }
        let ports = ports.join(", ");
        vec![
            format!("ip saddr {PROBE_SOURCE_V4} tcp dport {{ {ports} }} accept"),
            format!("ip6 saddr {PROBE_SOURCE_V6} tcp dport {{ {ports} }} accept"),
        ]
    }
}

impl Ruleset {
    /// The kind, as `Found` names it.
    pub fn kind(&self) -> Found {
        match self {
            Ruleset::Enrolled { .. } => Found::Enrolled,
            Ruleset::Closed { .. } => Found::Closed,
            Ruleset::Residual => Found::Residual,
        }
    }

    /// The transaction that makes this the pod's ruleset, whatever stood there before.
    pub fn script(&self) -> String {
        let mut script = format!("add table {TABLE}\nflush table {TABLE}\ntable {TABLE} {{\n");
        marks(&mut script);
        chain(&mut script, "nat-prerouting", "nat hook prerouting priority dstnat", &self.nat_prerouting());
        chain(&mut script, "nat-output", "nat hook output priority -100", &self.nat_output());
        chain(&mut script, "guard-input", "filter hook input priority filter", &self.guard_input());
        chain(&mut script, "guard-output", "filter hook output priority filter", &self.guard_output());
        script.push_str("}\n");
        script
    }

    fn nat_prerouting(&self) -> Vec<String> {
        let mut rules =
            vec![format!("ct state established accept comment \"{LABEL}{}\"", self.kind().label())];
        if let Ruleset::Enrolled { inbound: InboundCapture::On, probes } = self {
            rules.push("iifname \"lo\" accept".to_owned());
            rules.extend(probes.accept());
            rules.push(format!(
                "tcp dport != {HBONE_PORT} {} {OPENING} redirect to :{INBOUND_PORT}",
                mark_is("!=", PROXY_MARK)
            ));
        }
        rules
    }

    /// A later DNS proxy redirects port 53 here, before the pod's own traffic is let through.
    fn nat_output(&self) -> Vec<String> {
        let mut rules = vec!["ct state established accept".to_owned()];
        if let Ruleset::Enrolled { .. } = self {
            rules.push(format!("{} accept", mark_is("==", CONNECTION_MARK)));
            rules.push("oifname \"lo\" accept".to_owned());
            rules.push(format!("{} {OPENING} redirect to :{OUTBOUND_PORT}", mark_is("!=", PROXY_MARK)));
        }
        rules
    }

    fn guard_input(&self) -> Vec<String> {
        let (mut rules, probes) = match self {
            Ruleset::Enrolled { inbound: InboundCapture::On, probes } => {
                let dnat = format!("ct status dnat tcp dport {INBOUND_PORT} accept");
                let hbone = format!("tcp dport {HBONE_PORT} accept");
                (vec!["iifname \"lo\" accept".to_owned(), dnat, hbone], probes)
            }
            Ruleset::Closed { probes } => (vec!["iifname \"lo\" accept".to_owned()], probes),
            Ruleset::Enrolled { inbound: InboundCapture::Bypassed, .. } | Ruleset::Residual => {
                return Vec::new();
            }
        };
        rules.extend(probes.accept());
        rules.push(format!("{OPENING} reject with tcp reset"));
        rules
    }

    fn guard_output(&self) -> Vec<String> {
        let mut rules = vec!["oifname \"lo\" accept".to_owned()];
        match self {
            // `oifname` still names the way the packet would have gone before it was redirected, hence the addresses.
            Ruleset::Enrolled { .. } => rules.extend([
                "ip daddr 127.0.0.0/8 accept".to_owned(),
                "ip6 daddr ::1 accept".to_owned(),
                format!("{} accept", mark_is("==", PROXY_MARK)),
                format!("{} accept", mark_is("==", CONNECTION_MARK)),
            ]),
            // The mark is no way out here: no ztunnel serves a pod that is closed.
            Ruleset::Closed { .. } => {}
            Ruleset::Residual => return Vec::new(),
        }
        rules.push(format!("{OPENING} reject with tcp reset"));
        rules
    }
}

/// The transaction that takes our table away, where it exists. Only for a pod without redirected connections.
pub fn removal() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// Reads the kind of ruleset from what `nft list table` printed for our table.
pub fn found(listing: &str) -> Found {
    let labelled = |kind: &Found| listing.contains(&format!("comment \"{LABEL}{}\"", kind.label()));
    if listing.trim().is_empty() {
        return Found::Nothing;
    }
    [Found::Enrolled, Found::Closed, Found::Residual].into_iter().find(labelled).unwrap_or(Found::Unknown)
}

/// The same for both directions in every ruleset: a connection of the proxy's towards the application is marked when it
/// arrives over the loopback, and the application's replies take that mark, and with it the routing table that leads
/// back to the proxy, though they are addressed to the client. Replies only: a packet whose mark changes is routed anew,
/// and the proxy's own packets are on the right way already.
fn marks(script: &mut String) {
    let keep = !MARK_MASK;
    chain(
        script,
        "mark-prerouting",
        "filter hook prerouting priority mangle",
        &[format!("{} ct mark set ct mark & {keep:#010x} | {CONNECTION_MARK:#x}", mark_is("==", PROXY_MARK))],
    );
    chain(
        script,
        "mark-output",
        "route hook output priority mangle",
        &[format!(
            "ct direction reply ct mark & {MARK_MASK:#x} == {CONNECTION_MARK:#x} meta mark set ct mark"
        )],
    );
}

fn chain(script: &mut String, name: &str, hook: &str, rules: &[String]) {
    // Writing to a String cannot fail.
    let _ = writeln!(script, "\tchain {name} {{\n\t\ttype {hook}; policy accept;");
    for rule in rules {
        let _ = writeln!(script, "\t\t{rule}");
    }
    script.push_str("\t}\n");
}

fn mark_is(relation: &str, mark: u32) -> String {
    format!("meta mark & {MARK_MASK:#x} {relation} {mark:#x}")
}

#[cfg(test)]
mod tests;
