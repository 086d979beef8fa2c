//! The load as a command, as people and scripts use it.

use std::net::ToSocketAddrs;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Connections, Load, MOST, Outcome, Protocol};
use crate::image::{flag, flags};

/// How often a load without an end says what came of it.
const WINDOW: Duration = Duration::from_secs(5);
/// How long it waits when it cannot begin.
const PAUSE: Duration = Duration::from_secs(1);

/// The command: `load --url=http://host:port/path [--rate=N] [--connections=N] [--new | --replaced] [--count=N] [--seconds=N]
/// [--timeout=SECONDS] [--expect=T] [--method=M] [--header=NAME:VALUE …] [--body=T | --body-size=N] [--h2c | --grpc] [--json]`.
///
/// With `--seconds=0` it goes on until it is ended, says every five seconds what came of them, and replaces connections that
/// the server has closed.
pub async fn main(arguments: &[String]) -> std::io::Result<()> {
    if flag(arguments, "seconds") != Some("0") {
        let load = from_flags(arguments).map_err(std::io::Error::other)?;
        return tell(arguments, &load.drive().await);
    }
    loop {
        match from_flags(arguments) {
            Ok(mut load) => {
                (load.time, load.connections) = (WINDOW, endless(load.connections));
                tell(arguments, &load.drive().await)?;
            }
            // A name may not be known yet, or not at the moment.
            Err(problem) => {
                eprintln!("load: {problem}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn endless(connections: Connections) -> Connections {
    match connections {
        Connections::Kept => Connections::Replaced,
        other => other,
    }
}

fn tell(arguments: &[String], outcome: &Outcome) -> std::io::Result<()> {
    if arguments.iter().any(|word| word == "--json") {
        println!("{}", serde_json::to_string(outcome)?);
    } else {
        let [p50, p90, p99, p999, most] = outcome.microseconds;
        println!(
            "sent {} good {} failed {:?} in {:.2} s",
            outcome.sent, outcome.good, outcome.failed, outcome.seconds
        );
        println!("statuses {:?} versions {:?}", outcome.statuses, outcome.versions);
        if let Some(example) = &outcome.example {
            println!("first failure: {example}");
        }
        println!(
            "{:.0} good/s; microseconds p50 {p50} p90 {p90} p99 {p99} p99.9 {p999} max {most}",
            outcome.good as f64 / outcome.seconds
        );
    }
    Ok(())
}

fn from_flags(arguments: &[String]) -> Result<Load, String> {
    let url = flag(arguments, "url").ok_or("--url=http://host:port/path is missing")?;
    let rest = url.strip_prefix("http://").ok_or("--url must begin with http://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let to = with_port.to_socket_addrs().map_err(|error| format!("{authority}: {error}"))?.next();
    let mut load = Load::new(to.ok_or_else(|| format!("{authority} has no address"))?);
    (load.host, load.path) = (authority.to_owned(), format!("/{path}"));
    fn number<T: std::str::FromStr>(arguments: &[String], name: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| value.parse().map_err(|_invalid| format!("--{name}={value} is no number"));
        flag(arguments, name).map(parse).transpose()
    }
    load.rate = number::<f64>(arguments, "rate")?.filter(|rate| *rate > 0.0);
    load.width = number(arguments, "connections")?.unwrap_or(1);
    load.count = number(arguments, "count")?.unwrap_or(MOST);
    let seconds = |name: &str, default: f64| -> Result<Duration, String> {
        let wrong = |error| format!("--{name}: {error}");
        Duration::try_from_secs_f64(number(arguments, name)?.unwrap_or(default)).map_err(wrong)
    };
    load.time = seconds("seconds", 10.0)?;
    load.timeout = seconds("timeout", 5.0)?;
    load.expect = flag(arguments, "expect").unwrap_or_default().to_owned();
    let has = |name: &str| arguments.iter().any(|word| word == name);
    if has("--new") {
        load.connections = Connections::OnePerRequest;
    }
    if has("--replaced") {
        load.connections = Connections::Replaced;
    }
    if has("--h2c") {
        load.protocol = Protocol::H2c;
    }
    if has("--grpc") {
        load.protocol = Protocol::Grpc;
    }
    if let Some(method) = flag(arguments, "method") {
        load.method = method.parse().map_err(|_invalid| format!("--method={method} is no method"))?;
    }
    for pair in flags(arguments, "header") {
        let (name, value) =
            pair.split_once(':').ok_or_else(|| format!("--header={pair}: write NAME:VALUE"))?;
        let name: HeaderName = name.parse().map_err(|_invalid| format!("--header={pair}: no header"))?;
        let value: HeaderValue =
            value.trim().parse().map_err(|_invalid| format!("--header={pair}: no value"))?;
        load.headers.append(name, value);
    }
    load.body = match number::<usize>(arguments, "body-size")? {
        Some(size) => Bytes::from(vec![b'x'; size]),
        None => Bytes::from(flag(arguments, "body").unwrap_or_default().to_owned()),
    };
    Ok(load)
}
