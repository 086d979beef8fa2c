//! gRPC calls of any name: every message comes back as it was sent, one or many.

use bytes::Bytes;
use futures_util::stream::try_unfold;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use crate::grpc::{CONTENT_TYPE, Messages, STATUS, framed};
use crate::standin::serve::{Answer, whole};

/// Whether a request is a call.
pub(super) fn asked<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get("content-type");
    kind.is_some_and(|kind| kind.as_bytes().starts_with(CONTENT_TYPE.as_bytes()))
}

/// Answers a call, at once when it shall end in a status other than OK.
pub(super) fn answer(request: Request<Incoming>, status: Option<u32>) -> Response<Answer> {
    let mut response = match status.unwrap_or(0) {
        0 => Response::new(echo(request.into_body())),
        status => {
            let mut response = Response::new(whole(Bytes::new()));
            response.headers_mut().insert(STATUS, HeaderValue::from(status));
            response
        }
    };
    response.headers_mut().insert("content-type", HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// Where an echo has got to.
enum Step {
    Reading(Incoming, Messages),
    Over,
}

fn echo(body: Incoming) -> Answer {
    let frames = try_unfold(Step::Reading(body, Messages::default()), async |step| {
        let Step::Reading(mut body, mut messages) = step else { return Ok(None) };
        loop {
            if let Some(message) = messages.pop().map_err(std::io::Error::other)? {
                return Ok(Some((Frame::data(framed(&message)), Step::Reading(body, messages))));
            }
            match body.frame().await {
                Some(frame) => {
                    let frame = frame.map_err(std::io::Error::other)?;
                    messages.push(frame.data_ref().map_or(&[], |data| data));
                }
                None => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert(STATUS, HeaderValue::from_static("0"));
                    return Ok(Some((Frame::trailers(trailers), Step::Over)));
                }
            }
        }
    });
    Box::pin(StreamBody::new(frames))
}
