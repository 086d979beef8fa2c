//! Tables of HTTPRoutes that are read and of mistakes that are not.

use std::time::Duration;

use super::{HttpMatch, HttpRouteSpec, Method, PathMatch};
use crate::gateway_api::{Filter, PathModifier};
use crate::object::Object;
use crate::read::tests::{object, said};
use crate::value::Percent;

fn document(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: ns}}\nspec: {spec}\n"
    )
}

fn spec(text: &str) -> HttpRouteSpec {
    match &*object(&document(text)) {
        Object::HttpRoute(one) => one.spec.clone(),
        other => panic!("{other:?}"),
    }
}

const EVERY_FIELD: &str = r#"
  parentRefs:
  - {name: web, kind: Service, group: "", port: 80}
  - {name: edge, namespace: infra, sectionName: http}
  hostnames: ["*.example.com"]
  useDefaultGateways: All
  rules:
  - name: first
    matches:
    - path: {type: Exact, value: /a}
      headers: [{name: X-A, value: b}, {name: x-c, type: RegularExpression, value: "d.*"}]
      queryParams: [{name: q, value: v}]
      method: POST
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}, percent: 10}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}, fraction: {numerator: 1, denominator: 1000}}}
    - {type: URLRewrite, urlRewrite: {hostname: inner, path: {type: ReplaceFullPath, replaceFullPath: /b}}}
    - {type: CORS, cors: {allowOrigins: ["https://a"], allowMethods: ["*"], allowCredentials: true, maxAge: 60}}
    - {type: ExtensionRef, extensionRef: {group: g, kind: k, name: ext}}
    backendRefs:
    - name: web-v2
      namespace: other
      port: 8080
      weight: 0
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: a, value: b}]}}]
    - {name: web, port: 80}
    timeouts: {request: 10s, backendRequest: 2s500ms}
    retry: {codes: [500, 503], attempts: 3, backoff: 100ms}
    sessionPersistence: {sessionName: s, absoluteTimeout: 1h, type: Cookie, cookieConfig: {lifetimeType: Permanent}}
  - filters:
    - {type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.b, port: 443, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}
"#;

#[test]
fn every_field_is_kept() {
    let spec = spec(EVERY_FIELD);
    assert!(spec.parent_refs[0].is_service() && !spec.parent_refs[0].is_gateway());
    assert!(spec.parent_refs[1].is_gateway());
    let rule = &spec.rules[0];
    assert_eq!(rule.matches[0].path, PathMatch::Exact("/a".to_owned()));
    assert_eq!(rule.matches[0].method, Some(Method::Post));
    let shares: Vec<Percent> = rule
        .filters
        .iter()
        .filter_map(|filter| if let Filter::Mirror(mirror) = filter { Some(mirror.share) } else { None })
        .collect();
    assert_eq!(shares, [Percent::whole(10), Percent::new(0.1).unwrap()]);
    let weights: Vec<u32> = rule.backend_refs.iter().map(|one| one.weight).collect();
    assert_eq!(weights, [0, 1]);
    assert!(rule.backend_refs[0].object.is_service());
    assert_eq!(rule.timeouts.unwrap().backend_request, Some(Duration::from_millis(2500)));
    assert_eq!(rule.retry.as_ref().unwrap().codes, [500, 503]);
    let Filter::Redirect(redirect) = &spec.rules[1].filters[0] else { panic!() };
    assert_eq!(redirect.path, Some(PathModifier::Prefix("/x".to_owned())));
}

#[test]
fn what_is_left_out_is_the_prefix_of_every_path() {
    let whole = HttpMatch { path: PathMatch::Prefix("/".to_owned()), ..HttpMatch::default() };
    for text in ["{}", "{rules: [{}]}", "{rules: [{matches: [{}]}]}", "{rules: [{matches: [{path: {}}]}]}"] {
        let spec = spec(text);
        assert_eq!((spec.rules.len(), &spec.rules[0].matches), (1, &vec![whole.clone()]), "{text}");
    }
}

fn whole(text: &str) -> String {
    text.to_owned()
}

fn rule(rule: &str) -> String {
    format!("{{rules: [{{{rule}}}]}}")
}

/// What surrounds a text, the text, and what is said about it.
type Mistake = (fn(&str) -> String, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    (whole, "{hostnames: [10.0.0.1]}", "spec.hostnames[0]: \"10.0.0.1\" is an address"),
    (whole, "{hostnames: [Web]}", "spec.hostnames[0]: \"Web\" has upper-case letters; write \"web\""),
    (whole, "{parentRefs: [{kind: Service}]}", "spec.parentRefs[0]: the field \"name\" is missing"),
    (rule, "backendRef: []", "spec.rules[0].backendRef: unknown field; did you mean \"backendRefs\"?"),
    (rule, "backendRefs: [{name: a}]", "spec.rules[0].backendRefs[0].port: a Service needs a port"),
    (
        rule,
        "backendRefs: [{name: a, port: 1, weight: 1000001}]",
        "spec.rules[0].backendRefs[0].weight: 1000001 is too large",
    ),
    (
        rule,
        "matches: [{path: {value: a}}]",
        "spec.rules[0].matches[0].path.value: \"a\" does not begin with /",
    ),
    (
        rule,
        "matches: [{path: {value: /a//b}}]",
        "spec.rules[0].matches[0].path.value: \"/a//b\" is no normal path",
    ),
    (
        rule,
        "matches: [{path: {type: Prefix, value: /a}}]",
        "spec.rules[0].matches[0].path.type: unknown value \"Prefix\"",
    ),
    (rule, "matches: [{method: get}]", "spec.rules[0].matches[0].method: unknown value \"get\""),
    (
        rule,
        "matches: [{headers: [{name: a, value: b}, {name: A, value: c}]}]",
        "spec.rules[0].matches[0].headers[1].name: \"A\" is there twice",
    ),
    (
        rule,
        "matches: [{headers: [{name: a, type: RegularExpression, value: '['}]}]",
        "spec.rules[0].matches[0].headers[0].value: not a regular",
    ),
    (
        rule,
        "filters: [{type: RequestMirror}]",
        "spec.rules[0].filters[0]: a filter of type RequestMirror says nothing; set requestMirror",
    ),
    (
        rule,
        "filters: [{type: RequestMirror, cors: {}}]",
        "spec.rules[0].filters[0]: cors does not belong to a filter of type RequestMirror",
    ),
    (
        rule,
        "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 300}}]",
        "spec.rules[0].filters[0].requestRedirect.statusCode: 300",
    ),
    (
        rule,
        "filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 1}]",
        "spec.rules[0].filters[0].requestRedirect: a redirect sends no request on",
    ),
    (
        rule,
        "matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]",
        "spec.rules[0].filters[0].urlRewrite.path: the matched prefix is replaced",
    ),
    (rule, "timeouts: {request: 1.5s}", "spec.rules[0].timeouts.request: \"1.5s\" is not a duration"),
    (
        rule,
        "timeouts: {request: 1s, backendRequest: 2s}",
        "spec.rules[0].timeouts.backendRequest: it is longer",
    ),
    (rule, "retry: {codes: [200]}", "spec.rules[0].retry.codes[0]: 200 is no status of an error"),
];

#[test]
fn mistakes_name_field_and_mend() {
    for (wrap, text, expected) in MISTAKES {
        let spec = wrap(text);
        let said = said(&document(&spec));
        let prefix = format!("f.yaml:4: HTTPRoute ns/r: {expected}");
        assert!(said.starts_with(&prefix), "{spec}\n said     {said}\n expected {prefix}");
    }
}
