//! Calls that an echo makes before it answers, so that it can stand for a service that needs others.
//!
//! `--call=[PATH=][N*]URL[,URL …]` is one stage: for requests under PATH (else for every one) each URL is asked N times
//! (else once) with GET. Stages follow each other in the order of the flags; within one, `--at-once=N` calls (else one) are
//! under way together. A stage is at most 1000 calls. What follows a trace is handed on, and so is every header named by
//! `--carry=NAME`. The answer says `{"calls": {"made", "good", "failed": {WHERE AND WHY: n}}}`; its status is 502 when a
//! call has not been answered with 200.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::iter;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;

use crate::image::{flag, flags};
use crate::load::named;

/// Headers that join the spans of one trace (W3C and B3), and what Istio's programs number requests by.
const TRACE: [HeaderName; 10] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("b3"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-parentspanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
    HeaderName::from_static("x-request-id"),
];
/// Most calls of one stage, and most of them at once.
const MOST: usize = 1000;
/// Idle connections kept to one server: all that 64 customers of a checkout use, eight each.
const KEPT: usize = 512;
/// How long the address of a server is remembered, as the lab's name server allows: hundreds of connections that begin
/// at once must not be as many questions, of which some get lost.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(10);

type Sender = SendRequest<Empty<Bytes>>;
/// An address and when it was asked for; whoever asks holds it, so that the others wait for the answer.
type Looked = Rc<Mutex<Option<(Instant, SocketAddr)>>>;

/// Every call to make, and the connections they use.
#[derive(Debug, Default)]
pub(super) struct Calls {
    stages: Vec<Stage>,
    at_once: usize,
    carried: Vec<HeaderName>,
    idle: RefCell<HashMap<String, Vec<Sender>>>,
    addresses: RefCell<HashMap<String, Looked>>,
}

/// Calls that need not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stage {
    under: String,
    times: usize,
    targets: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    authority: String,
    path: String,
}

/// What came of the calls of one request.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Made {
    made: u64,
    good: u64,
    failed: BTreeMap<String, u64>,
}

impl Made {
    pub(super) fn all_good(&self) -> bool {
        self.failed.is_empty()
    }
}

impl Calls {
    pub(super) fn of(arguments: &[String]) -> Result<Self> {
        let stages = flags(arguments, "call").into_iter().map(stage).collect::<Result<_>>()?;
        let wrong = |flag: &str, value: &str| Error::other(format!("--{flag}={value} cannot be understood"));
        let at_once = flag(arguments, "at-once").map_or(Ok(1), |value| {
            value
                .parse()
                .ok()
                .filter(|count| (1..=MOST).contains(count))
                .ok_or_else(|| wrong("at-once", value))
        })?;
        let carry = |name: &str| name.parse::<HeaderName>().map_err(|_invalid| wrong("carry", name));
        let named = flags(arguments, "carry").into_iter().map(carry).collect::<Result<Vec<_>>>()?;
        Ok(Self { stages, at_once, carried: [&TRACE[..], &named].concat(), ..Self::default() })
    }

    /// Makes the calls a request asks for; none when it asks for none.
    pub(super) async fn make<B>(&self, request: &Request<B>) -> Option<Made> {
        let path = request.uri().path();
        let stages: Vec<_> = self.stages.iter().filter(|stage| path.starts_with(&stage.under)).collect();
        if stages.is_empty() {
            return None;
        }
        let carried = self.carried(request.headers());
        let mut made = Made::default();
        for stage in stages {
            let targets = (0..stage.times).flat_map(|_| &stage.targets);
            let carried = &carried;
            let calls = targets.map(|target| async move { (target, self.call(target, carried).await) });
            let mut answers = iter(calls).buffer_unordered(self.at_once);
            while let Some((target, answer)) = answers.next().await {
                made.made += 1;
                match answer {
                    Ok(()) => made.good += 1,
                    Err(why) => *made.failed.entry(format!("{}: {why}", target.authority)).or_default() += 1,
                }
            }
        }
        Some(made)
    }

    fn carried(&self, headers: &HeaderMap) -> HeaderMap {
        let values = |name: &HeaderName| {
            headers.get_all(name).iter().cloned().map(|value| (name.clone(), value)).collect()
        };
        self.carried.iter().flat_map(|name| -> Vec<_> { values(name) }).collect()
    }

    async fn call(&self, target: &Target, carried: &HeaderMap) -> std::result::Result<(), String> {
        let patiently = |call| tokio::time::timeout(PATIENCE, call);
        patiently(self.ask(target, carried)).await.unwrap_or_else(|_late| Err("timeout".to_owned()))
    }

    async fn ask(&self, target: &Target, carried: &HeaderMap) -> std::result::Result<(), String> {
        let kept = self.kept(&target.authority);
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.open(&target.authority).await?,
        };
        let response = match sender.send_request(request(target, carried)?).await {
            // The server may close a connection that was idle at the moment it is used again.
            Err(error) if is_kept && (error.is_canceled() || error.is_incomplete_message()) => {
                sender = self.open(&target.authority).await?;
                sender.send_request(request(target, carried)?).await
            }
            response => response,
        };
        let response = response.map_err(named)?;
        let status = response.status();
        response.into_body().collect().await.map_err(named)?;
        if sender.ready().await.is_ok() {
            let mut idle = self.idle.borrow_mut();
            let idle = idle.entry(target.authority.clone()).or_default();
            if idle.len() < KEPT {
                idle.push(sender);
            }
        }
        if status == http::StatusCode::OK { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
    }

