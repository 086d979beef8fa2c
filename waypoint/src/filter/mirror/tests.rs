//! Which requests are copied, and what the copy looks like.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use hyper::body::{Body, Frame};

use super::{copy, drain};
use crate::message::Outline;

fn outline(authority: &'static str, headers: &[(&'static str, &'static str)]) -> Outline {
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    Outline {
        method: Method::POST,
        authority: HeaderValue::from_static(authority),
        target: PathAndQuery::from_static("/a?b=c"),
        headers,
    }
}

#[test]
fn a_copy_says_so_in_its_host_and_is_the_same_otherwise() {
    for (authority, marked) in [
        ("web", "web-shadow"),
        ("web.shop.svc:80", "web.shop.svc-shadow:80"),
        ("[fd00::1]:80", "[fd00::1]:80"),
    ] {
        let original = outline(authority, &[("x", "1"), ("x", "2")]);
        let copied = copy(&original).unwrap();
        assert_eq!(copied.authority, marked);
        assert_eq!((copied.method, copied.target), (original.method, original.target));
        assert_eq!(copied.headers, original.headers);
    }
}

#[test]
fn conversations_are_not_copied() {
    assert!(copy(&outline("web", &[("connection", "upgrade"), ("upgrade", "websocket")])).is_none());
}

struct Pieces(VecDeque<&'static str>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
    }
}

#[test]
fn an_answer_is_read_up_to_a_bound() {
    for (bound, to_the_end) in [(4, true), (3, false)] {
        assert_eq!(drain(Pieces(["ab", "cd"].into()), bound).now_or_never(), Some(to_the_end));
    }
}
