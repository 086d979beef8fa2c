//! Who has which address: nodes, control plane, pods, Services. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::LabError;

/// An IPv4 and an IPv6 address of the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// Both addresses, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }
}

/// Number of a node, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(pub u8);

impl NodeNumber {
    /// The node's name in Kubernetes' objects.
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// The node's own addresses.
    pub fn address(self) -> Pair {
        let host = u16::from(self.0);
        Pair {
            v4: Ipv4Addr::new(172, 30, 0, self.0),
            v6: Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, host),
        }
    }

    /// The node's addresses on the wire to the control plane.
    pub fn control_side(self) -> Pair {
        let host = u16::from(self.0) + 10;
        Pair {
            v4: Ipv4Addr::new(172, 30, 1, self.0 + 10),
            v6: Ipv6Addr::new(0xfd00, 0x172, 0x30, 1, 0, 0, 0, host),
        }
    }
}

/// Addresses of the control plane.
pub const CONTROL: Pair =
    Pair { v4: Ipv4Addr::new(172, 30, 1, 1), v6: Ipv6Addr::new(0xfd00, 0x172, 0x30, 1, 0, 0, 0, 1) };

/// Addresses at which every node answers DNS.
pub const DNS: Pair =
    Pair { v4: Ipv4Addr::new(10, 96, 0, 10), v6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 10) };

const LAST_POD: u8 = 253;
const FIRST_SERVICE: u16 = 0x100;

/// Hands out addresses of pods and Services.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pods: BTreeMap<(NodeNumber, u8), String>,
    last: BTreeMap<NodeNumber, u8>,
    services: BTreeMap<u16, String>,
}

impl Addresses {
    /// An address for a pod; a freed one comes round again only after all others.
    pub(crate) fn pod(&mut self, node: NodeNumber, uid: &str) -> Result<(u8, Pair), LabError> {
        let last = self.last.get(&node).copied().unwrap_or(1);
        let host = (last + 1..=LAST_POD)
            .chain(2..=last.min(LAST_POD))
            .find(|host| !self.pods.contains_key(&(node, *host)))
            .ok_or_else(|| LabError::Addresses(format!("a pod on {}", node.name())))?;
        self.pods.insert((node, host), uid.to_owned());
        self.last.insert(node, host);
        Ok((host, pod_address(node, host)))
    }

    pub(crate) fn free_pod(&mut self, node: NodeNumber, host: u8) {
        self.pods.remove(&(node, host));
    }

    /// The addresses of a Service: those it has, those it asks for, or the next free ones.
    pub(crate) fn service(&mut self, name: &str, asked: Option<IpAddr>) -> Result<Pair, LabError> {
        if let Some((host, _name)) = self.services.iter().find(|(_host, owner)| *owner == name) {
            let have = service_address(*host);
            if asked.is_none_or(|asked| have.both().contains(&asked)) {
                return Ok(have);
            }
        }
        self.services.retain(|_host, owner| owner != name);
        let host = match asked {
            Some(asked) => {
                wanted_host(asked).filter(|host| !self.services.contains_key(host)).ok_or_else(|| {
                    LabError::Addresses(format!("Service {name} at {asked} (free in 10.96.0.0/16?)"))
                })?
            }
            None => (FIRST_SERVICE..u16::MAX)
                .find(|host| !self.services.contains_key(host))
                .ok_or_else(|| LabError::Addresses(format!("Service {name}")))?,
        };
        self.services.insert(host, name.to_owned());
        Ok(service_address(host))
    }

    pub(crate) fn keep_services(&mut self, wanted: impl Fn(&str) -> bool) {
        self.services.retain(|_host, owner| wanted(owner));
    }
}

fn pod_address(node: NodeNumber, host: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, 244, node.0, host),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, node.0.into(), 0, 0, 0, host.into()),
    }
}

fn service_address(host: u16) -> Pair {
    let [high, low] = host.to_be_bytes();
    Pair { v4: Ipv4Addr::new(10, 96, high, low), v6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, host) }
}

fn wanted_host(asked: IpAddr) -> Option<u16> {
    let host = match asked {
        IpAddr::V4(v4) => u16::from_be_bytes([v4.octets()[2], v4.octets()[3]]),
        IpAddr::V6(v6) => v6.segments()[7],
    };
    let same = service_address(host).both().contains(&asked);
    (same && host != 0 && service_address(host) != DNS).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::{Addresses, NodeNumber};

    #[test]
    fn a_freed_pod_address_comes_round_last() {
        let mut addresses = Addresses::default();
        let node = NodeNumber(1);
        let (first, _) = addresses.pod(node, "a").unwrap();
        addresses.free_pod(node, first);
        let (second, pair) = addresses.pod(node, "b").unwrap();
        assert_ne!(first, second);
        assert_eq!(pair.v4.to_string(), format!("10.244.1.{second}"));
        for index in 0..251 {
            addresses.pod(node, &index.to_string()).unwrap();
        }
        assert!(addresses.pod(node, "one too many").is_err());
    }

    #[test]
    fn services_keep_their_address_and_may_ask_for_one() {
        let mut addresses = Addresses::default();
        let web = addresses.service("shop/web", None).unwrap();
        assert_eq!(addresses.service("shop/web", None).unwrap(), web);
        let asked = "10.96.7.9".parse().unwrap();
        assert_eq!(addresses.service("shop/fixed", Some(asked)).unwrap().v4.to_string(), "10.96.7.9");
        assert!(addresses.service("shop/other", Some(asked)).is_err());
        assert!(addresses.service("shop/far", Some("192.0.2.1".parse().unwrap())).is_err());
    }
}
