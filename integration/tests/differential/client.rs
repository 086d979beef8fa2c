//! Sends requests as they are, byte for byte, and reads what comes back and what the backend saw.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::table::Request;

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Headers = BTreeMap<String, Vec<String>>;

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: String,
    /// What the backend says it got; none where no backend answered.
    pub(crate) seen: Option<Value>,
}

/// Where a table is served, and how one gets there.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) to: SocketAddr,
    /// To Envoy the client says itself who it is; in the mesh its ztunnel does.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A connection that is used again as long as both sides like.
pub(crate) struct Caller {
    way: Way,
    open: Option<BufReader<Box<dyn Wire>>>,
}

impl Caller {
    pub(crate) fn new(way: Way) -> Self {
        Caller { way, open: None }
    }

    /// Sends one request. A connection that was closed between two requests is opened again.
    pub(crate) fn ask(&mut self, request: &Request) -> std::io::Result<Answer> {
        let used = self.open.is_some();
        match self.try_ask(request) {
            Err(error) if used && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::InvalidData) => {
                self.try_ask(request)
            }
            outcome => outcome,
        }
    }

    fn try_ask(&mut self, request: &Request) -> std::io::Result<Answer> {
        let mut wire = match self.open.take() {
            Some(wire) => wire,
            None => BufReader::new(self.connect()?),
        };
        wire.get_mut().write_all(&written(request))?;
        wire.get_mut().flush()?;
        let answer = read(&mut wire)?;
        let closes =
            answer.headers.get("connection").is_some_and(|values| values.iter().any(|one| one == "close"));
        if !closes {
            self.open = Some(wire);
        }
        Ok(answer)
    }

    fn connect(&self) -> std::io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect_timeout(&self.way.to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.way.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(crate::envoy::NAME).map_err(Error::other)?;
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(Error::other)?;
        Ok(Box::new(StreamOwned::new(session, stream)))
    }
}

fn written(request: &Request) -> Vec<u8> {
    let Request { method, target, authority, .. } = request;
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\n");
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // The others go without a body.
    match *method {
        "POST" | "PUT" => text.push_str("content-length: 4\r\n\r\nbody"),
        _ => text.push_str("\r\n"),
    }
    text.into_bytes()
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

fn line(wire: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    match wire.read_line(&mut line)? {
        0 => Err(Error::new(ErrorKind::UnexpectedEof, "closed")),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

fn read(wire: &mut impl BufRead) -> std::io::Result<Answer> {
    let first = line(wire)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| wrong(&first))?;
    let mut headers = Headers::new();
    loop {
        let header = line(wire)?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
    }
    let mut body = Vec::new();
    let first = |name: &str| headers.get(name).and_then(|values| values.first());
    if first("transfer-encoding").is_some() {
        loop {
            let size =
                usize::from_str_radix(line(wire)?.trim(), 16).map_err(|_no_number| wrong("a chunk"))?;
            let mut chunk = vec![0; size + 2];
            wire.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = first("content-length") {
        body = vec![0; length.parse().map_err(|_no_number| wrong("a length"))?];
        wire.read_exact(&mut body)?;
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let seen = serde_json::from_str(&body).ok();
    Ok(Answer { status, headers, body, seen })
}
