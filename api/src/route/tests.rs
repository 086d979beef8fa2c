//! Which rule requests fall on, and what rules do to paths and addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Client, HttpTable, Pattern, Request, TcpTable};
use crate::wire::waypoint as wire;

use wire::path_change::Kind as Change;
use wire::text::Kind::{self, Exact, Prefix, Present, Regex, Segments, Suffix};

fn text(kind: Kind) -> Option<wire::Text> {
    Some(wire::Text { kind: Some(kind) })
}

fn s(text: &str) -> String {
    text.to_owned()
}

fn table(matches: Vec<wire::HttpMatch>) -> HttpTable {
    let action =
        Some(wire::http_rule::Action::Respond(wire::DirectResponse { status: 200, ..Default::default() }));
    HttpTable::parse(vec![wire::HttpRule { matches, action, ..Default::default() }]).expect("is valid")
}

struct Ask {
    method: Method,
    authority: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    headers: HeaderMap,
    client: Client,
}

fn ask() -> Ask {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-one", "a"), ("x-two", "a"), ("x-two", "b"), ("x-empty", "")] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let labels: BTreeMap<_, _> = [(s("app"), s("web")), (s("tier"), s("1"))].into();
    let ip = "10.0.0.5".parse().expect("an address");
    Ask {
        method: Method::GET,
        authority: "web.shop:8080",
        path: "/v1/Items",
        query: Some("q=a%20b&q=c&empty=&flag&%66oo=bar"),
        headers,
        client: Client { identity: None, ip, namespace: "shop".into(), labels: Arc::new(labels) },
    }
}

impl Ask {
    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: "http",
            authority: self.authority,
            path: self.path,
            query: self.query,
            headers: &self.headers,
            port: 80,
            client: &self.client,
        }
    }
}

fn header(name: &str, value: Option<Kind>, invert: bool) -> wire::HeaderMatch {
    wire::HeaderMatch { name: s(name), value: value.and_then(text), invert }
}

#[test]
fn everything_a_match_asks_for() {
    let path = |kind| wire::HttpMatch { path: text(kind), ..Default::default() };
    let any_case = |kind| wire::HttpMatch { ignore_path_case: true, ..path(kind) };
    let label = |key: &str, value: &str| wire::HttpMatch {
        source_labels: [(s(key), s(value))].into(),
        ..Default::default()
    };
    let rows = [
        (wire::HttpMatch::default(), true),
        (path(Exact(s("/v1/Items"))), true),
        (path(Exact(s("/v1/items"))), false),
        (any_case(Exact(s("/V1/items"))), true),
        (path(Prefix(s("/v"))), true),
        (path(Prefix(s("/v1/Items/"))), false),
        (any_case(Prefix(s("/V1"))), true),
        (path(Suffix(s("Items"))), true),
        (path(Regex(s("/v[0-9]+/.*"))), true),
        (path(Regex(s("/v[0-9]+"))), false),
        (any_case(Regex(s("/V[0-9]+/.*"))), false),
        (path(Regex(s("/x|/v1/Items"))), true),
        (path(Segments(s("/v1"))), true),
        (path(Segments(s("/v1/"))), true),
        (path(Segments(s("/v"))), false),
        (path(Segments(s("/"))), true),
        (path(Segments(s("/v1/Items"))), true),
        (wire::HttpMatch { method: text(Exact(s("GET"))), ..Default::default() }, true),
        (wire::HttpMatch { method: text(Exact(s("get"))), ..Default::default() }, false),
        (wire::HttpMatch { scheme: text(Exact(s("https"))), ..Default::default() }, false),
        (wire::HttpMatch { authority: text(Exact(s("Web.shop:8080"))), ..Default::default() }, true),
        (wire::HttpMatch { authority: text(Exact(s("web.shop"))), ..Default::default() }, false),
        (wire::HttpMatch { authority: text(Prefix(s("web."))), ..Default::default() }, true),
        (wire::HttpMatch { port: 80, ..Default::default() }, true),
        (wire::HttpMatch { port: 8080, ..Default::default() }, false),
        (wire::HttpMatch { source_namespace: s("shop"), ..Default::default() }, true),
        (wire::HttpMatch { source_namespace: s("sho"), ..Default::default() }, false),
        (label("app", "web"), true),
        (label("app", "db"), false),
        (label("none", "web"), false),
    ];
    for (wanted, hits) in rows {
        assert_eq!(table(vec![wanted.clone()]).find(&ask().request()).is_some(), hits, "{wanted:?}");
    }
}

