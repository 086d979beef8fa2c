//! HTTPRoutes and GRPCRoutes on Services: cases of Gateway API's mesh conformance, and what its client does not compare.

use ambit_lab::load::{Outcome, Protocol};
use libtest_mimic::Failed;

use crate::routed::{Answer, Mesh, all_good, allowed, of_version};
use crate::support::{Check, check};

const ASKED: u64 = 2000;

/// A route named like its Service, its rules as YAML on one line.
fn route(kind: &str, parent: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: echo, namespace: counts}}, \
         spec: {{parentRefs: [{{group: '', kind: Service, name: echo{parent}}}], rules: {rules}}}}}"
    )
}

fn get(mesh: &Mesh, words: &[&str], path: &str) -> Result<Answer, Failed> {
    mesh.curl(&mesh.pod("counts/client")?, words, &format!("http://echo{path}"))
}

/// Which version answers: words for curl, path, version (or status).
fn answers(mesh: &Mesh, table: &[(&[&str], &str, &str)]) -> Check {
    for (words, path, expected) in table {
        let got = get(mesh, words, path)?;
        let have = if got.status == 200 { got.version().to_owned() } else { got.status.to_string() };
        check(have == *expected, || format!("{words:?} {path}: {have}, not {expected}: {got:?}"))?;
    }
    Ok(())
}

pub(crate) fn http(mesh: &Mesh) -> Check {
    split(mesh)?;
    matching(mesh)?;
    parents(mesh)?;
    headers(mesh)?;
    redirects(mesh)?;
    rewrites(mesh)?;
    mesh.delete(&[("HTTPRoute", "counts/echo")])
}

fn accepted(mesh: &Mesh, kind: &str) -> Check {
    mesh.comes_to(kind, "counts/echo", "Accepted", |status, _, _| status == "True")?;
    mesh.comes_to(kind, "counts/echo", "ResolvedRefs", |status, _, _| status == "True")
}

fn split(mesh: &Mesh) -> Check {
    mesh.apply(&route(
        "HTTPRoute",
        "",
        "[{matches: [{path: {type: Exact, value: /v1}}], backendRefs: [{name: echo-v1, port: 80}]}, \
          {matches: [{path: {type: Exact, value: /v2}}], backendRefs: [{name: echo-v2, port: 80}]}]",
    ))?;
    accepted(mesh, "HttpRoute")?;
    answers(mesh, &[(&[], "/v1", "v1"), (&[], "/v2", "v2"), (&[], "/v1/x", "404"), (&[], "/", "404")])
}

/// By segment and header; the more specific first, wherever it stands.
fn matching(mesh: &Mesh) -> Check {
    mesh.apply(&route(
        "HTTPRoute",
        "",
        "[{matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}], backendRefs: [{name: echo-v1, port: 80}]}, \
          {matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}, {queryParams: [{name: animal, value: whale}]}, {method: DELETE}], backendRefs: [{name: echo-v2, port: 80}]}]",
    ))?;
    answers(
        mesh,
        &[
            (&[], "/", "v1"),
            (&[], "/example", "v1"),
            (&["-H", "version: one"], "/", "v1"),
            (&[], "/v2", "v2"),
            (&[], "/v2/", "v2"),
            (&[], "/v2/example", "v2"),
            (&[], "/v2example", "v1"),
            (&["-H", "version: two"], "/", "v2"),
            (&["-H", "version: three"], "/foo/v2/example", "v1"),
            (&["-H", "version: one"], "/v2", "v2"),
            (&[], "/?animal=whale", "v2"),
            (&[], "/?animal=dolphin", "v1"),
            (&["-X", "DELETE"], "/", "v2"),
        ],
    )
}

/// With a port the rules are for that port alone.
fn parents(mesh: &Mesh) -> Check {
    let rules = "[{backendRefs: [{name: echo-v2, port: 80}], filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-set, value: set}]}}]}]";
    mesh.apply(&route("HTTPRoute", ", port: 8080", rules))?;
    let at = |port: u16| mesh.curl(&mesh.pod("counts/client")?, &[], &format!("http://echo:{port}/"));
    for _ in 0..4 {
        let (more, first) = (at(8080)?, at(80)?);
        check(more.version() == "v2" && more.header("x-set") == "set", || format!("8080: {more:?}"))?;
        check(first.status == 200 && first.header("x-set").is_empty(), || format!("80: {first:?}"))?;
    }
    // What is dialled by a pod's own address is no Service's.
    let direct = format!("http://{}:8080/", mesh.pod("counts/echo-v1")?.address.v4);
    let got = mesh.curl(&mesh.pod("counts/client")?, &[], &direct)?;
    check(got.version() == "v1" && got.header("x-set").is_empty(), || format!("{direct}: {got:?}"))
}

