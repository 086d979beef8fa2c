//! The image ambit/echo: an HTTP server that says what it was asked, by whom and where it runs, and raw TCP beside it.
//!
//! `--port=N` HTTP (repeatable), `--tcp=N` sends back what it gets, `--sink=N` swallows and says at the end how much,
//! `--text=T` answers with T alone. `/status/N` answers with that status, `/bytes/N` with N bytes, `/delay/N` after N ms,
//! `/unready` and `/ready` switch what `/readyz` answers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::serve::{accept, http};
use crate::image::{flag, flags};

/// Largest answer of `/bytes`.
const LARGEST: usize = 64 << 20;
const BUFFER: usize = 256 << 10;

/// Serves until it is ended.
pub async fn main(arguments: &[String]) -> std::io::Result<()> {
    let ports = |name: &str| -> std::io::Result<Vec<u16>> {
        let wrong = |value: &str| std::io::Error::other(format!("--{name}={value} is no port"));
        flags(arguments, name)
            .into_iter()
            .map(|value| value.parse().map_err(|_invalid| wrong(value)))
            .collect()
    };
    let (web, echo, sink) = (ports("port")?, ports("tcp")?, ports("sink")?);
    let text = flag(arguments, "text").map(|text| Bytes::from(text.to_owned()));
    let server = Rc::new(Server { text, place: place(), unready: Cell::new(false) });
    let web = web.into_iter().map(|port| {
        let server = Rc::clone(&server);
        http(port, move |request, peer| Rc::clone(&server).answer(request, peer))
    });
    let echo = echo.into_iter().map(|port| accept(port, |stream, _peer| send_back(stream)));
    let sink = sink.into_iter().map(|port| accept(port, |stream, _peer| swallow(stream)));
    let (web, echo, sink) = (try_join_all(web), try_join_all(echo), try_join_all(sink));
    tokio::try_join!(web, echo, sink).map(drop)
}

struct Server {
    text: Option<Bytes>,
    place: BTreeMap<&'static str, String>,
    unready: Cell<bool>,
}

/// Where this program runs, as its environment says.
fn place() -> BTreeMap<&'static str, String> {
    let names = [
        ("HOSTNAME", "hostname"),
        ("POD_NAME", "pod"),
        ("POD_NAMESPACE", "namespace"),
        ("NODE_NAME", "node"),
    ];
    let value = |name: &str| {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    names.into_iter().map(|(variable, field)| (field, value(variable))).collect()
}

impl Server {
    async fn answer(self: Rc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let (command, value) =
            path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        match (command, value.parse::<usize>()) {
            ("status", Ok(code)) => {
                let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
                return plain(status.unwrap_or(StatusCode::BAD_REQUEST), Bytes::new());
            }
            ("bytes", Ok(size)) => return plain(StatusCode::OK, Bytes::from(vec![b'x'; size.min(LARGEST)])),
            ("delay", Ok(time)) => tokio::time::sleep(Duration::from_millis(time as u64)).await,
            ("ready" | "unready", _) => self.unready.set(command == "unready"),
            ("readyz", _) if self.unready.get() => {
                return plain(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
            }
            _ => {}
        }
        match &self.text {
            Some(text) => plain(StatusCode::OK, text.clone()),
            None => self.describe(request, peer).await,
        }
    }

    async fn describe(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let size = body.collect().await.map_or(0, |body| body.to_bytes().len());
        let mut told = json!({
            "method": head.method.as_str(), "path": head.uri.path_and_query().map(|path| path.as_str()),
            "host": head.headers.get("host").and_then(|host| host.to_str().ok()), "proto": format!("{:?}", head.version),
            "headers": headers(&head.headers), "peer": peer.to_string(), "bodyBytes": size,
        });
        for (field, value) in &self.place {
            told[field] = value.clone().into();
        }
        let mut response = plain(StatusCode::OK, Bytes::from(format!("{told:#}\n")));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }
}

fn headers(headers: &HeaderMap) -> Value {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        all.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    json!(all)
}

fn plain(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

async fn send_back(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The client's half is closed; ours follows.
    let _closed = stream.shutdown().await;
}

async fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0_u64;
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        total += read as u64;
    }
    // Whoever does not wait for the count does not get it.
    let _told = stream.write_all(format!("{total}\n").as_bytes()).await;
    let _closed = stream.shutdown().await;
}
