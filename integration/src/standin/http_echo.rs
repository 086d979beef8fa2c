//! Stand-in for the image hashicorp/http-echo: the same flags, the same answer.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::serve::http;
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
    http(port, move |request, _peer| {
        let healthy = request.uri().path() == "/health";
        let (status, body) = if healthy {
            (StatusCode::OK, Bytes::from_static(b"{\"status\":\"ok\"}\n"))
        } else {
            (status, text.clone())
        };
        std::future::ready(reply(status, body))
    })
    .await
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert("x-app-name", http::HeaderValue::from_static("http-echo"));
    response
}
