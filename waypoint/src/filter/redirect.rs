//! Answers that send the client elsewhere.

use ambit_api::route::{Redirect, Request};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, InvalidHeaderValue, LOCATION};
use http::{HeaderValue, Response};

#[cfg(test)]
mod tests;

/// Sends a request elsewhere; `prefix` is how much of its path was matched.
///
/// # Errors
/// When the new address cannot be written in a header.
pub fn answer(
    redirect: &Redirect,
    request: &Request<'_>,
    prefix: usize,
) -> Result<Response<Bytes>, InvalidHeaderValue> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = redirect.status;
    let headers = answer.headers_mut();
    headers.insert(LOCATION, HeaderValue::try_from(redirect.location(request, prefix))?);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    Ok(answer)
}
