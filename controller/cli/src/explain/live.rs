//! What a running controller tells the data plane, asked at its admin port.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use controller::snapshot::{DumpError, Snapshot};

/// For connecting, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest snapshot that is read.
const LIMIT: u64 = 1 << 30;

/// Why a controller cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum LiveError {
    #[error("cannot ask the controller at {address}: {cause}; is its admin port forwarded?")]
    Unreachable { address: String, cause: io::Error },
    #[error("the controller at {address} answers {says}")]
    Answer { address: String, says: String },
    #[error(transparent)]
    Dump(#[from] DumpError),
}

/// The snapshot of the controller at an address.
pub(super) fn fetch(address: &str) -> Result<Snapshot, LiveError> {
    let answer =
        ask(address).map_err(|cause| LiveError::Unreachable { address: address.to_owned(), cause })?;
    let refused = |says: String| LiveError::Answer { address: address.to_owned(), says };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| refused("no HTTP".to_owned()))?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) != Some("200") {
        return Err(refused(line.to_owned()));
    }
    let dump = serde_json::from_str(body).map_err(|error| refused(error.to_string()))?;
    Ok(Snapshot::from_dump(&dump)?)
}

/// HTTP/1.0, so that the end of the connection is the end of the answer.
fn ask(address: &str) -> io::Result<String> {
    let to = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /debug/snapshot HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer)?;
    Ok(answer)
}