#[test]
fn headers_and_parameters_of_the_query() {
    let head = |name, value, invert| wire::HttpMatch {
        headers: vec![header(name, value, invert)],
        ..Default::default()
    };
    let query =
        |name, value| wire::HttpMatch { query: vec![header(name, value, false)], ..Default::default() };
    let rows = [
        (head("X-One", Some(Exact(s("a"))), false), true),
        (head("x-one", Some(Exact(s("a"))), true), false),
        (head("x-one", None, false), true),
        (head("x-one", None, true), false),
        (head("x-empty", None, false), true),
        (head("x-empty", Some(Present(true)), false), false),
        (head("x-two", Some(Exact(s("a"))), false), true),
        (head("x-two", Some(Exact(s("b"))), false), true),
        (head("x-two", Some(Exact(s("a,b"))), false), false),
        (head("x-two", Some(Exact(s("b"))), true), false),
        (head("x-two", Some(Exact(s("c"))), true), true),
        (head("x-none", None, false), false),
        (head("x-none", None, true), true),
        (head("x-none", Some(Prefix(s("a"))), true), true),
        (head("x-none", Some(Exact(s(""))), true), false),
        (head("x-none", Some(Exact(s(""))), false), false),
        (query("q", Some(Exact(s("a%20b")))), true),
        (query("q", Some(Exact(s("a b")))), false),
        (query("q", Some(Exact(s("c")))), false),
        (query("foo", Some(Exact(s("bar")))), false),
        (query("%66oo", Some(Exact(s("bar")))), true),
        (query("empty", Some(Exact(s("")))), true),
        (query("flag", None), true),
        (query("flag", Some(Exact(s("")))), true),
        (query("none", None), false),
        (query("q", Some(Regex(s("a%..b")))), true),
    ];
    for (wanted, hits) in rows {
        assert_eq!(table(vec![wanted.clone()]).find(&ask().request()).is_some(), hits, "{wanted:?}");
    }
}

#[test]
fn the_first_rule_and_match_decide() {
    let exact = |path: &str| wire::HttpMatch { path: text(Exact(s(path))), ..Default::default() };
    let rule = |matches| wire::HttpRule {
        matches,
        action: Some(wire::http_rule::Action::Forward(wire::Forward::default())),
        ..Default::default()
    };
    let rules = vec![rule(vec![exact("/x")]), rule(vec![exact("/y"), exact("/v1/Items")]), rule(vec![])];
    let table = HttpTable::parse(rules).expect("is valid");
    let place =
        |path| table.find(&Ask { path, ..ask() }.request()).map(|found| (found.place, found.by.is_some()));
    assert_eq!(place("/v1/Items"), Some((1, true)));
    assert_eq!(place("/x"), Some((0, true)));
    assert_eq!(place("/z"), Some((2, false)));
    assert_eq!(HttpTable::default().find(&ask().request()), None);
}

#[test]
fn weights_share_out_every_ticket() {
    let backend =
        |host: &str, weight| wire::Backend { service: format!("shop/{host}"), weight, ..Default::default() };
    let forward = wire::Forward { backends: vec![backend("a", 1), backend("b", 0), backend("c", 3)] };
    let action = Some(wire::http_rule::Action::Forward(forward));
    let table = HttpTable::parse(vec![wire::HttpRule { action, ..Default::default() }]).expect("is valid");
    let super::Action::Forward(forward) = &table.rules[0].action else { panic!("forwards") };
    let chosen: Vec<_> =
        (0..forward.total()).map(|one| &*forward.choose(one).expect("one").service.hostname).collect();
    assert_eq!(chosen, ["a", "c", "c", "c"]);
    assert_eq!(super::Forward::new(vec![]).choose(0), None);
}

