//! The admin servers over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::telemetry::{LogSettings, pipeline};

struct Fixture {
    readiness: Readiness,
    quit: Quit,
    serving: Serving,
    // The log filter lives as long as its subscriber.
    _subscriber: Box<dyn tracing::Subscriber + Send + Sync>,
}

async fn fixture() -> Fixture {
    let (subscriber, log) = pipeline(&LogSettings::default(), Box::new(std::io::sink()));
    let (readiness, quit) = (Readiness::new(), Quit::new());
    let loopback: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
    let addresses = Addresses { admin: loopback.clone(), metrics: loopback.clone(), readiness: loopback };
    let admin = Admin::new(readiness.clone(), Metrics::new(), log, quit.clone())
        .dump("/config_dump", || serde_json::json!({"workloads": []}))
        .dump("/broken", || panic!("on purpose"));
    let serving = admin.serve(&addresses).await.unwrap();
    Fixture { readiness, quit, serving, _subscriber: Box::new(subscriber) }
}

/// One request; the status and the body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn readiness_says_what_is_pending() {
    let fixture = fixture().await;
    let door = fixture.serving.bound.readiness[0];
    let holds = (fixture.readiness.hold("xds"), fixture.readiness.hold("listeners"));
    let pending = "not ready, pending: listeners, xds\n".to_owned();
    assert_eq!(ask(door, "GET", "/healthz/ready").await, (500, pending));
    drop(holds);
    assert_eq!(ask(door, "GET", "/healthz/ready").await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn each_door_shows_its_own_things_only() {
    let fixture = fixture().await;
    let bound = &fixture.serving.bound;
    let cases = [
        (bound.admin[0], "GET", "/", 200),
        (bound.admin[0], "GET", "/metrics", 200),
        (bound.admin[0], "GET", "/stats/prometheus", 200),
        (bound.admin[0], "GET", "/healthz/ready", 200),
        (bound.admin[0], "GET", "/config_dump", 200),
        (bound.admin[0], "GET", "/broken", 500),
        (bound.admin[0], "GET", "/nothing", 404),
        (bound.admin[0], "GET", "/quitquitquit", 405),
        (bound.metrics[0], "GET", "/metrics", 200),
        (bound.metrics[0], "GET", "/config_dump", 404),
        (bound.metrics[0], "POST", "/quitquitquit", 404),
        (bound.readiness[0], "GET", "/metrics", 404),
        (bound.readiness[0], "POST", "/logging?level=off", 404),
    ];
    for (door, method, path, status) in cases {
        assert_eq!(ask(door, method, path).await.0, status, "{method} {path}");
    }
    let (_, dump) = ask(bound.admin[0], "GET", "/config_dump").await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&dump).unwrap(),
        serde_json::json!({"workloads": []})
    );
    assert!(ask(bound.metrics[0], "GET", "/stats/prometheus").await.1.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_log_level_is_read_set_and_reset() {
    let fixture = fixture().await;
    let door = fixture.serving.bound.admin[0];
    let cases = [
        ("GET", "/logging", 200, "info"),
        ("POST", "/logging", 200, "info"),
        ("POST", "/logging?level=debug", 200, "debug"),
        ("POST", "/logging?level=h2=trace,access=off", 200, "debug,access=off,h2=trace"),
        ("POST", "/logging?level=loud&reset", 400, "\"loud\""),
        ("POST", "/logging?levl=info", 400, "\"levl\""),
        ("GET", "/logging", 200, "debug,access=off,h2=trace"),
        ("POST", "/logging?reset&level=access=warn", 200, "info,access=warn"),
        ("POST", "/logging?reset", 200, "info"),
    ];
    for (method, path, status, part) in cases {
        let (got, body) = ask(door, method, path).await;
        assert_eq!(got, status, "{path}: {body}");
        let expected = if status == 200 { format!("current log level is {part}\n") } else { part.to_owned() };
        assert!(body.starts_with(&expected), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_request_to_stop_is_passed_on() {
    let fixture = fixture().await;
    assert_eq!(ask(fixture.serving.bound.admin[0], "POST", "/quitquitquit").await.0, 200);
    fixture.quit.asked().await;
}

#[tokio::test]
async fn an_endless_head_is_cut_off() {
    let fixture = fixture().await;
    let mut stream = TcpStream::connect(fixture.serving.bound.admin[0]).await.unwrap();
    let flood = [b'a'; 1 << 16];
    // The server answers and closes; how much it took before is the kernel's business.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ").await;
    let _ = stream.write_all(&flood).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn idle_connections_cannot_take_more_than_their_room() {
    let fixture = fixture().await;
    let door = fixture.serving.bound.readiness[0];
    let mut idle = Vec::new();
    // Each asks once and stays, so that the server has surely taken it.
    for _ in 0..serve::CONNECTIONS {
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        idle.push(stream);
    }
    let mut late = std::pin::pin!(ask(door, "GET", "/healthz/ready"));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), &mut late).await;
    assert!(waited.is_err(), "a connection beyond the room was served: {waited:?}");
    drop(idle.pop());
    assert_eq!(late.await.0, 200);
}

#[tokio::test]
async fn an_address_in_use_is_named_and_a_dropped_server_is_gone() {
    let first = fixture().await;
    let taken = first.serving.bound.admin[0];
    let (_subscriber, log) = pipeline(&LogSettings::default(), Box::new(std::io::sink()));
    let again = Admin::new(Readiness::new(), Metrics::new(), log, Quit::new());
    let addresses = Addresses { admin: vec![taken], ..Addresses::default() };
    let error = again.clone().serve(&addresses).await.unwrap_err();
    assert_eq!(error.address, taken);
    let Fixture { serving, .. } = first;
    drop(serving);
    // Aborted tasks end when the runtime next looks at them.
    tokio::task::yield_now().await;
    assert!(again.serve(&addresses).await.is_ok());
}
