//! Captured packets as TCP segments, and segments as the bytes each side sent. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Sender; port 0 for what has no ports.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// IP protocol number (6 is TCP, 17 is UDP).
    pub protocol: u8,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's flags.
    pub flags: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// TCP's flag for a reset.
pub const RESET: u8 = 0x04;
const SYN: u8 = 0x02;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// All packets of a capture.
#[derive(Clone, Debug, Default)]
pub struct Packets {
    /// IP packets in order.
    pub all: Vec<Packet>,
    /// Packets for which there was no room.
    pub dropped: u64,
    /// Frames that carry no IP (neighbour discovery of IPv4 and the like).
    pub other: u64,
}

impl Packet {
    /// Reads an Ethernet frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
            0x0800 => ipv4(frame.get(14..)?),
            0x86dd => ipv6(frame.get(14..)?),
            _ => None,
        }
    }

    /// Whether it is TCP between these two addresses, either way.
    pub fn between(&self, one: IpAddr, other: IpAddr) -> bool {
        let ends = (self.from.ip(), self.to.ip());
        self.protocol == TCP && (ends == (one, other) || ends == (other, one))
    }

    /// Whether either end has this port.
    pub fn on_port(&self, port: u16) -> bool {
        self.from.port() == port || self.to.port() == port
    }
}

fn ipv4(packet: &[u8]) -> Option<Packet> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let address =
        |at: usize| packet.get(at..at + 4)?.try_into().ok().map(|bytes: [u8; 4]| Ipv4Addr::from(bytes));
    // A total of 0 is a large packet that the card would have cut.
    let end = if total == 0 { packet.len() } else { total.min(packet.len()) };
    transport(address(12)?.into(), address(16)?.into(), *packet.get(9)?, packet.get(header..end)?)
}

fn ipv6(packet: &[u8]) -> Option<Packet> {
    let address =
        |at: usize| packet.get(at..at + 16)?.try_into().ok().map(|bytes: [u8; 16]| Ipv6Addr::from(bytes));
    let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
    let end = if length == 0 { packet.len() } else { (40 + length).min(packet.len()) };
    transport(address(8)?.into(), address(24)?.into(), *packet.get(6)?, packet.get(40..end)?)
}

fn transport(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Option<Packet> {
    let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let (from_port, to_port, sequence, flags, start) = match protocol {
        TCP => {
            let sequence = u32::from(number(4)?) << 16 | u32::from(number(6)?);
            (number(0)?, number(2)?, sequence, *body.get(13)?, usize::from(body.get(12)? >> 4) * 4)
        }
        UDP => (number(0)?, number(2)?, 0, 0, 8),
        _ => (0, 0, 0, 0, 0),
    };
    let payload = body.get(start..).unwrap_or_default().to_vec();
    Some(Packet {
        from: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
        protocol,
        sequence,
        flags,
        payload,
    })
}

impl Packets {
    /// TCP packets with payload between two addresses that a condition holds for.
    pub fn payloads<'a>(
        &'a self,
        one: IpAddr,
        other: IpAddr,
        wanted: impl Fn(&Packet) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Packet> {
        self.all
            .iter()
            .filter(move |packet| packet.between(one, other) && !packet.payload.is_empty() && wanted(packet))
    }

    /// Whether this text crossed the wire in any packet.
    pub fn shows(&self, text: &str) -> bool {
        self.all
            .iter()
            .any(|packet| packet.payload.windows(text.len().max(1)).any(|window| window == text.as_bytes()))
    }

    /// What each side of every TCP connection sent, in order, by (from, to). A connection reused from the same port follows
    /// the one before it.
    pub fn streams(&self) -> BTreeMap<(SocketAddr, SocketAddr), Vec<Conversation>> {
        let mut flows: BTreeMap<_, Vec<Flow>> = BTreeMap::new();
        for packet in self.all.iter().filter(|packet| packet.protocol == TCP) {
            let flows = flows.entry((packet.from, packet.to)).or_default();
            if packet.flags & SYN != 0
                && flows.last().is_none_or(|flow| flow.first != packet.sequence.wrapping_add(1))
            {
                flows.push(Flow {
                    first: packet.sequence.wrapping_add(1),
                    whole: true,
                    parts: BTreeMap::new(),
                });
            }
            if packet.payload.is_empty() {
                continue;
            }
            if flows.is_empty() {
                flows.push(Flow { first: packet.sequence, whole: false, parts: BTreeMap::new() });
            }
            if let Some(flow) = flows.last_mut() {
                flow.add(packet);
            }
        }
        flows.into_iter().map(|(ends, flows)| (ends, flows.into_iter().map(Flow::join).collect())).collect()
    }
}

/// What one side of a TCP connection sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The bytes up to the first one missing.
    pub bytes: Vec<u8>,
    /// Whether it starts at the connection's start.
    pub from_start: bool,
    /// Whether bytes were missing.
    pub gap: bool,
}

struct Flow {
    first: u32,
    whole: bool,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Flow {
    fn add(&mut self, packet: &Packet) {
        let offset = packet.sequence.wrapping_sub(self.first);
        let known = self.parts.get(&offset).map_or(0, Vec::len);
        if packet.payload.len() > known {
            self.parts.insert(offset, packet.payload.clone());
        }
    }

    fn join(self) -> Conversation {
        let mut bytes: Vec<u8> = Vec::new();
        let mut gap = false;
        for (offset, part) in self.parts {
            let offset = offset as usize;
            if offset > bytes.len() {
                gap = true;
                break;
            }
            // A segment sent again may bring more than the first time.
            let new = part.get(bytes.len() - offset..).unwrap_or_default();
            bytes.extend_from_slice(new);
        }
        Conversation { bytes, from_start: self.whole, gap }
    }
}

#[cfg(test)]
mod tests {
    use super::{Packet, Packets};

    /// An Ethernet frame with a TCP segment from 10.0.0.1:1000 to 10.0.0.2:80.
    fn frame(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(u16::to_be_bytes(40 + payload.len() as u16));
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x03, 0xe8, 0, 80]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn segments_become_what_was_sent() {
        let frames =
            [(9, 2, ""), (13, 0, "lo"), (10, 0, "hel"), (10, 0, "hel"), (15, 0, " you"), (30, 0, "late")];
        let all: Vec<_> = frames
            .iter()
            .map(|(sequence, flags, text)| Packet::parse(&frame(*sequence, *flags, text.as_bytes())).unwrap())
            .collect();
        let packets = Packets { all, ..Packets::default() };
        let streams = packets.streams();
        let conversation = &streams.values().next().unwrap()[0];
        assert_eq!(String::from_utf8_lossy(&conversation.bytes), "hello you");
        assert!(conversation.from_start && conversation.gap);
        assert!(packets.shows("lat") && !packets.shows("lot"));
        let ends = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(packets.payloads(ends[1], ends[0], |packet| packet.on_port(80)).count(), 5);
    }

    #[test]
    fn cut_frames_are_no_packets() {
        let whole = frame(1, 0, b"x");
        for length in 0..34 {
            assert_eq!(Packet::parse(&whole[..length]), None, "{length}");
        }
    }
}