/// A rule whose matched path is changed, as redirect and as rewrite.
fn changed(matched: Option<Kind>, change: Change, path: &'static str) -> String {
    let path_change = wire::PathChange { kind: Some(change) };
    let rule = wire::HttpRule {
        matches: matched
            .map(|kind| wire::HttpMatch { path: text(kind), ..Default::default() })
            .into_iter()
            .collect(),
        rewrite: Some(wire::Rewrite { path: Some(path_change), authority: String::new() }),
        action: Some(wire::http_rule::Action::Forward(wire::Forward::default())),
        ..Default::default()
    };
    let table = HttpTable::parse(vec![rule]).expect("is valid");
    let ask = Ask { path, ..ask() };
    let found = table.find(&ask.request()).expect("matches");
    let rewrite = found.rule.rewrite.as_ref().expect("rewrites");
    rewrite.path.as_ref().expect("a path").apply(path, found.prefix).into_owned()
}

#[test]
fn paths_change_as_asked() {
    let raw = |to: &str| Change::Prefix(s(to));
    let segments = |to: &str| Change::Segments(s(to));
    let regex = |pattern: &str, substitution: &str| {
        Change::Regex(wire::RegexChange { pattern: s(pattern), substitution: s(substitution) })
    };
    let rows = [
        (Some(Prefix(s("/foo"))), raw("/"), "/foo/x", "//x"),
        (Some(Prefix(s("/foo/"))), raw("/"), "/foo/x", "/x"),
        (Some(Prefix(s("/foo"))), raw("/bar"), "/foox", "/barx"),
        (Some(Exact(s("/foo"))), raw("/bar"), "/foo", "/bar"),
        (Some(Regex(s("/f.*"))), raw("/bar"), "/foo/x", "/bar"),
        (None, raw("/bar/"), "/foo", "/bar/foo"),
        (Some(Segments(s("/foo"))), segments("/bar"), "/foo/x", "/bar/x"),
        (Some(Segments(s("/foo"))), segments("/bar/"), "/foo/x", "/bar/x"),
        (Some(Segments(s("/foo/"))), segments("/bar"), "/foo/x", "/bar/x"),
        (Some(Segments(s("/foo"))), segments("/"), "/foo/x", "/x"),
        (Some(Segments(s("/foo"))), segments("/"), "/foo", "/"),
        (Some(Segments(s("/foo"))), segments(""), "/foo/", "/"),
        (Some(Segments(s("/foo"))), segments("/bar"), "/foo", "/bar"),
        (Some(Segments(s("/"))), segments("/xyz"), "/foo", "/xyz/foo"),
        (Some(Prefix(s("/"))), segments("/xyz"), "/foo", "/xyz/foo"),
        (None, segments("/xyz"), "/foo", "/xyz/foo"),
        (None, Change::Full(s("/all")), "/foo/x", "/all"),
        (None, regex("/([a-z])/([a-z])", "/\\2/\\1"), "/a/b/c/d", "/b/a/d/c"),
        (None, regex("o", "\\\\"), "/foo", "/f\\\\"),
    ];
    for (matched, change, path, after) in rows {
        assert_eq!(changed(matched.clone(), change.clone(), path), after, "{matched:?} {change:?} {path}");
    }
}

