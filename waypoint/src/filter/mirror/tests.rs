//! Which requests are copied, and what the copy looks like.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Version};
use hyper::body::{Body, Frame};

use super::{copy, drain};

fn head(request: Request<()>) -> http::request::Parts {
    request.into_parts().0
}

#[test]
fn a_copy_says_so_in_its_host() {
    for (host, marked) in [
        ("web", "web-shadow"),
        ("web.shop.svc:80", "web.shop.svc-shadow:80"),
        ("[fd00::1]:80", "[fd00::1]:80"),
    ] {
        let one = Request::get("/a?b=c").header("host", host).header("x", "1").header("x", "2");
        let copied = copy(&head(one.body(()).unwrap())).unwrap();
        assert_eq!(copied.headers()["host"], marked);
        assert_eq!(copied.headers().get_all("x").iter().count(), 2);
        assert_eq!(copied.uri().to_string(), "/a?b=c");
        let two = Request::post(format!("http://{host}/a")).version(Version::HTTP_2).body(()).unwrap();
        let copied = copy(&head(two)).unwrap();
        assert_eq!(copied.uri().authority().unwrap(), marked);
        assert_eq!((copied.method().as_str(), copied.version()), ("POST", Version::HTTP_2));
    }
}

#[test]
fn conversations_are_not_copied_and_nothing_is_asked_first() {
    assert!(copy(&head(Request::get("/").header("upgrade", "websocket").body(()).unwrap())).is_none());
    assert!(copy(&head(Request::connect("web:80").body(()).unwrap())).is_none());
    let asks = Request::post("/").header("expect", "100-continue").body(()).unwrap();
    assert!(!copy(&head(asks)).unwrap().headers().contains_key("expect"));
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
