//! What a request leaves behind: metrics, lines in the access log, spans at a collector.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_api::wire::waypoint as wire;
use ambit_process::spawn::spawn;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use waypoint::filter::respond::GRPC_STATUS;
use waypoint::trace::otlp;

use crate::http::{get, send};
use crate::support::{Application, Gateway, forward, policy};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What a collector answers.
type Answer = BoxBody<Bytes, Infallible>;

/// What a collector was sent: path, content type, body.
type Report = (String, String, Bytes);

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    reports: Arc<Mutex<Vec<Report>>>,
    more: Arc<Notify>,
}

impl Collector {
    /// One that speaks HTTP/1.1, or HTTP/2 for gRPC.
    async fn start(version: Version) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let collector = Self::default();
        let kept = collector.clone();
        spawn("collector", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, io) = (kept.clone(), TokioIo::new(stream));
                let service = service_fn(move |request| kept.clone().keep(request));
                spawn("connection", async move {
                    let _ = if version == Version::HTTP_2 {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
                    } else {
                        http1::Builder::new().serve_connection(io, service).await
                    };
                });
            }
        });
        (collector, at)
    }

    async fn keep(self, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let path = request.uri().path().to_owned();
        let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let grpc = kind == "application/grpc";
        self.reports.lock().unwrap().push((path, kind.clone(), body));
        self.more.notify_one();
        let answer = Response::builder().status(if grpc { 200 } else { 202 }).header("content-type", kind);
        if !grpc {
            return Ok(answer.body(Full::default().boxed()).unwrap());
        }
        // An empty message, and its status after it.
        let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
        let message = Full::new(Bytes::from_static(&[0; 5]));
        Ok(answer.body(message.with_trailers(async { Some(Ok(trailers)) }).boxed()).unwrap())
    }

    async fn next(&self) -> Report {
        let report = async {
            loop {
                if let Some(report) = self.reports.lock().unwrap().pop() {
                    return report;
                }
                self.more.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), report).await.expect("a report")
    }
}

/// Waits for the end of requests to be told: a client has its answer a moment before that.
async fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    let waited = async {
        loop {
            if let Some(found) = there() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.expect("it is told")
}

fn text(log: wire::AccessLog) -> impl FnOnce(&mut wire::Gateway) {
    move |gateway| gateway.access_log = Some(log)
}

#[tokio::test]
async fn requests_are_counted_by_who_asked_whom_and_how_it_went() {
    let application = Application::start().await;
    let gateway = Gateway::start(&application, vec![forward()]).await;
    assert_eq!(get(gateway.at, "/a").await.0, 200);
    assert_eq!(get(gateway.at, "/status/503").await.0, 503);
    let line = |code: &str| {
        let encoded = gateway.metrics.encode();
        let mut lines = encoded.lines().filter(|line| line.starts_with("istio_requests_total{"));
        lines.find(|line| line.contains(&format!("response_code=\"{code}\""))).map(str::to_owned)
    };
    let counted = until(|| line("200")).await;
    for label in [
        "reporter=\"waypoint\"",
        // The client has the address of the pod, which is all there is to know it by.
        "source_workload=\"web\"",
        "source_principal=\"unknown\"",
        "destination_workload=\"web\"",
        "destination_workload_namespace=\"shop\"",
        "destination_service=\"web.shop.svc.cluster.local\"",
        "destination_service_name=\"web\"",
        "request_protocol=\"http\"",
        "grpc_response_status=\"\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"unknown\"",
    ] {
        assert!(counted.contains(label), "{label} in {counted}");
    }
    assert!(counted.ends_with("} 1"), "{counted}");
    until(|| line("503")).await;
    let encoded = gateway.metrics.encode();
    for name in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
        assert!(encoded.contains(&format!("{name}_bucket{{")), "{name} in {encoded}");
        assert!(encoded.contains("le=\"+Inf\""), "{encoded}");
    }
}

#[tokio::test]
async fn lines_are_written_as_the_configuration_says() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, vec![forward()]).await;
    assert_eq!(get(gateway.at, "/unlogged").await.0, 200);
    let format = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %NOPE% \
                  %BYTES_RECEIVED% %REQ(USER-AGENT):4% %UPSTREAM_CLUSTER_RAW% %RESPONSE_CODE_DETAILS%";
    gateway.configure(vec![forward()], text(wire::AccessLog { encoding: 0, format: format.to_owned() }));
    let request = "POST /echo?x=1 HTTP/1.1\r\nhost: web\r\nuser-agent: curl/8\r\nconnection: close\r\n\
                   content-length: 5\r\n\r\nhello";
    assert_eq!(send(gateway.at, request).await, (200, "hello".to_owned()));
    let line = "POST /echo?x=1 200 - - 5 curl inbound-vip|80|http|web.shop.svc.cluster.local via_upstream\n";
    assert_eq!(until(|| Some(gateway.logged()).filter(|log| !log.is_empty())).await, line);

    gateway.push(policy("no-admin", wire::policy::Action::Deny, denied("/admin")));
    gateway.configure(vec![forward()], |gateway| {
        gateway.access_log = Some(wire::AccessLog { encoding: 1, ..Default::default() });
        gateway.policies = vec!["shop/no-admin".to_owned()];
    });
    assert_eq!(get(gateway.at, "/admin").await.0, 403);
    let json = until(|| Some(gateway.logged().split_off(line.len())).filter(|log| !log.is_empty())).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["response_code"], &json["response_flags"]), (&403.into(), &"UAEX".into()));
    assert_eq!(
        json["response_code_details"],
        "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]"
    );
    assert_eq!((&json["path"], &json["upstream_host"]), (&"/admin".into(), &serde_json::Value::Null));
    assert_eq!(json["request_id"].as_str().map(str::len), Some(36), "{json}");
}