#[test]
fn a_redirect_keeps_what_it_does_not_name() {
    let redirect =
        |scheme: &str, authority: &str, port, from: wire::redirect::PortFrom, path| wire::Redirect {
            scheme: s(scheme),
            authority: s(authority),
            port,
            port_from: from.into(),
            path: Some(wire::PathChange { kind: Some(Change::Full(s(path))) }).filter(|_| !path.is_empty()),
            status: 0,
        };
    use wire::redirect::PortFrom::{Request as Same, Scheme};
    // The request is for web.shop:8080, on port 8000.
    let rows = [
        (redirect("", "", 0, Same, "/new"), "http://web.shop:8000/new?q=1"),
        (redirect("", "", 0, Scheme, "/new"), "http://web.shop/new?q=1"),
        (redirect("", "other", 0, Same, ""), "http://other:8000/old?q=1"),
        (redirect("", "other", 0, Scheme, ""), "http://other/old?q=1"),
        (redirect("", "other:99", 0, Scheme, ""), "http://other:99/old?q=1"),
        (redirect("https", "", 0, Same, ""), "https://web.shop:8000/old?q=1"),
        (redirect("https", "", 0, Scheme, ""), "https://web.shop/old?q=1"),
        (redirect("https", "", 443, Same, ""), "https://web.shop/old?q=1"),
        (redirect("https", "", 8443, Same, ""), "https://web.shop:8443/old?q=1"),
        (redirect("http", "", 80, Same, ""), "http://web.shop/old?q=1"),
        (redirect("", "", 443, Same, ""), "http://web.shop:443/old?q=1"),
    ];
    for (wire, location) in rows {
        let action = Some(wire::http_rule::Action::Redirect(wire.clone()));
        let table =
            HttpTable::parse(vec![wire::HttpRule { action, ..Default::default() }]).expect("is valid");
        let super::Action::Redirect(redirect) = &table.rules[0].action else { panic!("redirects") };
        assert_eq!(redirect.status, 301);
        let ask = Ask { path: "/old", query: Some("q=1"), ..ask() };
        let request = Request { port: 8000, ..ask.request() };
        assert_eq!(redirect.location(&request, 1), location, "{wire:?}");
    }
}

#[test]
fn connections_are_matched_by_address_and_client() {
    let rule = |name: &str, one: wire::TcpMatch| wire::TcpRule {
        name: s(name),
        matches: vec![one],
        ..Default::default()
    };
    let rules = vec![
        rule("port", wire::TcpMatch { port: 81, ..Default::default() }),
        rule("net", wire::TcpMatch { destination_subnets: vec![s("10.1.0.0/16")], ..Default::default() }),
        rule("from", wire::TcpMatch { source_namespace: s("shop"), ..Default::default() }),
    ];
    let table = TcpTable::parse(rules).expect("is valid");
    let name = |address: &str, port, client: &Client| {
        table.find(address.parse().expect("an address"), port, client).map(|rule| rule.name.to_string())
    };
    let (client, far) = (ask().client, Client { namespace: "far".into(), ..ask().client });
    assert_eq!(name("10.2.0.1", 81, &far).as_deref(), Some("port"));
    assert_eq!(name("::ffff:10.1.0.1", 80, &far).as_deref(), Some("net"));
    assert_eq!(name("10.2.0.1", 80, &client).as_deref(), Some("from"));
    assert_eq!(name("10.2.0.1", 80, &far), None);
}

#[test]
fn header_changes_are_sorted_and_the_host_is_no_header() {
    let change = wire::HeaderChange {
        set: [(s("b"), s("1")), (s("Host"), s("new")), (s(":path"), s("/x"))].into(),
        add: [(s("a"), s("2")), (s(":authority"), s("late"))].into(),
        remove: vec![s("c"), s("host")],
    };
    let action = Some(wire::http_rule::Action::Forward(wire::Forward::default()));
    let rule = wire::HttpRule { action, request_headers: Some(change), ..Default::default() };
    let table = HttpTable::parse(vec![rule]).expect("is valid");
    let change = &table.rules[0].request_headers;
    let names = |list: &[(HeaderName, HeaderValue)]| {
        list.iter().map(|(name, _)| s(name.as_str())).collect::<Vec<_>>()
    };
    assert_eq!((names(&change.set), names(&change.add)), (vec![s("b")], vec![s("a")]));
    assert_eq!(
        (change.remove.as_slice(), change.authority.as_ref()),
        (&[HeaderName::from_static("c")][..], Some(&HeaderValue::from_static("new")))
    );
}

#[test]
fn patterns_are_bounded_and_cannot_leave_their_anchors() {
    for bad in ["(", "a)|(b", "a{1000}{1000}{1000}", "(?x)a #"] {
        assert!(Pattern::whole(bad).is_err(), "{bad}");
    }
    let either = Pattern::whole("a|bc").expect("is a pattern");
    assert_eq!(["a", "bc", "ac", "abc"].map(|text| either.is_match(text)), [true, true, false, false]);
    assert!(!Pattern::whole("a").expect("is a pattern").is_match("a\n"));
}
