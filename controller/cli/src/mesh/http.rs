//! Asking a running program at its admin port.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use controller::snapshot::Snapshot;
use serde::Deserialize;

use crate::failure::Failure;

/// For connecting, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes.
const LIMIT: u64 = 1 << 30;

/// The path at which a controller shows what proxies are told.
pub(crate) const SNAPSHOT: &str = "/debug/snapshot";

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Body.
    pub(crate) body: String,
}

/// A GET request of HTTP/1.0, so that the end of the connection is the end of the answer.
pub(crate) fn get(address: &str, path: &str) -> Result<Answer, Failure> {
    let mend =
        || format!("is its admin port forwarded? kubectl port-forward -n ambit-system POD {}", port(address));
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::new(format!("cannot ask the program at {address}: {cause}"), mend())
    };
    let text = ask(address, path).map_err(|cause| failed(&cause))?;
    parse(&text).ok_or_else(|| failed(&"it does not speak HTTP"))
}

/// What a controller tells proxies, out of its answer.
pub(crate) fn snapshot(answer: &Answer) -> Result<Snapshot, Failure> {
    let other = |why: &dyn std::fmt::Display| {
        let mend = "name the admin port of the controller (15014 unless set otherwise): --live ADDRESS";
        Failure::new(format!("what answers is no controller: {why}"), mend)
    };
    if answer.status != 200 {
        return Err(other(&format!("status {} for {SNAPSHOT}", answer.status)));
    }
    let dump = serde_json::from_str(&answer.body).map_err(|error| other(&error))?;
    Snapshot::from_dump(&dump).map_err(|error| other(&error))
}

fn ask(address: &str, path: &str) -> io::Result<String> {
    let to = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer)?;
    Ok(answer)
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_is_none() {
        let answer = parse("HTTP/1.0 500 Oops\r\nA: b\r\n\r\nnot ready\n").unwrap();
        assert_eq!(answer, Answer { status: 500, body: "not ready\n".to_owned() });
        assert_eq!(parse("SSH-2.0"), None);
        for (status, body) in [(404, ""), (200, "not JSON"), (200, "{}")] {
            let failure = snapshot(&Answer { status, body: body.to_owned() }).unwrap_err().to_string();
            assert!(failure.contains("no controller") && failure.contains("--live"), "{failure}");
        }
    }
}
