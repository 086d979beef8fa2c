//! Heads of requests, and how they are written on a connection.

use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};

use crate::body::Outgoing;
use crate::upstream::Protocol;

pub use ambit_api::route::outline::{Head, Outline, strip};

/// As it is written on a connection of that protocol. `None`: HTTP cannot say it.
pub fn request(outline: Outline, protocol: Protocol, body: Outgoing) -> Option<Request<Outgoing>> {
    let mut request = Request::new(body);
    let mut headers = outline.headers;
    match protocol {
        Protocol::Http1 => {
            *request.uri_mut() = Uri::from(outline.target);
            headers.insert(HOST, outline.authority);
        }
        Protocol::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            headers.remove(CONNECTION);
            headers.remove(UPGRADE);
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Some(Authority::try_from(outline.authority.as_bytes()).ok()?);
            parts.path_and_query = Some(outline.target);
            *request.uri_mut() = Uri::from_parts(parts).ok()?;
        }
    }
    *request.method_mut() = outline.method;
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;
    use http::{HeaderName, HeaderValue, Method};

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> Head {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Head {
            method: Method::GET,
            authority: "web.shop:8080".into(),
            target: PathAndQuery::from_static("/a?b=c"),
            headers,
            version: Version::HTTP_11,
        }
    }

    #[test]
    fn each_protocol_says_the_authority_in_its_own_place() {
        let outline = head(&[]).outline().unwrap();
        assert_eq!(outline.host(), "web.shop");
        let first = request(outline.clone(), Protocol::Http1, Outgoing::none()).unwrap();
        assert_eq!(
            (first.uri().to_string(), &first.headers()[HOST]),
            ("/a?b=c".to_owned(), &HeaderValue::from_static("web.shop:8080"))
        );
        let second = request(outline, Protocol::Http2, Outgoing::none()).unwrap();
        assert_eq!(second.uri().to_string(), "http://web.shop:8080/a?b=c");
        assert!(second.headers().is_empty());
    }
}
