//! Serving HTTP/1.1 and HTTP/2 without TLS on one port, and raw TCP, on one thread.

use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::executor::Here;

/// What HTTP/2 begins with, as far as no HTTP/1.1 request does.
const PREFACE: &[u8] = b"PRI * ";

/// Body of an answer, whole or streamed.
pub(super) type Answer = Pin<Box<dyn Body<Data = Bytes, Error = std::io::Error>>>;

/// A body that is all there.
pub(super) fn whole(body: Bytes) -> Answer {
    Box::pin(Full::new(body).map_err(|never| match never {}))
}

/// Listens on a port of both families, or of IPv4 alone where the kernel has no IPv6.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = |domain| -> std::io::Result<socket2::Socket> {
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let both = socket(socket2::Domain::IPV6).and_then(|socket| {
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    });
    let listener = match both {
        Ok(listener) => listener,
        Err(_no_ipv6) => {
            let listener = socket(socket2::Domain::IPV4)?;
            listener.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
            listener
        }
    };
    listener.listen(1024)?;
    TcpListener::from_std(listener.into())
}

/// Accepts for ever and hands every connection on.
pub(super) async fn accept<F: Future<Output = ()> + 'static>(
    port: u16,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) -> std::io::Result<()> {
    let listener =
        listen(port).map_err(|error| std::io::Error::other(format!("listening on {port}: {error}")))?;
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: the next connection that ends frees one.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        // An echo must not wait for more to send.
        let _quick = stream.set_nodelay(true);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        ambit_process::spawn::spawn_local("connection", serve(stream, peer));
    }
}

/// Answers every request on a port with a function; its error ends the connection, or in HTTP/2 the stream.
pub(super) async fn http<F>(
    port: u16,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + 'static,
) -> std::io::Result<()>
where
    F: Future<Output = std::io::Result<Response<Answer>>> + 'static,
{
    accept(port, move |stream, peer| {
        let answer = answer.clone();
        async move {
            let Ok(http2) = begins_with_preface(&stream).await else { return };
            let service = service_fn(move |request| answer(request, peer));
            let stream = TokioIo::new(stream);
            // How a client leaves is the client's affair.
            if http2 {
                let connection = hyper::server::conn::http2::Builder::new(Here);
                let _ended = connection.serve_connection(stream, service).await;
            } else {
                let connection = hyper::server::conn::http1::Builder::new()
                    .half_close(true)
                    .serve_connection(stream, service)
                    .with_upgrades();
                let _ended = connection.await;
            }
        }
    })
    .await
}

/// Whether a client begins with HTTP/2's preface; what it sent stays to be read.
async fn begins_with_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    let mut known = 0;
    loop {
        let read = stream.peek(&mut start).await?;
        if read == PREFACE.len() || !PREFACE.starts_with(&start[..read]) || read == 0 {
            return Ok(start[..read] == *PREFACE);
        }
        if read == known {
            // Readable at once and still no more: the rest is on its way.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        known = read;
    }
}
