//! A hop becomes the far end of a connection: a plain socket, or a stream of a tunnel, both from inside the pod's
//! network namespace.

use std::sync::Arc;
use std::time::SystemTime;

use ambit_api::reason::Reason;
use ambit_api::workload::Workload;
use ambit_discovery::credentials::Held;
use ambit_discovery::resolve::{Hop, Plain, Tunnel};
use ambit_process::overload::Work;
use ambit_transport::addr::{ClientAddr, ServerAddr};
use ambit_transport::hbone::client::{self, ConnectError, ConnectRequest, TunnelError};
use ambit_transport::hbone::pool::{Key, OpenError};
use ambit_transport::relay::Far;
use ambit_transport::socket::{self, DialError, DialOptions};
use ambit_transport::tls::{self, TlsError};

use crate::headers;
use crate::mesh::{Mesh, World};
use crate::pods::Pod;

/// How a proxy answers a CONNECT that it cannot serve, though another one may.
const UNAVAILABLE: u16 = 503;

/// Where a connection comes from.
pub struct Origin {
    /// The pod it leaves.
    pub pod: Arc<Pod>,
    /// The pod's workload.
    pub source: Arc<Workload>,
    /// The application's end.
    pub client: ClientAddr,
}

/// Why a hop could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialFailed {
    /// TCP.
    #[error("{0}")]
    Tcp(#[from] DialError),
    /// The tunnel.
    #[error("{0}")]
    Tunnel(#[from] OpenError<TunnelFailed>),
    /// No certificate in time.
    #[error("no certificate for {0}")]
    NoCertificate(String),
}

/// Why a tunnel could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TunnelFailed {
    /// TCP.
    #[error("{0}")]
    Tcp(#[from] DialError),
    /// TLS.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// HTTP/2.
    #[error("{0}")]
    Http2(#[from] TunnelError),
}

impl DialFailed {
    /// What it means for the connection.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Tcp(failed) => failed.reason(),
            Self::Tunnel(failed) => failed.reason(TunnelFailed::reason),
            Self::NoCertificate(_) => Reason::NoCertificate,
        }
    }

    /// Whether another endpoint may be tried: this one has seen no byte of the application. A proxy before it that answers
    /// 503 cannot reach it, or takes no more; any other answer is about who asks and what for.
    pub fn retryable(&self) -> bool {
        self.reason().retryable() || self.refused() == Some(UNAVAILABLE)
    }

    /// The status of a CONNECT that was refused, for the log.
    pub fn refused(&self) -> Option<u16> {
        match self {
            Self::Tunnel(OpenError::Connect(ConnectError::Refused(status))) => Some(status.as_u16()),
            _ => None,
        }
    }
}

impl TunnelFailed {
    fn reason(&self) -> Reason {
        match self {
            Self::Tcp(failed) => failed.reason(),
            Self::Tls(failed) => failed.reason(),
            Self::Http2(failed) => failed.reason(),
        }
    }
}

/// Connects one hop.
pub async fn dial(origin: &Origin, hop: &Hop, mesh: &Mesh, world: &World) -> Result<Far, DialFailed> {
    match hop {
        Hop::Plain(plain) => Ok(Far::Tcp(to_plain(&origin.pod, plain, mesh).await?)),
        Hop::Tunnel(tunnel) => to_tunnel(origin, tunnel, mesh, world).await,
    }
}

fn options(mesh: &Mesh) -> DialOptions {
    let data = &mesh.settings.data;
    DialOptions { mark: Some(data.mark), timeout: data.times.connect, ..DialOptions::default() }
}

async fn to_plain(pod: &Pod, plain: &Plain, mesh: &Mesh) -> Result<tokio::net::TcpStream, DialError> {
    socket::dial(&pod.netns, ServerAddr::from(plain.server), &options(mesh)).await
}

async fn to_tunnel(origin: &Origin, tunnel: &Tunnel, mesh: &Mesh, world: &World) -> Result<Far, DialFailed> {
    let pod = &origin.pod;
    let key = Key {
        pod: pod.uid.clone(),
        identity: pod.identity.clone(),
        to: ServerAddr::from(tunnel.server),
        expected: tunnel.expected.clone(),
    };
    let held = certificate(pod, mesh).await?;
    let request = ConnectRequest {
        authority: tunnel.authority.to_string(),
        headers: headers::connect(&origin.source, origin.client, tunnel.service.as_deref()),
    };
    let within = mesh.settings.data.times.connect;
    let options = DialOptions { keepalive: None, ..options(mesh) };
    let stream = world
        .pool
        .open(&key, &request, || async {
            mesh.overload.charge(Work::Tunnel).spend();
            let stream = socket::dial(&pod.netns, key.to, &options).await?;
            let config = held.client.expecting(key.expected.clone());
            let (stream, peer) = tls::connect(stream, config, within).await?;
            Ok(client::connect(stream, peer, &mesh.hbone).await?)
        })
        .await?;
    Ok(Far::Hbone(stream))
}

/// The pod's certificate, waiting a little for one that is on its way.
pub async fn certificate(pod: &Pod, mesh: &Mesh) -> Result<Arc<Held>, DialFailed> {
    let mut state = pod.credentials.clone();
    if let Some(held) = state.borrow().usable_at(SystemTime::now()) {
        return Ok(held.clone());
    }
    let usable = state.wait_for(|state| state.usable_at(SystemTime::now()).is_some());
    let waited = tokio::time::timeout(mesh.settings.data.times.configuration_wait, usable).await;
    let held = waited.ok().and_then(Result::ok).and_then(|state| state.usable_at(SystemTime::now()).cloned());
    held.ok_or_else(|| DialFailed::NoCertificate(pod.identity.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;

    #[test]
    fn another_endpoint_is_tried_when_this_one_cannot_and_not_when_it_will_not() {
        let refused = |status| ConnectError::Refused(StatusCode::from_u16(status).expect("a status"));
        let table = [
            (refused(503), true),
            (refused(401), false),
            (refused(400), false),
            (refused(404), false),
            (ConnectError::TimedOut(Duration::ZERO), true),
            (ConnectError::TunnelClosed, true),
            (ConnectError::Invalid(String::new()), false),
        ];
        for (cause, expected) in table {
            let text = cause.to_string();
            let failed = DialFailed::Tunnel(OpenError::Connect(cause));
            assert_eq!(failed.retryable(), expected, "{text}");
        }
        assert!(!DialFailed::NoCertificate(String::new()).retryable());
    }
}
