//! The lab's network: a namespace per node, one for the control plane, and a wire to every pod.
//!
//! Two nodes are joined by one veth pair, more (or one) by a bridge in the control plane's namespace; on every
//! node the interface towards the other nodes is called [`LINK`], and captures listen there. A second
//! interface, `control`, leads to the control plane only. Pods hang on routed veth pairs, so that every
//! packet of theirs passes the node's rules.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::address::{CONTROL, DNS, NodeNumber, Pair};
use crate::error::LabError;
use crate::space::{Cover, Space, memory_folder, release};

/// Name, on every node, of the interface towards the other nodes.
pub const LINK: &str = "link";

const NODE_PARAMETERS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "2"),
    ("ipv4/conf/default/rp_filter", "2"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];
const POD_PARAMETERS: &[(&str, &str)] = &[
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/ping_group_range", "0 0"),
];

/// All namespaces of a lab.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) control: Space,
    pub(crate) nodes: BTreeMap<NodeNumber, Space>,
    pods: PathBuf,
}

/// The wire of one pod.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) node: NodeNumber,
    pub(crate) host: u8,
    pub(crate) address: Pair,
}

impl Wire {
    fn interface(&self) -> String {
        format!("pod{}", self.host)
    }
}

impl Network {
    /// Makes control plane and nodes; `state` is the lab's state folder.
    pub(crate) fn create(state: &Path, nodes: u8) -> Result<Self, LabError> {
        let spaces = state.join("nodes");
        let pods = state.join("netns");
        memory_folder(&spaces)?;
        memory_folder(&pods)?;
        let control = Space::create(&spaces.join("control"), None)?;
        control.tune(NODE_PARAMETERS)?;
        let mut network = Network { control, nodes: BTreeMap::new(), pods };
        for number in (1..=nodes).map(NodeNumber) {
            let space = Space::create(&spaces.join(number.name()), None)?;
            space.tune(NODE_PARAMETERS)?;
            network.nodes.insert(number, space);
        }
        network.lay_wires()?;
        Ok(network)
    }

    fn lay_wires(&self) -> Result<(), LabError> {
        let mut outside = String::new();
        let control = self.control.netns().display();
        let mut hub = String::from(
            "link set dev lo up\nlink add name hub type bridge\nlink set dev hub up\nlink add name fabric type bridge\nlink set dev fabric up\n",
        );
        let _written =
            writeln!(hub, "addr add {}/24 dev hub\naddr add {}/64 dev hub nodad", CONTROL.v4, CONTROL.v6);
        for (number, space) in &self.nodes {
            let (node, n) = (space.netns().display(), number.0);
            let _written = writeln!(
                outside,
                "link add name control netns {node} type veth peer name c{n} netns {control}"
            );
            let _written = writeln!(hub, "link set dev c{n} master hub up");
            if self.nodes.len() != 2 {
                let _written = writeln!(
                    outside,
                    "link add name {LINK} netns {node} type veth peer name f{n} netns {control}"
                );
                let _written = writeln!(hub, "link set dev f{n} master fabric up");
            }
        }
        if let Some([one, two]) =
            self.nodes.values().map(|space| space.netns().display()).collect::<Vec<_>>().first_chunk()
            && self.nodes.len() == 2
        {
            let _written =
                writeln!(outside, "link add name {LINK} netns {one} type veth peer name {LINK} netns {two}");
        }
        crate::command::feed("ip", &["-batch", "-"], &outside)?;
        for number in self.nodes.keys() {
            let (n, near) = (number.0, number.control_side());
            let _written = writeln!(
                hub,
                "route add 10.244.{n}.0/24 via {0}\nroute add {1}/32 via {0}",
                near.v4,
                number.address().v4
            );
            let _written = writeln!(
                hub,
                "route add fd00:10:244:{n}::/64 via {0}\nroute add {1}/128 via {0}",
                near.v6,
                number.address().v6
            );
        }
        self.control.tool("ip", &["-batch", "-"], batch(hub))?;
        self.nodes.iter().try_for_each(|(number, space)| {
            space
                .tool("ip", &["-batch", "-"], batch(node_setup(*number, self.nodes.keys().copied())))
                .map(drop)
        })
    }

