//! Stand-in for the image hashicorp/http-echo: the same flags, the same answer.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::serve::{Answer, http, whole};
use crate::image::flag;

/// Serves until it is ended.
pub async fn main(arguments: &[String]) -> std::io::Result<()> {
    let wrong = |what: &str| std::io::Error::other(format!("flag {what} cannot be understood"));
    let port = flag(arguments, "listen").map_or(Some(5678), |listen| listen.rsplit(':').next()?.parse().ok());
    let port = port.ok_or_else(|| wrong("-listen"))?;
    let status = flag(arguments, "status-code").map_or(Some(StatusCode::OK), |code| code.parse().ok());
    let status = status.ok_or_else(|| wrong("-status-code"))?;
    let text = flag(arguments, "text").ok_or_else(|| std::io::Error::other("Missing -text option!"))?;
    let text = Bytes::from(format!("{text}\n"));
    let version = super::version_header();
    http(port, move |request, _peer| {
        let healthy = request.uri().path() == "/health";
        let (status, body) = if healthy {
            (StatusCode::OK, Bytes::from_static(b"{\"status\":\"ok\"}\n"))
        } else {
            (status, text.clone())
        };
        let mut response = reply(status, body);
        response.headers_mut().extend(version.clone().map(|version| (super::VERSION, version)));
        std::future::ready(Ok(response))
    })
    .await
}

fn reply(status: StatusCode, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert("x-app-name", http::HeaderValue::from_static("http-echo"));
    response
}
