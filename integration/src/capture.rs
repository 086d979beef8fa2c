//! Packets on the wire between the nodes: listening, and reading what was heard.

pub mod packet;
pub mod tls;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::error::LabError;
use crate::network::LINK;
use crate::space::Space;
use packet::{Packet, Packets};

/// Most bytes of packets kept.
const ROOM: usize = 256 << 20;
/// Receive buffer asked of the kernel.
const KERNEL_ROOM: usize = 64 << 20;
const LARGEST: usize = 128 << 10;
/// Every Ethernet protocol, in the order of the wire.
const ALL: i32 = (0x0003_u16).to_be() as i32;
/// Offset at which a packet filter finds the interface's number.
const INTERFACE: u32 = (-0x1000_i32 + 8) as u32;

/// A running capture; packets are kept in memory.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Packets>,
}

impl Capture {
    /// Starts listening on a node's interface towards the other nodes, both directions.
    pub fn start(node: &Space) -> Result<Self, LabError> {
        let socket = node.run(|| open(LINK));
        Ok(Self::on(socket.map_err(LabError::system("listening on the link"))?))
    }

    /// The same on an interface in a network namespace that is given by its file.
    pub fn start_at(namespace: &Path, link: &str) -> Result<Self, LabError> {
        let failed = || LabError::system(format!("listening on {link} in {}", namespace.display()));
        let namespace = File::open(namespace).map_err(failed())?;
        let link = link.to_owned();
        // The thread that goes there is no use to anybody else afterwards.
        let thread = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            open(&link)
        });
        let socket = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Self::on(socket.map_err(failed())?))
    }

    fn on(socket: Socket) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || listen(&socket, &stopped));
        Capture { stop, thread }
    }

    /// Ends the capture and returns its packets.
    pub fn finish(self) -> Packets {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A socket that hears what goes through an interface of the calling thread's network namespace.
fn open(link: &str) -> std::io::Result<Socket> {
    let link = nix::net::if_::if_nametoindex(link)?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL)))?;
    // Load the interface's number, keep the packet when it is the link's.
    socket.attach_filter(&[
        SockFilter::new(0x20, 0, 0, INTERFACE),
        SockFilter::new(0x15, 0, 1, link),
        SockFilter::new(0x06, 0, 0, LARGEST as u32),
        SockFilter::new(0x06, 0, 0, 0),
    ])?;
    // The kernel gives what it allows; a capture that lost packets says so.
    let _given = socket.set_recv_buffer_size(KERNEL_ROOM);
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

fn listen(socket: &Socket, stop: &AtomicBool) -> Packets {
    let mut buffer = vec![0; LARGEST];
    let mut socket = socket;
    let mut packets = Packets::default();
    let (mut bytes, mut closed) = (0, false);
    loop {
        // Looked at before reading, so that what had arrived by then is still read.
        let last = stop.load(Ordering::Relaxed);
        if last && !closed {
            // On a busy link there would always be one packet more. Where this fails the link has to fall silent.
            let _closed = socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]);
            closed = true;
        }
        match socket.read(&mut buffer) {
            Ok(length) => match Packet::parse(&buffer[..length]) {
                Some(_packet) if bytes + length > ROOM => packets.dropped += 1,
                Some(packet) => {
                    bytes += length;
                    packets.all.push(packet);
                }
                None => packets.other += 1,
            },
            Err(_idle) if last => return packets,
            Err(_idle) => {}
        }
    }
}