    /// Makes a pod's namespace and wires it to its node.
    pub(crate) fn add_pod(
        &self,
        uid: &str,
        wire: &Wire,
        files: Vec<(PathBuf, &'static str)>,
    ) -> Result<Space, LabError> {
        let node = self.nodes.get(&wire.node).ok_or_else(|| LabError::Unknown(wire.node.name()))?;
        let space = Space::create(&self.pods.join(uid), Some(Cover { files, hidden: self.pods.clone() }))?;
        space.tune(POD_PARAMETERS)?;
        let (interface, near, Pair { v4, v6 }) = (wire.interface(), wire.node.address(), wire.address);
        let mut setup = format!(
            "link add name {interface} netns {} type veth peer name eth0 netns {}\n",
            node.netns().display(),
            space.netns().display()
        );
        crate::command::feed("ip", &["-batch", "-"], &std::mem::take(&mut setup))?;
        let _written = writeln!(
            setup,
            "addr add 169.254.1.1/32 dev {interface}\naddr add fe80::1/64 dev {interface} nodad"
        );
        let _written = writeln!(
            setup,
            "link set dev {interface} addrgenmode none up\nroute add {v4}/32 dev {interface} src {}",
            near.v4
        );
        let _written = writeln!(setup, "route add {v6}/128 dev {interface} src {}", near.v6);
        node.tool("ip", &["-batch", "-"], batch(std::mem::take(&mut setup)))?;
        let _written = writeln!(
            setup,
            "link set dev lo up\nlink set dev eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad"
        );
        let _written = writeln!(
            setup,
            "route add 169.254.1.1 dev eth0 scope link\nroute add default via 169.254.1.1 dev eth0 src {v4}"
        );
        let _written = writeln!(setup, "route add default via fe80::1 dev eth0 src {v6}");
        space.tool("ip", &["-batch", "-"], batch(setup))?;
        Ok(space)
    }

    /// Takes a pod's network away.
    pub(crate) fn remove_pod(&self, uid: &str, wire: &Wire) {
        if let Some(node) = self.nodes.get(&wire.node) {
            let interface = wire.interface();
            // Gone already when the pod's namespace is.
            let _deleted =
                node.run(move || crate::command::run("ip", &["link", "delete", "dev", &interface]));
        }
        release(&self.pods.join(uid));
    }
}

fn node_setup(number: NodeNumber, all: impl Iterator<Item = NodeNumber>) -> String {
    let (own, near) = (number.address(), number.control_side());
    let mut setup =
        format!("link set dev lo up\naddr add {}/32 dev lo\naddr add {}/128 dev lo nodad\n", DNS.v4, DNS.v6);
    let _written = writeln!(
        setup,
        "link set dev {LINK} address {}\naddr add {}/24 dev {LINK}\naddr add {}/64 dev {LINK} nodad\nlink set dev {LINK} up",
        link_address(number),
        own.v4,
        own.v6
    );
    let _written = writeln!(
        setup,
        "addr add {}/24 dev control\naddr add {}/64 dev control nodad\nlink set dev control up",
        near.v4, near.v6
    );
    let _written = writeln!(
        setup,
        "route add default via {} src {}\nroute add default via {} src {}",
        CONTROL.v4, own.v4, CONTROL.v6, own.v6
    );
    for other in all.filter(|other| *other != number) {
        let (n, far) = (other.0, other.address());
        // Known from the start: the first neighbour solicitation on a fresh link gets no answer, which costs a second.
        let _written = writeln!(
            setup,
            "neigh replace {} lladdr {} dev {LINK} nud permanent",
            far.v6,
            link_address(other)
        );
        let _written = writeln!(setup, "route add 10.244.{n}.0/24 via {} src {}", far.v4, own.v4);
        let _written = writeln!(setup, "route add fd00:10:244:{n}::/64 via {} src {}", far.v6, own.v6);
    }
    setup
}

/// A node's hardware address on the link between nodes.
fn link_address(number: NodeNumber) -> String {
    format!("02:a6:00:00:00:{:02x}", number.0)
}

/// Leaves IPv6 out where the kernel has none.
fn batch(setup: String) -> String {
    if Path::new("/proc/sys/net/ipv6").exists() {
        return setup;
    }
    setup
        .lines()
        .filter(|line| !line.contains("fd00:") && !line.contains("fe80:"))
        .map(|line| format!("{line}\n"))
        .collect()
}
