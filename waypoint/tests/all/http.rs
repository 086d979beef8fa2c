//! The life of requests: routes, policies, retries, limits of time, upgrades, reuse of connections.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ambit_api::wire::waypoint as wire;
use ambit_discovery::xds::Push;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Application, Gateway, POD, WEB, forward, pod, policy, upsert};

/// One request on a connection of its own; status and body.
pub(crate) async fn get(at: SocketAddr, path: &str) -> (u16, String) {
    send(at, &format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")).await
}

pub(crate) async fn send(at: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer").unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

fn timed(mut rule: wire::HttpRule, milliseconds: u32) -> wire::HttpRule {
    rule.timeout_ms = milliseconds;
    rule
}

fn on_path(prefix: &str) -> wire::PolicyRule {
    let to = vec![wire::Operation { paths: vec![prefix.to_owned()], ..Default::default() }];
    wire::PolicyRule { to, ..Default::default() }
}

#[tokio::test]
async fn requests_reach_the_application_and_connections_are_used_again() {
    let application = Application::start().await;
    let gateway = Gateway::start(&application, vec![forward()]).await;
    for count in 1..=5 {
        assert_eq!(get(gateway.at, "/a?b=c").await, (200, format!("/a {count}")));
    }
    assert_eq!(application.connections.load(Ordering::Relaxed), 1, "one connection serves them all");
    let body = "x".repeat(200_000);
    let request = format!(
        "POST /echo HTTP/1.1\r\nhost: web\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(send(gateway.at, &request).await, (200, body));
}

#[tokio::test]
async fn what_goes_wrong_is_answered_as_the_field_does() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, Vec::new()).await;
    assert_eq!(get(gateway.at, "/").await.0, 404, "no route");
    gateway.routes(vec![timed(forward(), 100)], &[]);
    assert_eq!(get(gateway.at, "/hang").await, (504, "upstream request timeout".to_owned()));
    assert_eq!(get(gateway.at, "/status/418").await.0, 418);
    let before = application.seen();
    let malformed = [
        "GET /%00 HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: web\r\nhost: other\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12",
        "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ];
    for request in malformed {
        // Where the head itself cannot be read there may be no answer but the end of the connection.
        assert!(matches!(send(gateway.at, request).await.0, 0 | 400), "{request:?}");
    }
    assert_eq!(application.seen(), before, "none of them was sent");
}

#[tokio::test]
async fn of_two_lengths_only_the_one_that_counts_goes_on() {
    let application = Application::start().await;
    let gateway = Gateway::start(&application, vec![forward()]).await;
    for lengths in
        ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        let request =
            format!("POST /headers HTTP/1.1\r\nhost: web\r\nconnection: close\r\n{lengths}\r\n\r\n0\r\n\r\n");
        let (status, seen) = send(gateway.at, &request).await;
        assert!(status == 400 || !seen.contains("content-length"), "{status} {seen}");
    }
}

#[tokio::test]
async fn policies_of_gateway_and_pod_are_judged_each_alone() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, vec![forward()]).await;
    let denied = (403, "RBAC: access denied".to_owned());
    gateway.push(policy("t", wire::policy::Action::Deny, on_path("/t*")));
    gateway.push(policy("s", wire::policy::Action::Deny, on_path("/s*")));
    gateway.routes(vec![forward()], &["shop/t"]);
    gateway.push(Push::Workload(upsert(POD, pod(&["shop/s"]))));
    assert_eq!(get(gateway.at, "/t1").await, denied);
    assert_eq!(get(gateway.at, "/s1").await, denied);
    assert_eq!(get(gateway.at, "/a").await.0, 200);
    gateway.push(Push::Workload(upsert(POD, pod(&["shop/missing"]))));
    assert_eq!(get(gateway.at, "/a").await, denied, "a policy that has not arrived");
    assert_eq!(application.seen(), 1, "nothing that was denied was sent");
}

#[tokio::test]
async fn attempts_are_made_again_where_the_route_asks_and_within_its_bound() {
    let application = Application::start().await;
    let retry = wire::Retry { attempts: 2, on: vec!["5xx".to_owned()], backoff_ms: 1, ..Default::default() };
    let rule = wire::HttpRule { retry: Some(retry), ..forward() };
    let gateway = Gateway::start(&application, vec![rule]).await;
    assert_eq!(get(gateway.at, "/status/503").await.0, 503);
    assert_eq!(application.seen(), 3, "one and two more");
    assert_eq!(get(gateway.at, "/status/404").await.0, 404);
    assert_eq!(application.seen(), 4);
}

#[tokio::test]
async fn an_upgrade_joins_both_sides_until_a_policy_forbids_it() {
    let application = Application::start().await;
    let mut gateway = Gateway::start(&application, vec![forward()]).await;
    let mut stream = TcpStream::connect(gateway.at).await.unwrap();
    let ask = "GET /upgrade HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = vec![0; 1024];
    let read = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    let mut back = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    // A change that does not concern it leaves it open.
    gateway.push(policy("t", wire::policy::Action::Deny, on_path("/other")));
    gateway.routes(vec![forward()], &["shop/t"]);
    stream.write_all(b"again").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"again");
    gateway.push(policy("t", wire::policy::Action::Deny, on_path("/upgrade")));
    let end = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut back)).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_a_503_at_once() {
    let application = Application::start().await;
    let gone = Application { at: "127.0.0.1:1".parse().unwrap(), ..application };
    let gateway = Gateway::start(&gone, vec![forward()]).await;
    let began = Instant::now();
    let (status, body) = get(gateway.at, "/").await;
    assert_eq!((status, body.as_str()), (503, "upstream connect error: connection failure"));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_copy_goes_to_the_mirror_with_its_body_and_is_judged_for_itself() {
    let application = Application::start().await;
    let mirror = wire::Mirror { service: WEB.to_owned(), port: 80, share: 1_000_000, ..Default::default() };
    let rule = wire::HttpRule { mirrors: vec![mirror], ..forward() };
    let gateway = Gateway::start(&application, vec![rule]).await;
    let request = "POST /echo HTTP/1.1\r\nhost: web\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody";
    assert_eq!(send(gateway.at, request).await, (200, "body".to_owned()));
    let copied = async {
        while application.seen() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), copied).await.expect("a copy");
}
