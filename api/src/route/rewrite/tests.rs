//! What rewrites do to a request, and which ones are refused.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::{BadRewrite, apply};
use crate::route::outline::Outline;
use crate::route::text::Substitution;
use crate::route::{Action, Forward, HeaderChange, HttpRule, Matched, PathChange, Pattern, Rewrite};

fn rule(path: Option<PathChange>, authority: Option<&'static str>) -> Arc<HttpRule> {
    Arc::new(HttpRule {
        name: "".into(),
        origin: "".into(),
        matches: vec![],
        action: Action::Forward(Forward::default()),
        rewrite: Some(Rewrite { path, authority: authority.map(HeaderValue::from_static) }),
        request_headers: HeaderChange::default(),
        response_headers: HeaderChange::default(),
        fault: None,
        mirrors: vec![],
        timeout: None,
        retry: None,
    })
}

/// What becomes of a request for `target` of which `prefix` bytes matched.
fn rewritten(rule: &Arc<HttpRule>, target: &'static str, prefix: usize) -> Result<Outline, BadRewrite> {
    let mut outline = Outline {
        method: Method::GET,
        authority: HeaderValue::from_static("web"),
        target: PathAndQuery::from_static(target),
        headers: HeaderMap::new(),
    };
    let matched = Matched { rule, place: 0, by: None, prefix };
    apply(rule, &matched, &mut outline)?;
    Ok(outline)
}

fn prefix(to: &str) -> Arc<HttpRule> {
    rule(Some(PathChange::Prefix(to.to_owned())), None)
}

fn regex(pattern: &str, to: &str) -> Arc<HttpRule> {
    let pattern = Pattern::within(pattern).unwrap();
    let substitution = Substitution::new(to, &pattern).unwrap();
    rule(Some(PathChange::Regex { pattern, substitution }), None)
}

#[test]
fn the_path_changes_the_query_stays_and_the_original_is_noted() {
    for (rule, target, matched, becomes) in [
        (prefix("/v2"), "/v1/a?b=c", 3, "/v2/a?b=c"),
        (prefix("/"), "/foo/x", 4, "//x"),
        (rule(Some(PathChange::Segments("/".to_owned())), None), "/foo/x", 4, "/x"),
        (rule(Some(PathChange::Full("/whole".to_owned())), None), "/foo/x?y", 4, "/whole?y"),
        (regex("/a/([^/]+)", r"/\1/b"), "/a/x/a/y?/a/z", 0, "/x/b/y/b?/a/z"),
    ] {
        let outline = rewritten(&rule, target, matched).unwrap();
        assert_eq!(outline.target.as_str(), becomes);
        assert_eq!(outline.headers["x-envoy-original-path"], target);
        assert_eq!(outline.authority, "web");
    }
    assert!(rewritten(&prefix("/v1"), "/v1/a", 3).unwrap().headers.is_empty(), "nothing changed");
}

#[test]
fn the_authority_changes_alone_or_with_the_path() {
    let outline = rewritten(&rule(None, Some("other:8080")), "/a", 0).unwrap();
    assert_eq!((outline.authority, outline.target.as_str()), (HeaderValue::from_static("other:8080"), "/a"));
}

#[test]
fn what_is_no_path_is_refused() {
    for to in ["", "v2", "/a?b=", "/a#"] {
        let matched = if to.is_empty() { 4 } else { 3 };
        let refused = rewritten(&prefix(to), "/v1/x", matched);
        assert!(matches!(refused, Err(BadRewrite::NotAPath { .. })), "{to:?}: {refused:?}");
    }
}

#[test]
fn nobody_is_led_up_by_a_rewrite() {
    for (from, to, target) in [
        ("x", "", "/.x./admin"),
        ("x", "", "/.x/admin"),
        ("x", ".", "/a/x."),
        ("25", "", "/%252e%252E/admin"),
        ("x", r"\\", r"/a/x../admin"),
    ] {
        let refused = rewritten(&regex(from, to), target, 0);
        assert!(matches!(refused, Err(BadRewrite::Dots { .. })), "{target}: {refused:?}");
    }
    for (from, to, target) in [("x", "y", "/.x./a"), ("x", "...", "/x/a"), ("x", "y", "/a/../x")] {
        assert!(rewritten(&regex(from, to), target, 0).is_ok(), "{target}");
    }
}
