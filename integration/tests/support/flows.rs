//! What a connection must carry, whatever it passes: bytes whole and in order, half-closes, resets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_lab::{Lab, PodHandle};
use libtest_mimic::Failed;

use crate::support::{Check, check};

/// Long enough for a busy machine, short enough to see a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes sent with one number at their head.
const BLOCK: usize = 64 << 10;

/// Both ends of one connection.
pub(crate) struct Ends {
    /// The end that dialled.
    pub(crate) client: TcpStream,
    /// The end the application accepted.
    pub(crate) app: TcpStream,
}

/// Which end acts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// The end that dialled.
    Client,
    /// The end that accepted.
    App,
}

/// A way from clients to an application of the test's own.
#[derive(Clone)]
pub(crate) struct Way {
    lab: Arc<Lab>,
    from: PodHandle,
    to: SocketAddr,
    listener: Arc<TcpListener>,
}

impl Way {
    /// An application in pod `at`, reached from pod `from` by dialling it.
    pub(crate) fn direct(lab: &Arc<Lab>, from: &PodHandle, at: &PodHandle) -> Result<Self, Failed> {
        let listener = listen(lab, at)?;
        let to = SocketAddr::new(at.address.v4.into(), listener.local_addr()?.port());
        Ok(Way { lab: Arc::clone(lab), from: from.clone(), to, listener: Arc::new(listener) })
    }

    /// The same application by way of something at `to` that forwards.
    pub(crate) fn by(mut self, to: SocketAddr) -> Self {
        self.to = to;
        self
    }

    /// The application's port.
    pub(crate) fn port(&self) -> Result<u16, Failed> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Dials.
    pub(crate) fn dial(&self) -> Result<TcpStream, Failed> {
        let to = self.to;
        let client = self.lab.in_pod(&self.from, move || TcpStream::connect_timeout(&to, PATIENCE))?;
        patient(&client)?;
        Ok(client)
    }

    /// Takes the next connection that arrives at the application.
    pub(crate) fn accept(&self) -> Result<TcpStream, Failed> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.listener.accept() {
                Ok((app, _peer)) => {
                    app.set_nonblocking(false)?;
                    patient(&app)?;
                    return Ok(app);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(format!("no connection arrived at the application: {error}").into()),
            }
        }
    }

    /// One connection with both its ends. One at a time, else the ends may be of two connections.
    pub(crate) fn open(&self) -> Result<Ends, Failed> {
        let client = self.dial()?;
        Ok(Ends { client, app: self.accept()? })
    }
}

fn listen(lab: &Lab, at: &PodHandle) -> Result<TcpListener, Failed> {
    let listener = lab.in_pod(at, || TcpListener::bind("0.0.0.0:0"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn patient(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

impl Ends {
    /// A question and its answer.
    pub(crate) fn talk(&mut self) -> Check {
        say(&mut self.client, &mut self.app, b"question")?;
        say(&mut self.app, &mut self.client, b"answer")
    }

    /// One direction ends, the other goes on and then ends cleanly too.
    pub(crate) fn half_close(self, first: First) -> Check {
        let (mut one, mut other) = self.last_words(first)?;
        say(&mut other, &mut one, b"goes on")?;
        other.shutdown(Shutdown::Write)?;
        let after = one.read(&mut [0; 1])?;
        check(after == 0, || format!("{first:?} ended first, then {after} bytes more"))
    }

    /// One direction ends, and everything that was said arrives before that end. Returns both, that end first.
    pub(crate) fn last_words(mut self, first: First) -> Result<(TcpStream, TcpStream), Failed> {
        self.talk()?;
        let (mut one, mut other) = self.in_order(first);
        one.write_all(b"last words")?;
        one.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        other.read_to_string(&mut text)?;
        check(text == "last words", || format!("{first:?} ended after {text:?}"))?;
        Ok((one, other))
    }

    /// An end is reset: what the other end sees.
    pub(crate) fn reset(mut self, first: First) -> Result<std::io::Result<usize>, Failed> {
        self.talk()?;
        let (one, mut other) = self.in_order(first);
        reset(one)?;
        Ok(other.read(&mut [0; 1]))
    }

    fn in_order(self, first: First) -> (TcpStream, TcpStream) {
        match first {
            First::Client => (self.client, self.app),
            First::App => (self.app, self.client),
        }
    }
}

/// Ends a connection with a reset.
pub(crate) fn reset(stream: TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

fn say(from: &mut TcpStream, to: &mut TcpStream, words: &[u8]) -> Check {
    from.write_all(words)?;
    let mut heard = vec![0; words.len()];
    to.read_exact(&mut heard)?;
    check(heard == words, || format!("{words:?} arrived as {heard:?}"))
}

/// Sends `size` bytes (whole blocks of 64 KiB) one way and checks each where it arrives; returns bytes a second.
pub(crate) fn carry(from: &TcpStream, to: &TcpStream, size: u64) -> Result<f64, Failed> {
    let blocks = size / BLOCK as u64;
    let mut out = from.try_clone()?;
    let start = Instant::now();
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let mut block = pattern();
        for number in 0..blocks {
            block[..8].copy_from_slice(&number.to_be_bytes());
            out.write_all(&block)?;
        }
        Ok(())
    });
    let arrived = arrive(to.try_clone()?, blocks);
    let sent = writer.join().map_err(|_panic| Failed::from("the writer failed"))?;
    arrived?;
    sent?;
    Ok((blocks * BLOCK as u64) as f64 / start.elapsed().as_secs_f64())
}

fn arrive(mut from: TcpStream, blocks: u64) -> Check {
    let (mut expected, mut block) = (pattern(), vec![0; BLOCK]);
    for number in 0..blocks {
        from.read_exact(&mut block).map_err(|error| format!("block {number} of {blocks}: {error}"))?;
        expected[..8].copy_from_slice(&number.to_be_bytes());
        check(block == expected, || format!("block {number} of {blocks} arrived changed"))?;
    }
    Ok(())
}

/// A block in which no stretch repeats soon, so that bytes lost, doubled or swapped show.
fn pattern() -> Vec<u8> {
    (0..BLOCK as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Open connections from a pod's network namespace to port 15008.
pub(crate) fn tunnels(lab: &Lab, pod: &PodHandle) -> Result<usize, Failed> {
    let text = lab.in_pod(pod, || {
        let of = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        Ok::<_, std::io::Error>(of("tcp")? + &of("tcp6").unwrap_or_default())
    })?;
    // Columns: slot, local, remote, state; 3AA0 is 15008 and 01 is ESTABLISHED.
    let open = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(2).is_some_and(|remote| remote.ends_with(":3AA0")) && columns.get(3) == Some(&"01")
    };
    Ok(text.lines().filter(open).count())
}
