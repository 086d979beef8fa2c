//! Many who send, never take what comes back, and stay.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ambit_lab::{Lab, PodHandle};
use socket2::{Domain, Socket, Type};

/// Most of them, and those that may be turned away before nobody comes any more.
const MOST: usize = 1600;
const ENOUGH: usize = 4000;
/// Threads that bring them.
const DOORS: usize = 16;
/// Longest time to connect.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time after which what cannot be sent stays unsent.
const STUCK: Duration = Duration::from_millis(100);
/// What each sends at most, which is more than all buffers on the way hold.
const PIECE: usize = 64 << 10;
const PIECES: usize = 256;
/// What the kernel keeps for each of them: little, so that what they send and do not take is the proxies' to keep.
const KERNEL: usize = 32 << 10;
/// Pause after somebody was turned away.
const PAUSE: Duration = Duration::from_millis(5);

/// A crowd before one server; leaves when told.
pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    doors: Vec<JoinHandle<(usize, usize)>>,
}

impl Crowd {
    /// Begins to gather from a pod.
    pub(crate) fn gather(lab: &Lab, from: &PodHandle, to: SocketAddr) -> Self {
        let over: Arc<AtomicBool> = Arc::default();
        let door = |_| {
            let over = Arc::clone(&over);
            lab.thread_in(from, move || stand(to, &over))
        };
        Crowd { doors: (0..DOORS).map(door).collect(), over }
    }

    /// Leaves; how many stood there and how many were turned away.
    pub(crate) fn leave(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        let counts = self.doors.into_iter().map(|door| door.join().unwrap_or_default());
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

fn stand(to: SocketAddr, over: &AtomicBool) -> (usize, usize) {
    let (mut held, mut refused) = (Vec::new(), 0);
    while !over.load(Ordering::Relaxed) {
        if held.len() >= MOST / DOORS || refused >= ENOUGH / DOORS {
            std::thread::sleep(PAUSE);
            continue;
        }
        match shout(to) {
            Ok(stream) => held.push(stream),
            Err(_turned_away) => {
                refused += 1;
                std::thread::sleep(PAUSE);
            }
        }
    }
    (held.len(), refused)
}

/// Sends what is to be sent back for as long as something is taken, and reads nothing.
fn shout(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_recv_buffer_size(KERNEL)?;
    socket.set_send_buffer_size(KERNEL)?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(STUCK))?;
    let length = PIECE * PIECES;
    write!(stream, "POST /echo HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\n\r\n")?;
    for _ in 0..PIECES {
        match stream.write_all(&[b'x'; PIECE]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            sent => sent?,
        }
    }
    Ok(stream)
}
