//! What the demo reads on the link between the nodes.

use super::promise::{Broken, ensure};
use super::shop::{SECRET, Shop, families};
use crate::address::NodeNumber;
use crate::capture::Capture;
use crate::capture::packet::Packets;
use crate::capture::tls::{APPLICATION, Hello, TLS13, X25519MLKEM768, client_hello, records, server_hello};
use crate::error::LabError;

/// Port of tunnels.
const TUNNEL: u16 = 15008;

/// What was seen between two pods.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// TLS records with encrypted content.
    pub(crate) records: usize,
    /// Packets with payload on other ports.
    pub(crate) others: usize,
    /// Packets in which the cart's answer can be read.
    pub(crate) readable: usize,
    /// ClientHellos, and whether each offered what it must.
    pub(crate) hellos: Vec<bool>,
    /// Whether something on the tunnel's port is not TLS 1.3.
    pub(crate) strange: Option<String>,
}

/// Listens on node 1's side of the link.
pub(crate) fn listen(shop: &Shop<'_>) -> Result<Capture, LabError> {
    Capture::start(shop.lab.node(NodeNumber(1))?)
}

/// Reads a capture as far as it concerns the client and the cart.
pub(crate) fn read(shop: &Shop<'_>, packets: &Packets) -> Seen {
    let mut seen = Seen::default();
    let pairs = families(shop.client.address, shop.cart.address);
    for (client, cart) in pairs {
        seen.others += packets.payloads(client, cart, |packet| !packet.on_port(TUNNEL)).count();
    }
    let holds = |payload: &[u8]| payload.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    seen.readable = packets.all.iter().filter(|packet| holds(&packet.payload)).count();
    for ((from, to), conversations) in packets.streams() {
        let between = pairs.iter().any(|pair| *pair == (from.ip(), to.ip()) || *pair == (to.ip(), from.ip()));
        if !between || (from.port() != TUNNEL && to.port() != TUNNEL) {
            continue;
        }
        for said in conversations {
            let Some(found) = records(&said.bytes) else {
                seen.strange = Some(format!("what {from} sent to {to} is not TLS"));
                continue;
            };
            seen.records += found.iter().filter(|record| record.kind == APPLICATION).count();
            let modern = |hello: &Hello| hello.versions.contains(&TLS13);
            if let Some(hello) = client_hello(&said.bytes) {
                let first = hello.key_shares.first() == Some(&X25519MLKEM768);
                seen.hellos.push(modern(&hello) && first);
            }
            if server_hello(&said.bytes).is_some_and(|hello| !modern(&hello)) {
                seen.strange = Some(format!("{from} took another version than TLS 1.3"));
            }
        }
    }
    seen
}

impl Seen {
    /// Nothing but TLS 1.3 in tunnels.
    pub(crate) fn nothing_leaks(&self) -> Result<(), Broken> {
        ensure(self.readable == 0, || {
            format!("the cart's answer can be read in {} packets on the link", self.readable)
        })?;
        ensure(self.others == 0, || {
            format!("{} packets outside tunnels carry data between client and cart", self.others)
        })?;
        if let Some(strange) = &self.strange {
            return Err(Broken::Found(strange.clone()));
        }
        ensure(self.hellos.iter().all(|good| *good), || {
            "a ClientHello does not offer TLS 1.3 with X25519MLKEM768 first".to_owned()
        })
    }
}