fn denied(path: &str) -> wire::PolicyRule {
    let to = vec![wire::Operation { paths: vec![path.to_owned()], ..Default::default() }];
    wire::PolicyRule { to, ..Default::default() }
}

fn traced(
    at: SocketAddr,
    protocol: wire::tracing::Protocol,
    sampling: u32,
) -> impl FnOnce(&mut wire::Gateway) {
    move |gateway| {
        gateway.tracing = Some(wire::Tracing {
            protocol: protocol.into(),
            collector: at.to_string(),
            sampling,
            path: String::new(),
        });
    }
}

#[tokio::test]
async fn zipkin_gets_spans_of_the_clients_trace_and_the_application_its_child() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, vec![forward()]).await;
    let (collector, at) = Collector::start(Version::HTTP_11).await;
    gateway.configure(vec![forward()], traced(at, wire::tracing::Protocol::Zipkin, 0));
    assert_eq!(get(gateway.at, "/unsampled").await.0, 200);
    let request = format!(
        "GET /headers HTTP/1.1\r\nhost: web\r\nx-b3-traceid: {TRACE}\r\nx-b3-spanid: {PARENT}\r\n\
         x-b3-sampled: 1\r\nconnection: close\r\n\r\n"
    );
    let (_, forwarded) = send(gateway.at, &request).await;
    let (path, kind, body) = collector.next().await;
    assert_eq!((path.as_str(), kind.as_str()), ("/api/v2/spans", "application/json"));
    let spans: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(spans.as_array().map(Vec::len), Some(1), "the other was not sampled: {spans}");
    let span = &spans[0];
    assert_eq!((&span["traceId"], &span["parentId"]), (&TRACE.into(), &PARENT.into()));
    assert_eq!((&span["kind"], &span["tags"]["http.status_code"]), (&"SERVER".into(), &"200".into()));
    assert_eq!(span["tags"]["istio.destination_workload"], "web");
    let child = span["id"].as_str().unwrap();
    for header in [("x-b3-traceid", TRACE), ("x-b3-spanid", child), ("x-b3-parentspanid", PARENT)] {
        assert!(
            forwarded.contains(&format!("\"{}\": \"{}\"", header.0, header.1)),
            "{header:?}: {forwarded}"
        );
    }
    assert!(forwarded.contains("x-request-id"), "{forwarded}");
}

#[tokio::test]
async fn otlp_gets_spans_and_a_collector_that_is_gone_costs_nothing_but_spans() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, vec![forward()]).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    gateway.configure(vec![forward()], traced(gone, wire::tracing::Protocol::OtlpHttp, 1_000_000));
    assert_eq!(get(gateway.at, "/lost").await.0, 200);
    until(|| gateway.metrics.encode().contains("ambit_spans_dropped_total 1\n").then_some(())).await;

    let (collector, at) = Collector::start(Version::HTTP_11).await;
    gateway.configure(vec![forward()], traced(at, wire::tracing::Protocol::OtlpHttp, 0));
    let request = format!(
        "GET /status/500 HTTP/1.1\r\nhost: web\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(send(gateway.at, &request).await.0, 500);
    let (path, kind, body) = collector.next().await;
    assert_eq!((path.as_str(), kind.as_str()), ("/v1/traces", "application/x-protobuf"));
    let report = otlp::ExportRequest::decode(body).unwrap();
    let spans = &report.resource_spans[0].scope_spans[0].spans;
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), (TRACE, PARENT));
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(otlp::Code::Error.into()));
}

#[tokio::test]
async fn otlp_goes_over_grpc_too() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, vec![forward()]).await;
    let (collector, at) = Collector::start(Version::HTTP_2).await;
    gateway.configure(vec![forward()], traced(at, wire::tracing::Protocol::OtlpGrpc, 1_000_000));
    for round in 1..=2 {
        assert_eq!(get(gateway.at, "/").await.0, 200);
        let (path, kind, body) = collector.next().await;
        assert_eq!((path.as_str(), kind.as_str()), (otlp::METHOD, "application/grpc"));
        let report = otlp::ExportRequest::decode(body.slice(5..)).unwrap();
        let span = &report.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.trace_id.len(), span.parent_span_id.len()), (16, 0), "a trace of its own");
        let exported = format!("ambit_spans_exported_total {round}\n");
        until(|| gateway.metrics.encode().contains(&exported).then_some(())).await;
    }
}
