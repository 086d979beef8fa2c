//! Copies of requests for another service, which answers nobody.
//!
//! A mirror is one attempt of its own: chosen and judged like any other (policy.md rules 4 and 5), never retried, never
//! waited for. It is sent once the whole body has passed to the service proper; a body larger than [`BODY_BOUND`] is not
//! kept for it, so such requests are not mirrored.

use std::future::poll_fn;
use std::pin::Pin;

use ambit_api::route::Mirror;
use bytes::Bytes;
use http::HeaderValue;
use http::header::UPGRADE;
use hyper::body::Body;
use rand::Rng;

use super::falls_on;
use crate::message::Outline;

#[cfg(test)]
mod tests;

/// The largest body that is mirrored.
pub const BODY_BOUND: usize = 64 * 1024;

/// What marks a copy, for people who read logs.
const SUFFIX: &str = "-shadow";

/// Those mirrors that get a copy of this request; each is drawn for itself.
pub fn draw<'a>(mirrors: &'a [Mirror], rng: &mut impl Rng) -> Vec<&'a Mirror> {
    mirrors.iter().filter(|mirror| falls_on(mirror.share, rng)).collect()
}

/// The copy of a request, as the service proper gets it but for its host. `None`: an upgrade, which is a conversation and
/// cannot be copied.
pub fn copy(request: &Outline) -> Option<Outline> {
    if request.headers.contains_key(UPGRADE) {
        return None;
    }
    let authority = HeaderValue::try_from(marked(request.authority.to_str().ok()?)).ok()?;
    Some(Outline { authority, ..request.clone() })
}

/// `web:80` becomes `web-shadow:80`. The brackets of an IPv6 address are no place for a suffix; it stays as it is.
fn marked(authority: &str) -> String {
    if authority.starts_with('[') {
        return authority.to_owned();
    }
    match authority.split_once(':') {
        Some((host, port)) => format!("{host}{SUFFIX}:{port}"),
        None => format!("{authority}{SUFFIX}"),
    }
}

/// Reads an answer to its end and forgets it, so that its connection can serve again; gives up on one that is larger
/// than `bound` or breaks off. The caller bounds the time.
pub async fn drain<B: Body<Data = Bytes> + Unpin>(mut answer: B, bound: usize) -> bool {
    let mut left = bound;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut answer).poll_frame(context)).await {
        let Ok(frame) = frame else { return false };
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}
