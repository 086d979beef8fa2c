//! One collector, and the three ways to talk to one.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_api::waypoint::{Tracing, TracingProtocol};
use ambit_discovery::view::Snapshot;
use ambit_process::spawn::spawn;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::trace::span::{Origin, Span};
use crate::trace::{otlp, zipkin};

/// Bound on connecting.
const CONNECT: Duration = Duration::from_secs(2);

/// Most bytes of an answer that are read so that its connection can serve again.
const ANSWER: usize = 64 << 10;

/// A collector we are connected to.
pub(super) enum Collector {
    Http { sender: SendRequest<Full<Bytes>>, host: HeaderValue, protocol: TracingProtocol, path: String },
    Grpc(tonic::client::Grpc<Channel>),
}

/// Where a collector is: an address, a service of the mesh, or a name for the resolver.
pub(super) async fn resolve(
    snapshot: &Snapshot,
    collector: &str,
    namespace: &str,
) -> Result<SocketAddr, String> {
    if let Ok(address) = collector.parse() {
        return Ok(address);
    }
    let named = collector.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = named.ok_or_else(|| format!("{collector:?} is not host:port"))?;
    let service = snapshot.services.by_hostname(host, namespace);
    if let Some(vip) = service.and_then(|entry| entry.service.vips.first()) {
        return Ok(SocketAddr::new(vip.prefix.addr(), port));
    }
    let mut found =
        tokio::net::lookup_host((host, port)).await.map_err(|cause| format!("{host}: {cause}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}

impl Collector {
    /// Over HTTP/1.1.
    pub(super) async fn http(at: SocketAddr, tracing: &Tracing) -> Result<Self, String> {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(at)).await;
        let stream =
            connected.map_err(|slow| format!("{at}: {slow}"))?.map_err(|cause| format!("{at}: {cause}"))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|cause| cause.to_string())?;
        spawn("collector", async move {
            // It ends with its sender, which hears of errors by itself.
            let _ = connection.await;
        });
        let host = HeaderValue::try_from(&tracing.collector).map_err(|cause| cause.to_string())?;
        let protocol = tracing.protocol;
        let path = match (tracing.path.as_str(), protocol) {
            ("", TracingProtocol::Zipkin) => zipkin::PATH.to_owned(),
            ("", _) => otlp::PATH.to_owned(),
            (path, _) => path.to_owned(),
        };
        Ok(Self::Http { sender, host, protocol, path })
    }

    /// Over gRPC; connects with the first report.
    pub(super) fn grpc(at: SocketAddr) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(format!("http://{at}")).map_err(|cause| cause.to_string())?;
        Ok(Self::Grpc(tonic::client::Grpc::new(endpoint.connect_timeout(CONNECT).connect_lazy())))
    }

    /// Sends one report.
    pub(super) async fn send(&mut self, spans: &[Span], origin: &Origin) -> Result<(), String> {
        match self {
            Self::Http { sender, host, protocol, path } => {
                let (kind, body) = match protocol {
                    TracingProtocol::Zipkin => ("application/json", zipkin::body(spans, origin)),
                    _ => ("application/x-protobuf", otlp::request(spans, origin).encode_to_vec()),
                };
                post(sender, (host, path), kind, body).await
            }
            Self::Grpc(client) => {
                client.ready().await.map_err(|cause| cause.to_string())?;
                let codec = tonic_prost::ProstCodec::<otlp::ExportRequest, otlp::ExportResponse>::default();
                let request = tonic::Request::new(otlp::request(spans, origin));
                let answered = client.unary(request, PathAndQuery::from_static(otlp::METHOD), codec).await;
                answered.map(drop).map_err(|status| status.to_string())
            }
        }
    }
}

async fn post(
    sender: &mut SendRequest<Full<Bytes>>,
    (host, path): (&HeaderValue, &str),
    kind: &'static str,
    body: Vec<u8>,
) -> Result<(), String> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))
        .map_err(|cause| cause.to_string())?;
    sender.ready().await.map_err(|cause| cause.to_string())?;
    let answer = sender.send_request(request).await.map_err(|cause| cause.to_string())?;
    let status = answer.status();
    // Read to its end, so that the connection can serve again; nothing in it matters.
    let _ = Limited::new(answer.into_body(), ANSWER).collect().await;
    if status.is_success() { Ok(()) } else { Err(format!("the collector answered {status}")) }
}
