//! The bench's server: answers requests and swallows bulk data on one thread, with as few calls as it can.

use std::rc::Rc;

use ambit_process::limits::raise_open_files;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::wire::{self, CLOSE, END, Follower, Keeping, SINK, WEB};

/// Largest request.
const LARGEST: usize = 1024;

/// Bulk data taken per call.
const BULK: usize = 256 * 1024;

/// Accept queue: many clients connect at once.
const QUEUE: u32 = 4096;

/// Serves until it is ended.
pub(crate) async fn main() -> std::io::Result<()> {
    raise_open_files()?;
    let pattern: Rc<[u8]> = wire::pattern().into();
    let web = listen(WEB)?;
    let sink = listen(SINK)?;
    let web = async {
        while let Ok(stream) = accept(&web).await {
            ambit_process::spawn::spawn_local("web", async move {
                // How a client leaves is the client's affair; what it missed it says itself.
                let _ended = answer(stream).await;
            });
        }
    };
    let sink = async {
        while let Ok(stream) = accept(&sink).await {
            let follower = Follower::new(pattern.to_vec());
            ambit_process::spawn::spawn_local("sink", async move {
                let _ended = swallow(stream, follower).await;
            });
        }
    };
    tokio::join!(web, sink);
    Err(std::io::Error::other("a listener broke"))
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([0, 0, 0, 0], port).into())?;
    socket.listen(QUEUE)
}

async fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(cause) => return Err(cause),
        }
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut kept = wire::answer(Keeping::Kept);
    let mut buffer = [0; LARGEST];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        while let Some(end) = wire::find(&buffer[..filled], END) {
            let head = &buffer[..end + END.len()];
            let Some(digits) = wire::digits(head) else { return Ok(()) };
            if wire::find(head, CLOSE).is_some() {
                // The server ends first: the client's ports are free at once.
                stream.write_all(wire::answer(Keeping::Closed).with(digits)).await?;
                stream.shutdown().await?;
                return drained(stream).await;
            }
            stream.write_all(kept.with(digits)).await?;
            buffer.copy_within(end + END.len()..filled, 0);
            filled -= end + END.len();
        }
    }
}

/// Waits for the client's end, so that ours is no reset.
async fn drained(mut stream: TcpStream) -> std::io::Result<()> {
    let mut rest = [0; 16];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn swallow(mut stream: TcpStream, mut follower: Follower) -> std::io::Result<()> {
    let mut buffer = vec![0; BULK];
    let mut right = true;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => right &= follower.matches(&buffer[..read]),
        }
    }
    let verdict = if right { format!("right {}\n", follower.total) } else { "wrong\n".to_owned() };
    stream.write_all(verdict.as_bytes()).await?;
    stream.shutdown().await
}
