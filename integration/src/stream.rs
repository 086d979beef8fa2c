//! Long-lived streams for "none is reset": numbers go to an echo server and must come back in order.

mod http;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use http::Call;

use crate::image::flag;

/// A running stream; see [`Stream::finish`].
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Stream {
    /// Opens a stream on the calling thread and keeps it busy, one number every `pause`, on a thread that stays in the
    /// caller's network namespace.
    pub fn open(to: SocketAddr, pause: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || keep_busy(stream, pause, &stopped, &counted));
        Ok(Stream { stop, rounds, thread })
    }

    /// Numbers that have come back so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Whether the stream has ended before it was asked to.
    pub fn broken(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the stream and returns how many numbers went both ways, or what went wrong.
    pub fn finish(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_panic| Err("the stream's thread failed".to_owned()))
    }
}

fn keep_busy(
    mut stream: TcpStream,
    pause: Duration,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Result<u64, String> {
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        stream
            .write_all(&number.to_be_bytes())
            .map_err(|error| format!("writing number {number}: {error}"))?;
        let mut back = [0; 8];
        stream.read_exact(&mut back).map_err(|error| format!("reading number {number}: {error}"))?;
        if u64::from_be_bytes(back) != number {
            return Err(format!("number {number} came back as {}", u64::from_be_bytes(back)));
        }
        number += 1;
        rounds.store(number, Ordering::Relaxed);
        std::thread::sleep(pause);
    }
    stream.shutdown(std::net::Shutdown::Write).map_err(|error| format!("closing: {error}"))?;
    match stream.read(&mut [0; 1]) {
        Ok(0) => Ok(number),
        Ok(_) => Err("more came back than was sent".to_owned()),
        Err(error) => Err(format!("waiting for the other end to close: {error}")),
    }
}

/// The command: `stream --to=host:port [--seconds=N] [--pause=MS] [--grpc | --websocket] [--host=H] [--path=P]`.
pub async fn main(arguments: &[String]) -> std::io::Result<()> {
    let wrong = |what: &str| std::io::Error::other(what.to_owned());
    let number =
        |name: &str, default: u64| flag(arguments, name).map_or(Some(default), |value| value.parse().ok());
    let to =
        flag(arguments, "to").ok_or_else(|| wrong("--to=host:port is missing"))?.to_socket_addrs()?.next();
    let seconds = number("seconds", 10).ok_or_else(|| wrong("--seconds is no number"))?;
    let pause = number("pause", 10).ok_or_else(|| wrong("--pause is no number"))?;
    let (to, pause) = (to.ok_or_else(|| wrong("--to has no address"))?, Duration::from_millis(pause));
    let mut call = Call::new(to, pause);
    call.host = flag(arguments, "host").map_or(call.host, str::to_owned);
    call.path = flag(arguments, "path").map_or(call.path, str::to_owned);
    let has = |name: &str| arguments.iter().any(|word| word == name);
    let stream = match (has("--grpc"), has("--websocket")) {
        (true, _) => call.grpc()?,
        (false, true) => call.websocket()?,
        (false, false) => Stream::open(to, pause)?,
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    println!("{} numbers went both ways", stream.finish().map_err(std::io::Error::other)?);
    Ok(())
}
