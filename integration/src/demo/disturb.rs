//! Looks at promises for which a program of the mesh is killed and started again.

use std::time::{Duration, Instant};

use super::promise::{Broken, Look, ensure};
use super::shop::{SECRET, Shop, WEB, web_of};
use super::wire;
use crate::component::Component;
use crate::process::poll;

/// Longest time until a pod's connections work again.
const BACK: Duration = Duration::from_secs(15);

pub(super) fn proxy(shop: &Shop<'_>) -> Look {
    let proxy = Component::Ztunnel(shop.client.node);
    let to = shop.service("shop/cart")?;
    // Where nothing works before the kill, a failure after it would say nothing.
    shop.reach(&shop.client, to, 5, SECRET)?;
    let capture = wire::listen(shop)?;
    shop.lab.kill(proxy)?;
    let (out, into) = without_proxy(shop, to);
    shop.lab.start(proxy)?;
    let start = Instant::now();
    shop.lab.wait_ready(proxy)?;
    let back = poll(BACK, || (shop.reach(&shop.client, to, 1, SECRET).is_ok()).then(|| start.elapsed()));
    let seen = wire::read(shop, &capture.finish());
    out?;
    into?;
    seen.nothing_leaks()?;
    let back = back.ok_or_else(|| {
        Broken::Found(format!("no request got through {BACK:?} after {proxy} was started again"))
    })?;
    ensure(!seen.hellos.is_empty(), || "no new tunnel was seen on the link".to_owned())?;
    shop.lab.settled()?;
    Ok(format!(
        "{proxy} killed: 40 of 40 requests out of and 10 of 10 into its pods failed, 0 readable packets on the link; {} ms after its start all worked, the new tunnel offered X25519MLKEM768 first",
        back.as_millis()
    ))
}

/// What its pods do while a proxy is dead: nothing gets out of them, nothing into them.
fn without_proxy(shop: &Shop<'_>, to: std::net::SocketAddr) -> (Result<(), Broken>, Result<(), Broken>) {
    let out = shop.refuse(&shop.client, to, 40);
    let orphan = shop.web.iter().find(|pod| pod.node == shop.client.node);
    let into = match orphan {
        Some(pod) => shop.refuse(&shop.visitor, web_of(pod, WEB), 10),
        None => Err(Broken::Found("no web pod is on node 1".to_owned())),
    };
    (out, into)
}

pub(super) fn controller(shop: &Shop<'_>) -> Look {
    let to = shop.service("shop/cart")?;
    shop.lab.kill(Component::Controller)?;
    let worked = shop.reach(&shop.client, to, 100, SECRET);
    let refused = shop.refuse(&shop.batch, to, 20);
    shop.lab.start(Component::Controller)?;
    let start = Instant::now();
    shop.lab.wait_ready(Component::Controller)?;
    let settled = shop.lab.settled();
    worked?;
    refused?;
    settled?;
    Ok(format!(
        "without it 100 of 100 permitted requests were answered and 20 of 20 others refused; {} ms after its start every proxy had acknowledged",
        start.elapsed().as_millis()
    ))
}
