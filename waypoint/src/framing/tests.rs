//! What hyper is given to read, class by class (field.md §4.1), and that it finds in it the requests we found.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::guard::Guard;

const LIMIT: usize = 4096;

/// What a service was asked: path and body.
type Asked = Vec<(String, String)>;

/// What became of bytes sent in these pieces: the statuses of the answers, and what the service was asked.
async fn sent(pieces: &[&[u8]]) -> (Vec<u16>, Asked) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let asked = Rc::<RefCell<Asked>>::default();
    let noted = asked.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let noted = noted.clone();
        async move {
            let path = request.uri().path().to_owned();
            let status = match request.into_body().collect().await {
                Ok(body) => {
                    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                    noted.borrow_mut().push((path, body));
                    StatusCode::OK
                }
                // As a backend sees a body that breaks off: not at all.
                Err(_) => StatusCode::BAD_REQUEST,
            };
            let mut answer = Response::new(Empty::<Bytes>::new());
            *answer.status_mut() = status;
            Ok::<_, Infallible>(answer)
        }
    });
    let serving = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(Guard::new(server, LIMIT)), service);
    let (mut read, mut write) = tokio::io::split(client);
    let writing = async {
        for piece in pieces {
            // A connection that was ended takes no more.
            let _ = write.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let reading = async {
        let mut text = String::new();
        let _ = read.read_to_string(&mut text).await;
        text
    };
    let ((), text, _ended) = tokio::join!(writing, reading, serving);
    let statuses = text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect();
    let asked = asked.borrow().clone();
    (statuses, asked)
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

/// A request with these header lines and what follows them, and after it another one.
fn with_next(lines: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: web\r\n{lines}\r\n{body}GET /next HTTP/1.1\r\nHost: web\r\n\r\n")
}

/// However its bytes arrive, it comes to this.
fn comes_to(text: &str, statuses: &[u16], asked: &[(&str, &str)]) {
    let asked: Asked = asked.iter().map(|(path, body)| ((*path).into(), (*body).into())).collect();
    for cut in 0..text.len() {
        let (one, other) = text.as_bytes().split_at(cut);
        let found = now(sent(&[one, other]));
        assert_eq!(found, (statuses.to_vec(), asked.clone()), "{text:?} cut at {cut}");
    }
}

#[test]
fn what_has_one_reading_passes_with_all_that_follows() {
    let rows = [
        ("", "", ""),
        ("Content-Length: 5\r\n", "hello", "hello"),
        ("CONTENT-length:5 \r\n", "hello", "hello"),
        ("Content-Length: 0\r\n", "", ""),
        ("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "Transfer-Encoding: chunked\r\n",
            "5;a=\"b\"\r\nhello\r\n0A \r\n0123456789\r\n0\r\n\r\n",
            "hello0123456789",
        ),
        ("Transfer-Encoding: chunked\r\n", "1\r\n\n\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n", "\n"),
        ("X-Content-Length: 5\r\nContent-Lengths: 6\r\n", "", ""),
    ];
    for (lines, body, expected) in rows {
        comes_to(&with_next(lines, body), &[200, 200], &[("/first", expected), ("/next", "")]);
    }
    let empty = "\r\n\r\nGET /next HTTP/1.1\r\nHost: web\r\n\r\n";
    comes_to(empty, &[200], &[("/next", "")]);
}

#[test]
fn heads_with_two_readings_are_answered_and_nothing_after_them_is_read() {
    let chunked = "0\r\n\r\n";
    let rows = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("Content-Length: 5, 5\r\n", "hello"),
        ("Content-Length: +5\r\n", "hello"),
        ("Content-Length: 0x5\r\n", "hello"),
        ("Content-Length: 5 5\r\n", "hello"),
        ("Content-Length:\r\n", ""),
        ("Content-Length: 18446744073709551617\r\n", "h"),
        ("Content-Length : 5\r\n", "hello"),
        ("Transfer-Encoding: gzip, chunked\r\n", chunked),
        ("Transfer-Encoding: chunked, identity\r\n", chunked),
        ("Transfer-Encoding: xchunked\r\n", chunked),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("Transfer-Encoding : chunked\r\n", chunked),
        ("Transfer-Encoding: \x0bchunked\r\n", chunked),
        ("Transfer-Encoding:\r\n chunked\r\n", chunked),
        ("X-A: b\r\n Transfer-Encoding: chunked\r\n", chunked),
        ("X-A: b\nTransfer-Encoding: chunked\r\n", chunked),
        ("X-A: b\rTransfer-Encoding: chunked\r\n", chunked),
        ("X-A: b\0c\r\n", ""),
        ("X\0A: b\r\n", ""),
        ("X-A: b\n", ""),
        ("\n", ""),
        ("no colon\r\n", ""),
        (": no name\r\n", ""),
    ];
    for (lines, body) in rows {
        comes_to(&with_next(lines, body), &[400], &[]);
    }
    for line in [
        "GET  /first HTTP/1.1\r\n",
        "GET /first HTTP/1.1\n",
        "GET /fi\0rst HTTP/1.1\r\n",
        "GET /first\r\n",
        "CONNECT web:80 HTTP/1.1\r\n",
    ] {
        comes_to(&format!("{line}Host: web\r\n\r\n"), &[400], &[]);
    }
    // What came before is answered all the same.
    let after = "GET /good HTTP/1.1\r\nHost: web\r\n\r\nGET /bad HTTP/1.1\nHost: web\r\n\r\n";
    comes_to(after, &[200, 400], &[("/good", "")]);
}

#[test]
fn bodies_with_two_readings_break_off() {
    let bodies = [
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nx-a: b\n\r\n\r\n",
    ];
    for body in bodies {
        let text = with_next("Transfer-Encoding: chunked\r\n", body);
        for cut in 0..text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            let (statuses, asked) = now(sent(&[one, other]));
            assert!(
                !statuses.contains(&200) && asked.is_empty(),
                "{body:?} cut at {cut}: {statuses:?} {asked:?}"
            );
        }
    }
}

