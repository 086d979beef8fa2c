//! Serving HTTP/1.1 and raw TCP on one thread.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

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

/// Answers every request on a port with a function.
pub(super) async fn http<F>(
    port: u16,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + 'static,
) -> std::io::Result<()>
where
    F: Future<Output = Response<Full<Bytes>>> + 'static,
{
    accept(port, move |stream, peer| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let reply = answer(request, peer);
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service);
            // How a client leaves is the client's affair.
            let _ended = connection.await;
        }
    })
    .await
}
