//! One connection of a load and one request on it.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Connections, Load, Protocol};
use crate::executor::Here;
use crate::grpc;

/// Where a request stands in the place of its number.
const NUMBER: &str = "{n}";

/// A connection; what drives it ends with it.
pub(super) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What came back.
pub(super) struct Answered {
    /// Status as it is counted.
    pub(super) status: String,
    /// What the answer says of its server's version.
    pub(super) version: Option<String>,
    /// Whether the connection serves again.
    pub(super) reusable: bool,
    good: bool,
    body: Bytes,
}

/// Bytes of a body that are shown.
const SHOWN: usize = 500;

impl Answered {
    /// What the body begins with.
    pub(super) fn beginning(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN)]).into_owned()
    }

    /// Whether this is what the load asked for.
    pub(super) fn check(&self, load: &Load) -> Result<(), String> {
        let expected = load.expect.as_bytes();
        if !self.good {
            Err(format!("status {}", self.status))
        } else if !expected.is_empty() && !self.body.windows(expected.len()).any(|part| part == expected) {
            Err("wrong body".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Connection {
    pub(super) async fn open(load: &Load) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("connect: {}", error.kind());
        let stream = TcpStream::connect(load.to).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let stream = TokioIo::new(stream);
        if load.protocol == Protocol::Http1 {
            let (sender, connection) = http1::handshake(stream).await.map_err(named)?;
            // Its error is that of the request on it.
            ambit_process::spawn::spawn_local("connection", async { drop(connection.await) });
            return Ok(Connection::Http1(sender));
        }
        let (sender, connection) = http2::handshake(Here, stream).await.map_err(named)?;
        ambit_process::spawn::spawn_local("connection", async { drop(connection.await) });
        Ok(Connection::Http2(sender))
    }

    /// Whether it takes another request.
    pub(super) async fn is_open(&mut self) -> bool {
        match self {
            Connection::Http1(sender) => sender.ready().await.is_ok(),
            Connection::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(super) async fn ask(&mut self, load: &Load, number: u64) -> Result<Answered, String> {
        let request = request(load, number)?;
        let response = match self {
            Connection::Http1(sender) => {
                sender.ready().await.map_err(named)?;
                sender.send_request(request).await
            }
            Connection::Http2(sender) => {
                sender.ready().await.map_err(named)?;
                sender.send_request(request).await
            }
        };
        read(load.protocol, response.map_err(named)?).await
    }
}

fn request(load: &Load, number: u64) -> Result<Request<Full<Bytes>>, String> {
    let grpc = load.protocol == Protocol::Grpc;
    let body = if grpc { grpc::framed(&load.body) } else { load.body.clone() };
    let wrong = |error: http::Error| format!("request: {error}");
    let uri: Uri = match load.protocol {
        Protocol::Http1 => load.path.parse().map_err(|error| wrong(http::Error::from(error)))?,
        Protocol::H2c | Protocol::Grpc => {
            let builder = Uri::builder().scheme("http").authority(load.host.as_str());
            builder.path_and_query(load.path.as_str()).build().map_err(wrong)?
        }
    };
    let mut request = Request::new(Full::new(body));
    *request.uri_mut() = uri;
    *request.method_mut() = if grpc { Method::POST } else { load.method.clone() };
    let headers = request.headers_mut();
    *headers = numbered(&load.headers, number);
    match load.protocol {
        Protocol::Http1 => {
            let host = HeaderValue::from_str(&load.host).map_err(|error| wrong(error.into()))?;
            headers.entry(HOST).or_insert(host);
            if load.connections == Connections::OnePerRequest {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Protocol::H2c => {}
        Protocol::Grpc => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    Ok(request)
}

fn numbered(headers: &HeaderMap, number: u64) -> HeaderMap {
    let mut headers = headers.clone();
    for value in headers.values_mut() {
        let with_number = value
            .to_str()
            .ok()
            .filter(|text| text.contains(NUMBER))
            .map(|text| text.replace(NUMBER, &number.to_string()));
        if let Some(text) = with_number.and_then(|text| text.parse().ok()) {
            *value = text;
        }
    }
    headers
}

async fn read(protocol: Protocol, response: Response<Incoming>) -> Result<Answered, String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(named)?;
    let trailed = body.trailers().and_then(|trailers| trailers.get(grpc::STATUS)).cloned();
    let body = body.to_bytes();
    let close =
        head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let version = head.headers.get(crate::standin::VERSION).and_then(|version| version.to_str().ok());
    let (version, reusable) = (version.map(str::to_owned), !close);
    let http = head.status.as_u16();
    if protocol != Protocol::Grpc || http != 200 {
        return Ok(Answered { status: http.to_string(), version, reusable, good: http == 200, body });
    }
    let status = trailed.or_else(|| head.headers.get(grpc::STATUS).cloned());
    let Some(status) = status.as_ref().and_then(|status| status.to_str().ok()) else {
        return Err("no grpc-status".to_owned());
    };
    Ok(Answered { status: format!("grpc {status}"), version, reusable, good: status == "0", body })
}

/// A failure in few words, so that failures can be counted by them.
pub(crate) fn named(error: hyper::Error) -> String {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return format!("read: {}", io.kind());
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "closed early".to_owned();
    }
    if error.is_parse() { "no HTTP answer".to_owned() } else { format!("broken off: {error}") }
}
