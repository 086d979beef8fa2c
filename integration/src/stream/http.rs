//! Long-lived streams over HTTP: one gRPC call in both directions, and one WebSocket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, TE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Stream;
use crate::executor::Here;
use crate::grpc::{self, Messages, framed};
use crate::websocket::{self, Kind, Side};

/// Longest time for the opening, and for one number to come back.
const LIMIT: Duration = Duration::from_secs(10);

/// Where a stream over HTTP goes and with what head.
#[derive(Clone, Debug)]
pub struct Call {
    /// Server.
    pub to: SocketAddr,
    /// Host or authority.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// More headers.
    pub headers: HeaderMap,
    /// Time between two numbers.
    pub pause: Duration,
}

type Pieces = Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>>;

/// An open stream.
enum Link {
    Grpc { send: mpsc::Sender<Bytes>, answers: Incoming, messages: Messages },
    WebSocket(TokioIo<Upgraded>),
}

impl Call {
    /// A call of `/ambit.Echo/Stream`, with the address as host.
    pub fn new(to: SocketAddr, pause: Duration) -> Self {
        let path = "/ambit.Echo/Stream".to_owned();
        Call { to, host: to.to_string(), path, headers: HeaderMap::new(), pause }
    }

    /// Opens a bidirectional gRPC stream and keeps it busy; fails when the answer's head says anything but 200.
    pub fn grpc(self) -> std::io::Result<Stream> {
        self.start(Kept::Grpc)
    }

    /// Opens a WebSocket and keeps it busy; fails when the server does not switch to it.
    pub fn websocket(self) -> std::io::Result<Stream> {
        self.start(Kept::WebSocket)
    }

    /// Runs the stream on a thread that stays in the caller's network namespace.
    fn start(self, kept: Kept) -> std::io::Result<Stream> {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let (opened, outcome) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let link = within(self.open(kept)).await;
                let link = match link {
                    Ok(link) => {
                        // Whoever opened it waits for this.
                        let _told = opened.send(Ok(()));
                        link
                    }
                    Err(error) => {
                        let _told = opened.send(Err(error.clone()));
                        return Err(error);
                    }
                };
                keep_busy(link, self.pause, &stopped, &counted).await
            })
        });
        let outcome = outcome.recv().unwrap_or_else(|_gone| Err("the stream's thread failed".to_owned()));
        outcome.map_err(std::io::Error::other)?;
        Ok(Stream { stop, rounds, thread })
    }

    async fn open(&self, kept: Kept) -> Result<Link, String> {
        let stream = TcpStream::connect(self.to).await.map_err(|error| format!("connecting: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("connecting: {error}"))?;
        match kept {
            Kept::Grpc => self.call(stream).await,
            Kept::WebSocket => self.switch(stream).await,
        }
    }

    async fn call(&self, stream: TcpStream) -> Result<Link, String> {
        let (mut sender, connection) =
            http2::handshake(Here, TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        ambit_process::spawn::spawn_local("connection", async { drop(connection.await) });
        let (send, queue) = mpsc::channel(1);
        let pieces: Pieces = Box::pin(unfold(queue, async |mut queue: mpsc::Receiver<Bytes>| {
            let message = queue.recv().await?;
            Some((Ok(Frame::data(message)), queue))
        }));
        let uri = format!("http://{}{}", self.host, self.path);
        let mut request =
            Request::post(uri).body(StreamBody::new(pieces)).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let ended = response.headers().get(grpc::STATUS);
        if response.status() != StatusCode::OK || ended.is_some() {
            return Err(format!("status {}, grpc-status {ended:?}", response.status().as_u16()));
        }
        Ok(Link::Grpc { send, answers: response.into_body(), messages: Messages::default() })
    }

    async fn switch(&self, stream: TcpStream) -> Result<Link, String> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = connection.with_upgrades();
        ambit_process::spawn::spawn_local("connection", async { drop(connection.await) });
        let key = websocket::key();
        let request = Request::get(&self.path)
            .header(HOST, &self.host)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key);
        let mut request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        request.headers_mut().extend(self.headers.clone());
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let accepted = response.headers().get("sec-websocket-accept");
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("status {}", response.status().as_u16()));
        }
        if accepted.is_none_or(|accepted| accepted.as_bytes() != websocket::accept(key.as_bytes()).as_bytes())
        {
            return Err(format!("the handshake was answered with {accepted:?}"));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| error.to_string())?;
        Ok(Link::WebSocket(TokioIo::new(upgraded)))
    }
}

#[derive(Clone, Copy)]
enum Kept {
    Grpc,
    WebSocket,
}

impl Link {
    /// Sends a number and returns what came back.
    async fn round(&mut self, number: u64) -> Result<Vec<u8>, String> {
        let bytes = number.to_be_bytes().to_vec();
        match self {
            Link::Grpc { send, answers, messages } => {
                send.send(framed(&bytes)).await.map_err(|_closed| "the request was cut".to_owned())?;
                loop {
                    if let Some(message) = messages.pop()? {
                        return Ok(message.to_vec());
                    }
                    let frame = answers.frame().await.ok_or("the answer ended")?;
                    let frame = frame.map_err(|error| error.to_string())?;
                    if let Some(trailers) = frame.trailers_ref() {
                        return Err(format!("the call ended with {:?}", trailers.get(grpc::STATUS)));
                    }
                    messages.push(frame.data_ref().map_or(&[], |data| data));
                }
            }
            Link::WebSocket(stream) => {
                let frame = websocket::Frame::whole(Kind::Binary, bytes);
                websocket::write(stream, Side::Client, &frame).await.map_err(|error| error.to_string())?;
                let frame = websocket::read(stream).await.map_err(|error| error.to_string())?;
                if frame.kind == Kind::Binary {
                    Ok(frame.payload)
                } else {
                    Err(format!("a {:?}", frame.kind))
                }
            }
        }
    }

    /// Ends the stream in order.
    async fn close(self) -> Result<(), String> {
        match self {
            Link::Grpc { send, mut answers, .. } => {
                drop(send);
                while let Some(frame) = answers.frame().await {
                    let frame = frame.map_err(|error| error.to_string())?;
                    let status = frame.trailers_ref().and_then(|trailers| trailers.get(grpc::STATUS));
                    if let Some(status) = status {
                        return if status == "0" { Ok(()) } else { Err(format!("grpc-status {status:?}")) };
                    }
                }
                Err("the call ended without a status".to_owned())
            }
            Link::WebSocket(mut stream) => {
                let frame = websocket::Frame::whole(Kind::Close, Vec::new());
                websocket::write(&mut stream, Side::Client, &frame)
                    .await
                    .map_err(|error| error.to_string())?;
                let frame = websocket::read(&mut stream).await.map_err(|error| error.to_string())?;
                if frame.kind == Kind::Close {
                    Ok(())
                } else {
                    Err(format!("a {:?} after the end", frame.kind))
                }
            }
        }
    }
}

async fn keep_busy(
    mut link: Link,
    pause: Duration,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Result<u64, String> {
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let back = within(link.round(number)).await.map_err(|error| format!("number {number}: {error}"))?;
        if back != number.to_be_bytes() {
            return Err(format!("number {number} came back as {back:?}"));
        }
        number += 1;
        rounds.store(number, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
    within(link.close()).await.map_err(|error| format!("closing: {error}"))?;
    Ok(number)
}

async fn within<T>(job: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(LIMIT, job).await.unwrap_or_else(|_elapsed| Err(format!("nothing for {LIMIT:?}")))
}
