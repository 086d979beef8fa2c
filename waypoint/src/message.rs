//! Heads of messages: as they were received, and as they go on.

use ambit_api::route::HeaderChange;
use http::header::{
    CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::body::Outgoing;
use crate::upstream::Protocol;

/// A request as it was received, its authority and path normalised: what is matched, judged by T and sent on.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The authority in canonical form, with its port if it had one.
    pub authority: Box<str>,
    /// The normalised path, and the query.
    pub target: PathAndQuery,
    /// The headers, those of the client's connection included.
    pub headers: HeaderMap,
    /// What the client speaks.
    pub version: Version,
}

/// A request as an endpoint will receive it: what S judges. The body comes later.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The method.
    pub method: Method,
    /// The authority.
    pub authority: HeaderValue,
    /// The path and query.
    pub target: PathAndQuery,
    /// The headers.
    pub headers: HeaderMap,
}

/// Belongs to one connection only (RFC 9110 §7.6.1), whether `Connection` names it or not.
const OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The only thing that may be said of transfer codings across a proxy; gRPC insists on it.
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

impl Head {
    /// The host, without the port.
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        }
    }

    /// Whether the client wants to go on with another protocol, and which.
    pub fn upgrade(&self) -> Option<&HeaderValue> {
        let asked = self.version < Version::HTTP_2 && names(&self.headers, &UPGRADE);
        self.headers.get(UPGRADE).filter(|_| asked)
    }

    /// As it goes on, before a route changes it.
    pub fn outline(&self) -> Option<Outline> {
        let mut headers = self.headers.clone();
        let upgrade = self.upgrade().cloned();
        let trailers = headers.get_all(TE).iter().any(|value| lists(value, "trailers"));
        strip(&mut headers);
        headers.remove(HOST);
        // Ours to the client was given by whoever reads its body.
        headers.remove(EXPECT);
        if trailers {
            headers.insert(TE, TRAILERS);
        }
        if let Some(upgrade) = upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, upgrade);
        }
        Some(Outline {
            method: self.method.clone(),
            authority: HeaderValue::from_str(&self.authority).ok()?,
            target: self.target.clone(),
            headers,
        })
    }
}

impl Outline {
    /// The host, without the port.
    pub fn host(&self) -> &str {
        let authority = self.authority.to_str().unwrap_or_default();
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// Header operations of a route.
    pub fn change(&mut self, change: &HeaderChange) {
        crate::filter::headers::change(change, &mut self.headers);
        if let Some(authority) = &change.authority {
            self.authority = authority.clone();
        }
    }

    /// As it is written on a connection of that protocol. `None`: HTTP cannot say it.
    pub fn request(self, protocol: Protocol, body: Outgoing) -> Option<Request<Outgoing>> {
        let mut request = Request::new(body);
        let mut headers = self.headers;
        match protocol {
            Protocol::Http1 => {
                *request.uri_mut() = Uri::from(self.target);
                headers.insert(HOST, self.authority);
            }
            Protocol::Http2 => {
                *request.version_mut() = Version::HTTP_2;
                headers.remove(CONNECTION);
                headers.remove(UPGRADE);
                let mut parts = http::uri::Parts::default();
                parts.scheme = Some(Scheme::HTTP);
                parts.authority = Some(Authority::try_from(self.authority.as_bytes()).ok()?);
                parts.path_and_query = Some(self.target);
                *request.uri_mut() = Uri::from_parts(parts).ok()?;
            }
        }
        *request.method_mut() = self.method;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// Removes what belongs to the connection a message came on.
pub fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
}

/// Whether `Connection` names a header.
fn names(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| lists(value, name.as_str()))
}

/// Whether a comma-separated value has an item, whatever its case.
fn lists(value: &HeaderValue, item: &str) -> bool {
    let items = value.to_str().unwrap_or_default().split(',');
    items.into_iter().any(|one| one.trim().eq_ignore_ascii_case(item))
}

#[cfg(test)]
mod tests {
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
    fn what_belongs_to_a_connection_stays_on_it() {
        let head = head(&[
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, Trailers"),
            ("expect", "100-continue"),
            ("host", "web.shop:8080"),
            ("x-other", "2"),
        ]);
        let outline = head.outline().unwrap();
        let mut left: Vec<_> = outline.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-other"]);
        assert_eq!(outline.headers[TE], "trailers");
    }

    #[test]
    fn an_upgrade_goes_on_only_if_the_connection_names_it() {
        let asked = head(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        let outline = asked.outline().unwrap();
        assert_eq!(
            (&outline.headers[CONNECTION], &outline.headers[UPGRADE]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
        let unasked = head(&[("upgrade", "websocket")]);
        assert!(unasked.outline().unwrap().headers.is_empty());
    }

    #[test]
    fn each_protocol_says_the_authority_in_its_own_place() {
        let outline = head(&[]).outline().unwrap();
        assert_eq!(outline.host(), "web.shop");
        let first = outline.clone().request(Protocol::Http1, Outgoing::none()).unwrap();
        assert_eq!(
            (first.uri().to_string(), &first.headers()[HOST]),
            ("/a?b=c".to_owned(), &HeaderValue::from_static("web.shop:8080"))
        );
        let second = outline.request(Protocol::Http2, Outgoing::none()).unwrap();
        assert_eq!(second.uri().to_string(), "http://web.shop:8080/a?b=c");
        assert!(second.headers().is_empty());
    }
}