#[test]
fn a_line_without_an_end_takes_no_memory_for_ever() {
    let mut framing = super::Framing::new(LIMIT);
    assert_eq!(framing.look(&[b'a'; LIMIT]), super::Seen::All);
    assert!(matches!(framing.look(b"a"), super::Seen::Bad(0, _)));
}

/// Asks for another protocol, with bytes right behind; what the service is asked before and after it has answered.
async fn upgrade(status: StatusCode) -> (Asked, Asked, String) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let (asked, answer) = (Rc::<RefCell<Asked>>::default(), Rc::<Notify>::default());
    let guard = Guard::new(server, LIMIT);
    let switch = guard.switch();
    let raw = Rc::<RefCell<String>>::default();
    let service = {
        let (asked, answer, raw) = (asked.clone(), answer.clone(), raw.clone());
        service_fn(move |mut request: http::Request<Incoming>| {
            let (asked, answer, raw, switch) = (asked.clone(), answer.clone(), raw.clone(), switch.clone());
            async move {
                asked.borrow_mut().push((request.uri().path().to_owned(), String::new()));
                let mut response = Response::new(Empty::<Bytes>::new());
                if request.headers().contains_key("upgrade") {
                    answer.notified().await;
                    *response.status_mut() = status;
                    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
                    switch.answered(switched);
                    if switched {
                        let on = hyper::upgrade::on(&mut request);
                        tokio::task::spawn_local(async move {
                            let mut text = String::new();
                            let _ = TokioIo::new(on.await.unwrap()).read_to_string(&mut text).await;
                            *raw.borrow_mut() = text;
                        });
                    }
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let serving =
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(guard), service).with_upgrades();
    let serving = tokio::task::spawn_local(async move { drop(serving.await) });
    let text = "GET /first HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /early HTTP/1.1\r\nHost: web\r\n\r\n";
    client.write_all(text.as_bytes()).await.unwrap();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let before = asked.borrow().clone();
    answer.notify_one();
    client.shutdown().await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    serving.await.unwrap();
    let after = asked.borrow().clone();
    tokio::task::yield_now().await;
    let raw = raw.borrow().clone();
    (before, after, raw)
}

#[test]
fn bytes_sent_before_a_switch_is_agreed_wait_for_the_answer() {
    let run = |status| now(tokio::task::LocalSet::new().run_until(upgrade(status)));
    let first = || ("/first".to_owned(), String::new());
    // The other protocol is spoken: they are its first, and never a request.
    let (before, after, raw) = run(StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!((before, after), (vec![first()], vec![first()]));
    assert_eq!(raw, "GET /early HTTP/1.1\r\nHost: web\r\n\r\n");
    // It is not: they are a request like any other.
    let (before, after, raw) = run(StatusCode::OK);
    assert_eq!((before, after), (vec![first()], vec![first(), ("/early".to_owned(), String::new())]));
    assert_eq!(raw, "");
}

proptest! {
    #[test]
    fn many_requests_in_any_pieces(kinds in prop::collection::vec(0..4_usize, 1..6), cuts in prop::collection::vec(0..100_usize, 0..8)) {
        let (mut text, mut expected) = (String::new(), Asked::new());
        for (number, kind) in kinds.iter().enumerate() {
            let (lines, body, read) = [
                ("", "", ""),
                ("Content-Length: 3\r\n", "\r\n\r", "\r\n\r"),
                ("Transfer-Encoding: chunked\r\n", "4\r\nGET \r\n0\r\n\r\n", "GET "),
                ("Transfer-Encoding: chunked\r\n", "2;x\r\n\r\n\r\n0\r\na: b\r\n\r\n", "\r\n"),
            ][*kind];
            text.push_str(&format!("POST /{number} HTTP/1.1\r\nHost: web\r\n{lines}\r\n{body}"));
            expected.push((format!("/{number}"), read.to_owned()));
        }
        let mut places: Vec<_> = cuts.iter().map(|cut| cut * text.len() / 100).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<_> = places.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
        let (statuses, asked) = now(sent(&pieces));
        prop_assert_eq!(statuses, vec![200; kinds.len()]);
        prop_assert_eq!(asked, expected);
    }
}
