//! The last step inside the pod: connecting the application, as the original client where that is possible.

use std::net::SocketAddr;

use ambit_transport::addr::{ClientAddr, ServerAddr};
use ambit_transport::socket::{self, DialError, DialOptions, SourcePort};
use tokio::net::TcpStream;
use tracing::warn;

use crate::mesh::Mesh;
use crate::pods::Pod;
use crate::settings::OriginalSource;

/// Connects the application, showing it the client's address. `port` is [`SourcePort::Apart`] for a client that itself
/// has a connection to that address here, which is every client in plain text.
///
/// A pod that calls itself keeps its own address: the answer to a spoofed one would not come back to us.
pub async fn dial(
    pod: &Pod,
    client: ClientAddr,
    (application, port): (SocketAddr, SourcePort),
    mesh: &Mesh,
) -> Result<TcpStream, DialError> {
    let data = &mesh.settings.data;
    let spoof = data.original_source != OriginalSource::Off && client.ip() != application.ip();
    let options = DialOptions {
        mark: Some(data.mark),
        bind: spoof.then(|| SocketAddr::new(client.ip(), 0)),
        source_port: port,
        timeout: data.times.connect,
        // Within the pod nothing can vanish silently: when the application's process ends, its kernel says so.
        keepalive: None,
    };
    let to = ServerAddr::from(application);
    match socket::dial(&pod.netns, to, &options).await {
        Err(DialError::Socket { cause, .. })
            if options.bind.is_some() && data.original_source == OriginalSource::BestEffort =>
        {
            warn!(%pod, %cause, "cannot keep the client's address towards the application");
            socket::dial(&pod.netns, to, &DialOptions { bind: None, ..options }).await
        }
        outcome => outcome,
    }
}