fn headers(mesh: &Mesh) -> Check {
    mesh.apply(&route(
        "HTTPRoute",
        "",
        "[{backendRefs: [{name: echo-v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-of-backend, value: of-it}]}}]}], \
          filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: set-over}], add: [{name: x-add, value: added}], remove: [x-Remove]}}, \
          {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-app-version, value: hidden}], add: [{name: x-more, value: more}]}}]}]",
    ))?;
    let words = ["-H", "x-set: here", "-H", "x-add: here", "-H", "x-remove: here", "-H", "x-keep: here"];
    let got = get(mesh, &words, "/")?;
    let told = got.told();
    let seen = |name: &str| {
        told["headers"][name]
            .as_array()
            .map(|values| values.iter().filter_map(|value| value.as_str()).collect::<Vec<_>>().join(","))
    };
    for (name, value) in [
        ("x-set", Some("set-over")),
        ("x-add", Some("here,added")),
        ("x-remove", None),
        ("x-keep", Some("here")),
        ("x-of-backend", Some("of-it")),
    ] {
        check(seen(name).as_deref() == value, || format!("{name}: {:?}, not {value:?}", seen(name)))?;
    }
    check(got.version() == "hidden" && got.header("x-more") == "more", || format!("{got:?}"))
}

fn redirects(mesh: &Mesh) -> Check {
    let redirect = |to: &str| format!("filters: [{{type: RequestRedirect, requestRedirect: {{{to}}}}}]");
    let prefix = |path: &str| format!("matches: [{{path: {{type: PathPrefix, value: {path}}}}}]");
    let rules = [
        ("/hostname", "hostname: example.org"),
        ("/status", "hostname: example.org, statusCode: 301"),
        ("/original", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replaced}"),
        ("/full", "path: {type: ReplaceFullPath, replaceFullPath: /whole}, statusCode: 307"),
        ("/port", "port: 8083"),
        ("/scheme", "scheme: https"),
    ];
    let rules = rules.map(|(path, to)| format!("{{{}, {}}}", prefix(path), redirect(to)));
    mesh.apply(&route("HTTPRoute", "", &format!("[{}]", rules.join(", "))))?;
    for (path, status, location) in [
        ("/hostname/a?b=c", 302, "http://example.org/hostname/a?b=c"),
        ("/status", 301, "http://example.org/status"),
        ("/original/a/b", 302, "http://echo/replaced/a/b"),
        ("/full/a?b=c", 307, "http://echo/whole?b=c"),
        ("/port", 302, "http://echo:8083/port"),
        ("/scheme", 302, "https://echo/scheme"),
    ] {
        let got = get(mesh, &[], path)?;
        check(got.status == status && got.header("location") == location, || {
            format!("{path}: {status} to {location}, not {got:?}")
        })?;
    }
    Ok(())
}

fn rewrites(mesh: &Mesh) -> Check {
    let rule = |path: &str, to: &str| {
        format!(
            "{{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{{to}}}}}], backendRefs: [{{name: echo-v1, port: 80}}]}}"
        )
    };
    let rules = [
        rule("/prefix/one", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}"),
        rule("/strip", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}"),
        rule("/full", "path: {type: ReplaceFullPath, replaceFullPath: /whole}"),
        rule("/host", "hostname: other.example"),
    ];
    mesh.apply(&route("HTTPRoute", "", &format!("[{}]", rules.join(", "))))?;
    for (path, field, expected) in [
        ("/prefix/one/two?x=y", "path", "/one/two?x=y"),
        ("/prefix/one", "path", "/one"),
        ("/strip/two", "path", "/two"),
        ("/strip", "path", "/"),
        ("/full/of/it?x=y", "path", "/whole?x=y"),
        ("/host", "host", "other.example"),
    ] {
        let told = get(mesh, &[], path)?.told();
        check(told[field] == expected, || format!("{path}: {field} {}, not {expected}", told[field]))?;
    }
    Ok(())
}

