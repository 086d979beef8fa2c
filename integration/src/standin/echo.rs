//! The image ambit/echo: an HTTP server that says what it was asked, by whom and where it runs, and raw TCP beside it.
//!
//! `--port=N` HTTP/1.1 and HTTP/2 without TLS (repeatable), `--tcp=N` sends back what it gets, `--banner=N` speaks first
//! and then sends back, `--sink=N` swallows and says at the end how much, `--text=T` answers with T alone.
//! What can be asked of an answer stands at [`ask`], what it calls before it answers at [`calls`]; gRPC and WebSocket are recognised by their headers and sent back,
//! `/counters` says what has arrived, `/unready` and `/ready` switch what `/readyz` answers.
//!
//! With `--drain=SECONDS` SIGTERM is a request to leave: `/readyz` fails, connections are closed behind their next answer, new
//! ones are still served for so long, and what is under way then is finished.

mod ask;
mod calls;
mod counters;
mod grpc;
mod leave;
mod websocket;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::serve::{Answer, accept, http, whole};
use super::version_header;
use crate::image::{flag, flags};
use ask::Ask;
use calls::{Calls, Made};
use counters::Counters;
pub(super) use leave::DRAIN;
use leave::Leaving;

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
    let (web, echo, banner, sink) = (ports("port")?, ports("tcp")?, ports("banner")?, ports("sink")?);
    let text = flag(arguments, "text").map(|text| Bytes::from(text.to_owned()));
    let server = Rc::new(Server {
        text,
        calls: Calls::of(arguments)?,
        place: place(),
        version: version_header(),
        unready: Cell::new(false),
        leaving: Leaving::of(arguments)?,
        counters: RefCell::default(),
    });
    let greeting = format!("hello from {}\n", server.place["pod"]);
    let web = web.into_iter().map(|port| {
        let server = Rc::clone(&server);
        http(port, move |request, peer| Rc::clone(&server).answer(request, peer))
    });
    let echo = echo.into_iter().map(|port| accept(port, |stream, _peer| send_back(stream)));
    let banner = banner.into_iter().map(|port| {
        let greeting = greeting.clone();
        accept(port, move |stream, _peer| speak_first(stream, greeting.clone()))
    });
    let sink = sink.into_iter().map(|port| accept(port, |stream, _peer| swallow(stream)));
    let (web, echo) = (try_join_all(web), try_join_all(echo));
    let (banner, sink) = (try_join_all(banner), try_join_all(sink));
    let serve = async { tokio::try_join!(web, echo, banner, sink).map(drop) };
    tokio::select! {
        served = serve => served,
        () = server.leaving.asked() => Ok(()),
    }
}

struct Server {
    text: Option<Bytes>,
    calls: Calls,
    place: BTreeMap<&'static str, String>,
    version: Option<HeaderValue>,
    unready: Cell<bool>,
    leaving: Leaving,
    counters: RefCell<Counters>,
}

/// Where this program runs, as its environment says.
fn place() -> BTreeMap<&'static str, String> {
    let names = [
        ("HOSTNAME", "hostname"),
        ("POD_NAME", "pod"),
        ("POD_NAMESPACE", "namespace"),
        ("POD_IP", "ip"),
        ("POD_VERSION", "version"),
        ("NODE_NAME", "node"),
    ];
    let value = |name: &str| {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    names.into_iter().map(|(variable, field)| (field, value(variable))).collect()
}

impl Server {
    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> std::io::Result<Response<Answer>> {
        let _under_way = self.leaving.enter();
        let mut response = match request.uri().path() {
            "/counters" => plain(StatusCode::OK, self.counters.borrow().told().into()),
            "/counters/reset" => {
                self.counters.take();
                plain(StatusCode::OK, Bytes::new())
            }
            "/readyz" if self.unready.get() || self.leaving.begun() => {
                plain(StatusCode::SERVICE_UNAVAILABLE, Bytes::new())
            }
            "/readyz" => plain(StatusCode::OK, Bytes::new()),
            path => {
                if path == "/ready" || path == "/unready" {
                    self.unready.set(path == "/unready");
                }
                self.counted(request, peer).await?
            }
        };
        response.headers_mut().extend(self.version.clone().map(|version| (super::VERSION, version)));
        response.headers_mut().extend(self.leaving.farewell());
        Ok(response)
    }

    /// A request that counts, from its head to the end of its answer's head.
    async fn counted(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> std::io::Result<Response<Answer>> {
        let asked = Ask::of(&request);
        let fails = self.counters.borrow_mut().begin(&request, asked.fail_first.as_ref());
        let answer = async {
            tokio::time::sleep(asked.delay).await;
            if asked.reset == Some(ask::Reset::Head) {
                return Err(std::io::Error::other("asked to break off"));
            }
            if grpc::asked(&request) {
                return Ok(grpc::answer(request, if fails { Some(14) } else { asked.grpc_status }));
            }
            if fails {
                return Ok(plain(asked.fail_status, Bytes::from_static(b"asked to fail\n")));
            }
            if let Some(response) = websocket::upgrade(&request) {
                websocket::serve(request);
                return Ok(response);
            }
            let made = self.calls.make(&request).await;
            let mut response = if asked.sends_back {
                Response::new(ask::sent_back(request))
            } else if let Some(size) = asked.bytes {
                plain(StatusCode::OK, Bytes::from(vec![b'x'; size]))
            } else if asked.bare {
                plain(StatusCode::OK, Bytes::new())
            } else if let Some(text) = &self.text {
                plain(StatusCode::OK, text.clone())
            } else {
                self.describe(request, peer, made.as_ref()).await
            };
            if made.is_some_and(|made| !made.all_good()) {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            Ok(asked.dress(response))
        };
        let response = answer.await;
        self.counters.borrow_mut().end(response.as_ref().map_or(0, |response| response.status().as_u16()));
        response
    }

    async fn describe(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        made: Option<&Made>,
    ) -> Response<Answer> {
        let (head, mut body) = request.into_parts();
        let (mut size, mut hash) = (0, Context::new(&SHA256));
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                size += data.len();
                hash.update(data);
            }
        }
        let host = head.headers.get("host").and_then(|host| host.to_str().ok());
        let hash: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut told = json!({
            "method": head.method.as_str(), "path": head.uri.path_and_query().map(|path| path.as_str()),
            // HTTP/2 carries it with the address.
            "host": host.or(head.uri.authority().map(|authority| authority.as_str())),
            "proto": format!("{:?}", head.version), "headers": headers(&head.headers), "peer": peer.to_string(),
            "bodyBytes": size, "bodySha256": hash,
        });
        for (field, value) in &self.place {
            told[field] = value.clone().into();
        }
        if let Some(made) = made {
            told["calls"] = json!(made);
        }
        let mut response = plain(StatusCode::OK, Bytes::from(format!("{told:#}\n")));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
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

fn plain(status: StatusCode, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(whole(body));
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

async fn speak_first(mut stream: TcpStream, greeting: String) {
    if stream.write_all(greeting.as_bytes()).await.is_ok() {
        send_back(stream).await;
    }
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
