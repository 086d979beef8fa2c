//! Heads of requests: as they were received, and as they go on. What policies judge in S is made here, for the data plane
//! and for whoever explains it.

use http::header::{
    CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::{Backend, HeaderChange, HttpRule, Matched, headers, rewrite};

#[cfg(test)]
mod tests;

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
const OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
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

    /// Whether the client wants to go on with another protocol, and which. Of WebSocket alone: any other could be one in
    /// which further requests follow (`h2c`), and nobody would judge those. A server may ignore what it is not asked.
    pub fn upgrade(&self) -> Option<&HeaderValue> {
        let mut asked = self.headers.get_all(UPGRADE).iter();
        let one = asked.next().filter(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))?;
        let alone = asked.next().is_none() && self.version < Version::HTTP_2;
        (alone && names(&self.headers, &UPGRADE)).then_some(one)
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
        headers::change(change, &mut self.headers);
        if let Some(authority) = &change.authority {
            self.authority = authority.clone();
        }
    }

    /// What a rule does to a request on its way to one of its backends.
    pub fn follow(
        &mut self,
        rule: &HttpRule,
        backend: &Backend,
        matched: &Matched<'_>,
    ) -> Result<(), rewrite::BadRewrite> {
        self.change(&rule.request_headers);
        self.change(&backend.request_headers);
        rewrite::apply(rule, matched, self)
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
