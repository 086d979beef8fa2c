//! What can be seen only while the shop is put into the mesh, or beside it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::promise::{Broken, Look, ensure};
use super::shop::{ECHO, SECRET, Shop};
use super::wire;
use crate::bench::checkout::{CALLS, added};
use crate::component::Programs;
use crate::process::poll;
use crate::stream::Stream;

const REQUESTS: usize = 20;
/// Connections that are open while the label is set.
const STREAMS: usize = 10;
/// Numbers that must go both ways after it.
const ROUNDS: u64 = 20;
/// Customers who order at once, and their turns with and without a mesh.
const CUSTOMERS: usize = 2;
const TURNS: usize = 3;
const TURN: Duration = Duration::from_millis(500);
/// How many times as long an order may take: far more than it does, so that only what is broken is called so.
const MOST: f64 = 10.0;

pub(super) fn before(shop: &Shop<'_>) -> Look {
    let capture = wire::listen(shop)?;
    let reached = shop.reach(&shop.client, shop.service("shop/cart")?, REQUESTS, SECRET);
    let seen = wire::read(shop, &capture.finish());
    reached?;
    ensure(seen.readable >= REQUESTS && seen.records == 0, || {
        format!("{} packets readable, {} TLS records", seen.readable, seen.records)
    })?;
    Ok(format!(
        "{REQUESTS} requests: {SECRET:?} readable in {} packets on the link, nothing on port 15008",
        seen.readable
    ))
}

pub(super) fn enrolment(shop: &Shop<'_>) -> Look {
    let processes = processes(shop);
    let to = SocketAddr::new(shop.service("shop/cart")?.ip(), ECHO);
    let open = move || (0..STREAMS).map(|_| Stream::open(to, Duration::from_millis(2))).collect();
    let streams: std::io::Result<Vec<Stream>> = shop.lab.in_pod(&shop.client, open);
    let streams = streams?;
    let flowed = poll(Duration::from_secs(5), || busy(&streams, ROUNDS));
    ensure(flowed.is_some(), || "the streams did not get going".to_owned())?;
    let start = Instant::now();
    shop.lab.label("namespace", "shop", &["istio.io/dataplane-mode=ambient"])?;
    shop.lab.settled()?;
    let took = start.elapsed();
    let far = streams.iter().map(Stream::rounds).max().unwrap_or_default() + ROUNDS;
    poll(Duration::from_secs(5), || busy(&streams, far));
    let mut rounds = 0;
    for stream in streams {
        rounds +=
            stream.finish().map_err(|error| Broken::Found(format!("an open connection broke: {error}")))?;
    }
    ensure(self::processes(shop) == processes, || "a pod's program was started again".to_owned())?;
    Ok(format!(
        "{} pods in the mesh {} ms after the label, the same processes as before; {STREAMS} of {STREAMS} open connections went on ({rounds} echoes, 0 lost)",
        shop.enrolled().len(),
        took.as_millis()
    ))
}

/// The same order in two labs of their own, one without a mesh.
pub(super) fn fan_out() -> Look {
    let added = added(Programs::default(), CUSTOMERS, TURNS, TURN)?;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let (without, with) = (milliseconds(added.without), milliseconds(added.with));
    ensure(with <= without * MOST, || {
        format!(
            "an order takes {with:.1} ms, and {without:.1} ms without a mesh: more than {MOST} times as long"
        )
    })?;
    Ok(format!(
        "an order of {CALLS} calls, all between two nodes: {with:.1} ms in mutual TLS, {without:.1} ms without a mesh, {:+.2} ms a call; no call failed",
        (with - without) / CALLS as f64
    ))
}

/// Whether every stream has come that far, or has ended.
fn busy(streams: &[Stream], rounds: u64) -> Option<()> {
    streams.iter().all(|stream| stream.rounds() >= rounds || stream.broken()).then_some(())
}

/// Every pod's processes.
fn processes(shop: &Shop<'_>) -> BTreeMap<String, Vec<u32>> {
    shop.enrolled().into_iter().map(|pod| (pod.name.clone(), shop.lab.processes(&pod))).collect()
}
