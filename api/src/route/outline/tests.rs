//! What stays on a connection, and what goes on.

use super::{CONNECTION, Head, HeaderName, HeaderValue, Method, PathAndQuery, TE, UPGRADE, Version};

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
