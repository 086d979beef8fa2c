//! The gRPC port: accept, TLS with our own certificate, hand over to tonic. The certificate is renewed while we run.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ambit_process::spawn::spawn;
use ambit_transport::tls::plain_server_config;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::ca::authority::{Authority, SignError};

/// Bound on a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections between handshake and tonic.
const READY: usize = 16;

/// A failing accept (no descriptors left) is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A failing renewal is tried again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// The clock may jump: look at it at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// A connection after its handshake. It holds its place among the allowed connections.
pub struct Secured {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// gRPC.
    Http2,
    /// HTTP/1.1, as the API server asks.
    Http1,
}

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It could not be used.
    #[error("{0}")]
    Tls(String),
}

impl Connected for Secured {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.get_ref().0.peer_addr().ok()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Makes the serving certificate, and a task that renews it at half life. The task ends when nobody reads any more.
pub fn serving(
    authority: Arc<Authority>,
    names: Vec<String>,
    speaks: Speaks,
) -> Result<watch::Receiver<Arc<ServerConfig>>, ServingError> {
    let (config, renew_at) = make(&authority, &names, speaks)?;
    let (sender, receiver) = watch::channel(config);
    spawn("serving certificate", async move {
        let mut due = renew_at;
        loop {
            let wait = due.duration_since(SystemTime::now()).unwrap_or_default().min(LOOK_AGAIN);
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(wait) => {}
            }
            if SystemTime::now() < due {
                continue;
            }
            due = match make(&authority, &names, speaks) {
                Ok((config, renew_at)) => {
                    sender.send_replace(config);
                    renew_at
                }
                Err(error) => {
                    tracing::error!(%error, "the serving certificate could not be renewed");
                    SystemTime::now() + RENEW_AGAIN
                }
            };
        }
    });
    Ok(receiver)
}

fn make(
    authority: &Authority,
    names: &[String],
    speaks: Speaks,
) -> Result<(Arc<ServerConfig>, SystemTime), ServingError> {
    let serving = authority.serving(names, SystemTime::now())?;
    let config = plain_server_config(&serving.certificate, &serving.key);
    let config = config.map_err(|cause| ServingError::Tls(cause.to_string()))?;
    if speaks == Speaks::Http2 {
        return Ok((config, serving.renew_at));
    }
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), serving.renew_at))
}

/// Accepts until the receiver is dropped, with at most `connections` open; who comes then waits in the backlog.
pub fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    connections: usize,
) -> mpsc::Receiver<io::Result<Secured>> {
    let (ready, receiver) = mpsc::channel(READY);
    spawn("grpc accept", async move {
        let places = Arc::new(Semaphore::new(connections));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let acceptor = TlsAcceptor::from(config.borrow().clone());
                    spawn("grpc handshake", handshake(acceptor, stream, peer, place, ready.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    });
    receiver
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    ready: mpsc::Sender<io::Result<Secured>>,
) {
    let secured = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    match tokio::time::timeout(HANDSHAKE, secured).await {
        Ok(Ok(stream)) => drop(ready.send(Ok(Secured { stream, _place: place })).await),
        Ok(Err(error)) => tracing::warn!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::warn!(%peer, "TLS handshake took too long"),
    }
}