    /// A connection that was used before and is still open.
    fn kept(&self, authority: &str) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let idle = idle.get_mut(authority)?;
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn open(&self, authority: &str) -> std::result::Result<Sender, String> {
        let failed = |error: Error| format!("connect: {}", error.kind());
        let address = self.address(authority).await.map_err(failed)?;
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(named)?;
        // Its error is that of the request on it.
        ambit_process::spawn::spawn_local("call", async { drop(connection.await) });
        Ok(sender)
    }

    async fn address(&self, authority: &str) -> Result<SocketAddr> {
        let looked = self.addresses.borrow_mut().entry(authority.to_owned()).or_default().clone();
        let mut looked = looked.lock().await;
        if let Some((since, address)) = *looked
            && since.elapsed() < REMEMBERED
        {
            return Ok(address);
        }
        let mut found = match authority.contains(':') {
            true => lookup_host(authority).await?.collect::<Vec<_>>(),
            false => lookup_host((authority, 80)).await?.collect(),
        };
        // Where a name has both, IPv4 first: not every kernel has the other.
        found.sort_by_key(SocketAddr::is_ipv6);
        let address = *found.first().ok_or_else(|| Error::from(std::io::ErrorKind::NotFound))?;
        *looked = Some((Instant::now(), address));
        Ok(address)
    }
}

fn request(target: &Target, carried: &HeaderMap) -> std::result::Result<Request<Empty<Bytes>>, String> {
    let wrong = |error: http::Error| format!("request: {error}");
    let mut request = Request::get(&target.path).body(Empty::new()).map_err(wrong)?;
    let host = HeaderValue::from_str(&target.authority).map_err(|error| wrong(error.into()))?;
    *request.headers_mut() = carried.clone();
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

fn stage(text: &str) -> Result<Stage> {
    let wrong = || Error::other(format!("--call={text}: write [PATH=][N*]URL[,URL …], at most {MOST} calls"));
    let (under, rest) = match text.split_once('=') {
        Some((path, rest)) if path.starts_with('/') => (path, rest),
        _ => ("", text),
    };
    let (times, urls) = match rest.split_once('*') {
        Some((times, urls)) => (times.parse().map_err(|_invalid| wrong())?, urls),
        None => (1, rest),
    };
    let targets = urls.split(',').map(|url| target(url).ok_or_else(wrong)).collect::<Result<Vec<_>>>()?;
    if times == 0 || targets.len().saturating_mul(times) > MOST {
        return Err(wrong());
    }
    Ok(Stage { under: under.to_owned(), times, targets })
}

fn target(url: &str) -> Option<Target> {
    let rest = url.trim().strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    (!authority.is_empty()).then(|| Target { authority: authority.to_owned(), path: format!("/{path}") })
}

#[cfg(test)]
mod tests {
    use super::{Calls, Stage, Target, stage};
    use http::Request;

    #[test]
    fn stages_are_read_and_mistakes_named() {
        let target =
            |authority: &str, path: &str| Target { authority: authority.to_owned(), path: path.to_owned() };
        let read = |text: &str| stage(text).map_err(|error| error.to_string());
        let cases = [
            ("http://cart.shop", ("", 1, vec![target("cart.shop", "/")])),
            (
                "/order=9*http://a:81/x?y=1,http://b/",
                ("/order", 9, vec![target("a:81", "/x?y=1"), target("b", "/")]),
            ),
        ];
        for (text, (under, times, targets)) in cases {
            assert_eq!(read(text), Ok(Stage { under: under.to_owned(), times, targets }), "{text}");
        }
        for text in ["", "https://a", "0*http://a", "x*http://a", "501*http://a,http://b", "http:///x", "/a="]
        {
            assert!(read(text).unwrap_err().contains(&format!("--call={text}")), "{text}");
        }
        let refused = |word: &str| Calls::of(&[word.to_owned()]).unwrap_err().to_string().contains(word);
        assert!(refused("--at-once=0") && refused("--at-once=many") && refused("--carry=no header"));
    }

    #[test]
    fn traces_and_named_headers_are_carried_and_others_are_not() {
        let calls = Calls::of(&["--carry=x-shop-user".to_owned()]).unwrap();
        let request = Request::get("/")
            .header("traceparent", "00-1-2-01")
            .header("b3", "1-2-1")
            .header("baggage", "a=1")
            .header("baggage", "b=2")
            .header("x-shop-user", "tester")
            .header("authorization", "secret")
            .header("host", "frontend");
        let carried = calls.carried(request.body(()).unwrap().headers());
        assert_eq!(carried.len(), 5, "{carried:?}");
        assert_eq!(carried["x-shop-user"], "tester");
        assert_eq!(carried.get_all("baggage").iter().count(), 2);
    }
}