fn ask(mesh: &Mesh, change: impl FnOnce(&mut ambit_lab::load::Load)) -> Result<Outcome, Failed> {
    mesh.load(&mesh.pod("counts/client")?, "counts/echo", |load| {
        (load.count, load.width) = (ASKED, 8);
        change(load);
    })
}

/// 70/30, within what chance allows of 2 000 requests: five points of a hundred; and nothing at all to a weight of 0.
pub(crate) fn weights(mesh: &Mesh) -> Check {
    mesh.apply(&route(
        "HTTPRoute",
        "",
        "[{backendRefs: [{name: echo-v1, port: 80, weight: 70}, {name: echo-v2, port: 80, weight: 30}, {name: echo, port: 80, weight: 0}]}]",
    ))?;
    let outcome = ask(mesh, |_| {})?;
    all_good("70/30/0", &outcome)?;
    allowed("70/30/0, the second", of_version(&outcome, "v2"), ASKED, 0.3)?;
    mesh.apply(&route("HTTPRoute", "", "[{backendRefs: [{name: echo-v1, port: 80, weight: 0}]}]"))?;
    answers(mesh, &[(&[], "/", "500")])?;
    mesh.apply(&route(
        "HTTPRoute",
        "",
        "[{backendRefs: [{name: echo-v1, port: 80}, {name: missing, port: 80}]}]",
    ))?;
    mesh.comes_to("HttpRoute", "counts/echo", "ResolvedRefs", |status, reason, _| {
        status == "False" && reason == "BackendNotFound"
    })?;
    // A backend that does not exist keeps its share, as 500.
    let outcome = ask(mesh, |_| {})?;
    let broken = outcome.statuses.get("500").copied().unwrap_or_default();
    check(broken + outcome.good == ASKED, || format!("{outcome:?}"))?;
    allowed("a backend that does not exist", broken, ASKED, 0.5)?;
    mesh.delete(&[("HTTPRoute", "counts/echo")])
}

/// A header chooses the rule, whose changes reach the backend; weights, with one of 0 that does not exist; other methods.
pub(crate) fn grpc(mesh: &Mesh) -> Check {
    mesh.apply(&route(
        "GRPCRoute",
        "",
        "[{matches: [{headers: [{name: test, value: set}]}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-count-key, value: by-the-route}], remove: [x-fail-first]}}], backendRefs: [{name: echo-v1, port: 90}]}, \
          {matches: [{method: {service: a.Service, method: Method}}], backendRefs: [{name: echo-v1, port: 90, weight: 60}, {name: echo-v2, port: 90, weight: 40}]}]",
    ))?;
    accepted(mesh, "GrpcRoute")?;
    let call = |path: &str, headers: &[(&'static str, &'static str)]| {
        let (path, headers) = (path.to_owned(), headers.to_vec());
        ask(mesh, move |load| {
            (load.protocol, load.path, load.body) = (Protocol::Grpc, path, "a message".into());
            (load.count, load.expect) = (ASKED / 2, "a message".to_owned());
            load.to.set_port(90);
            for (name, value) in headers {
                load.headers.insert(name, http::HeaderValue::from_static(value));
            }
        })
    };
    let first = mesh.pod("counts/echo-v1")?;
    mesh.counted(&first)?;
    let outcome = call("/any.Service/Other", &[("test", "set"), ("x-fail-first", "99999")])?;
    all_good("by header", &outcome)?;
    check(of_version(&outcome, "v1") == ASKED / 2, || format!("{outcome:?}"))?;
    let seen = mesh.counted(&first)?;
    check(seen["keys"]["by-the-route"]["requests"] == ASKED / 2, || seen.to_string())?;
    let outcome = call("/a.Service/Method", &[])?;
    all_good("by method", &outcome)?;
    allowed("60/40, the second", of_version(&outcome, "v2"), ASKED / 2, 0.4)?;
    // What no rule matches is answered in the client's own protocol: UNIMPLEMENTED.
    let outcome = call("/a.Service/Another", &[])?;
    check(outcome.statuses.get("grpc 12") == Some(&(ASKED / 2)), || format!("{outcome:?}"))?;
    mesh.delete(&[("GRPCRoute", "counts/echo")])
}
