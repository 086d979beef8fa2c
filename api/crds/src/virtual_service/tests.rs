//! Tables of VirtualServices that are read and of mistakes that are not.

use std::time::Duration;

use super::{Destination, VirtualServiceSpec};
use crate::object::Object;
use crate::read::tests::{object, said};
use crate::value::{Percent, StringMatch};

fn document(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns}}\nspec: {spec}\n"
    )
}

fn spec(text: &str) -> VirtualServiceSpec {
    match &*object(&document(text)) {
        Object::VirtualService(one) => one.spec.clone(),
        other => panic!("{other:?}"),
    }
}

/// A rule with one destination and more.
fn rule(more: &str) -> String {
    format!("{{hosts: [web], http: [{{route: [{{destination: {{host: web}}}}], {more}}}]}}")
}

#[test]
fn every_field_is_kept() {
    let spec = spec(include_str!("testdata/every_field.yaml"));
    let rule = &spec.http[0];
    let one = &rule.matches[0];
    assert_eq!(one.uri, Some(StringMatch::Prefix("/api".to_owned())));
    assert_eq!(one.headers["x-any"], StringMatch::Present);
    assert!(one.headers["x-star"].is_presence());
    assert_eq!(one.without_headers["x-not"], StringMatch::Exact("no".to_owned()));
    assert_eq!(one.query_params["q"], StringMatch::Exact(String::new()));
    assert_eq!(one.port.map(Into::into), Some(8080_u16));
    assert!(one.ignore_uri_case);
    assert_eq!(one.source_namespace, "clients");
    let to = &rule.route[0];
    assert_eq!((to.destination.host.as_str(), to.destination.subset.as_str(), to.weight), ("web", "v1", 80));
    assert_eq!(to.destination.port.map(|port| port.number.get()), Some(8080));
    assert_eq!(to.headers.as_ref().unwrap().response.remove, ["x-gone"]);
    assert_eq!(rule.timeout, Some(Duration::from_secs(10)));
    let retry = rule.retries.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.per_try_timeout), (3, Some(Duration::from_secs(2))));
    assert_eq!(retry.retry_on, "5xx, 429,connect-failure");
    let fault = rule.fault.as_ref().unwrap();
    assert_eq!(fault.delay.as_ref().unwrap().share(), Percent::whole(10));
    assert_eq!(fault.abort.as_ref().unwrap().share(), Percent::new(0.5).unwrap());
    let copies: Vec<(&str, u32)> =
        rule.copies().map(|(to, share)| (to.host.as_str(), share.millionths())).collect();
    assert_eq!(copies, [("shadow", 250_000)]);
    let cors = rule.cors_policy.as_ref().unwrap();
    assert_eq!(cors.allow_origins[0], StringMatch::Regex("https://.*".to_owned()));
    assert_eq!(spec.http[1].redirect.as_ref().unwrap().prefix_rewrite, "/new");
    assert_eq!(spec.http[2].direct_response.as_ref().unwrap().body.as_ref().unwrap().0, b"foo");
    let copies: Vec<(&Destination, Percent)> = spec.http[3].copies().collect();
    assert_eq!((copies.len(), copies[0].1, copies[1].1), (2, Percent::ALL, Percent::whole(5)));
    assert_eq!(spec.http[4].copies().next().unwrap().1, Percent::whole(7));
    assert_eq!(spec.tls[0].matches[0].sni_hosts, ["a.example.com"]);
    assert_eq!(spec.tcp[0].matches[0].destination_subnets[0].to_string(), "10.0.0.0/8");
}

#[test]
fn one_that_is_delegated_to_has_no_hosts() {
    assert_eq!(spec("{http: [{route: [{destination: {host: web}}]}]}").hosts, [""; 0]);
}

fn whole(text: &str) -> String {
    text.to_owned()
}

/// What surrounds a text, the text, and what is said about it.
type Mistake = (fn(&str) -> String, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    (whole, "{hosts: [web]}", "spec: it has no rules; write http, tcp or tls"),
    (rule, "tiemout: 1s", "spec.http[0].tiemout: unknown field; did you mean \"timeout\"?"),
    (
        rule,
        "timeout: 10",
        "spec.http[0].timeout: wrong type: integer `10` where a string belongs; put it in quotes",
    ),
    (
        rule,
        "timeout: 10sec",
        "spec.http[0].timeout: \"10sec\" is not a duration; write for example 10s or 500ms",
    ),
    (rule, "timeout: 0s", "spec.http[0].timeout: it is shorter than 1ms; write at least 1ms"),
    (rule, "subset: v1", "spec.http[0].subset: unknown field"),
    (rule, "redirect: {uri: /}", "spec.http[0].redirect: both route and redirect are set; keep one of them"),
    (
        rule,
        "mirror: {host: a}, mirrors: [{destination: {host: b}}]",
        "spec.http[0].mirror: both mirror and mirrors",
    ),
    (rule, "mirrorPercentage: {value: 101}", "spec.http[0].mirrorPercentage: value: 101 is not a percentage"),
    (rule, "mirror_percent: 101", "spec.http[0].mirrorPercent: 101 is not a percentage"),
    (rule, "fault: {}", "spec.http[0].fault: it does nothing; set delay or abort"),
    (rule, "fault: {delay: {percent: 3}}", "spec.http[0].fault.delay.fixedDelay: it does not say how long"),
    (rule, "fault: {abort: {httpStatus: 99}}", "spec.http[0].fault.abort.httpStatus: 99 is no status"),
    (
        rule,
        "fault: {abort: {httpStatus: 500, grpcStatus: OK}}",
        "spec.http[0].fault.abort: exactly one answer",
    ),
    (
        rule,
        "fault: {abort: {grpcStatus: NOPE}}",
        "spec.http[0].fault.abort.grpcStatus: \"NOPE\" is no status of gRPC",
    ),
    (rule, "retries: {attempts: -1}", "spec.http[0].retries.attempts: "),
    (rule, "retries: {attempts: 0, retryOn: 5xx}", "spec.http[0].retries.attempts: it is 0 or absent"),
    (
        rule,
        "retries: {attempts: 1, retryOn: 5xxx}",
        "spec.http[0].retries.retryOn: unknown condition \"5xxx\"; did you mean \"5xx\"?",
    ),
    (
        rule,
        "match: [{uri: {prefix: /a, exact: /b}}]",
        "spec.http[0].match[0].uri: several of exact, prefix and regex",
    ),
    (
        rule,
        "match: [{uri: {prefix: ''}}]",
        "spec.http[0].match[0].uri.prefix: an empty prefix matches everything",
    ),
    (
        rule,
        "match: [{headers: {a: {regex: '('}}}]",
        "spec.http[0].match[0].headers.a.regex: not a regular expression",
    ),
    (
        rule,
        "match: [{headers: {'a b': {exact: c}}}]",
        "spec.http[0].match[0].headers.a b: \"a b\" is not the name of a header",
    ),
    (
        rule,
        "match: [{port: 0}]",
        "spec.http[0].match[0].port: 0 is not a port; write a number from 1 to 65535",
    ),
    (
        rule,
        "rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}",
        "spec.http[0].rewrite.uriRegexRewrite: both uri and",
    ),
    (rule, "headers: {request: {set: {'a b': c}}}", "spec.http[0].headers.request.set.a b: "),
    (whole, "{hosts: ['*'], http: [{redirect: {uri: /}}]}", "spec.hosts[0]: * stands for every host"),
    (
        whole,
        "{hosts: [a, A], http: [{redirect: {uri: /}}]}",
        "spec.hosts[1]: \"A\" is there twice; remove one",
    ),
    (whole, "{hosts: [a_-], http: [{redirect: {uri: /}}]}", "spec.hosts[0]: \"a_-\" is not a host"),
    (whole, "{hosts: [a], http: [{name: x}]}", "spec.http[0]: it does nothing; set route, redirect"),
    (
        whole,
        "{hosts: [a], http: [{redirect: {uri: /, prefixRewrite: /}}]}",
        "spec.http[0].redirect.prefixRewrite: both",
    ),
    (
        whole,
        "{hosts: [a], http: [{redirect: {redirectCode: 200}}]}",
        "spec.http[0].redirect.redirectCode: 200 is no redirect",
    ),
    (
        whole,
        "{hosts: [a], http: [{directResponse: {status: 200}, fault: {abort: {httpStatus: 500}}}]}",
        "spec.http[0].fault: directResponse sends no request on",
    ),
    (
        whole,
        "{hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
        "spec.http[0].route: the weights sum to 0",
    ),
    (
        whole,
        "{hosts: [a], http: [{route: [{weight: 1}]}]}",
        "spec.http[0].route[0]: the field \"destination\" is missing; add it",
    ),
    (
        whole,
        "{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 70000}}}]}]}",
        "spec.http[0].route[0].destination.port.number: 70000 is not a port",
    ),
    (
        whole,
        "{hosts: [a], http: [{directResponse: {status: 200, body: {bytes: 'a'}}}]}",
        "spec.http[0].directResponse.body.bytes: not base64",
    ),
    (
        whole,
        "{hosts: [a], http: [{directResponse: {status: 200, body: {}}}]}",
        "spec.http[0].directResponse.body: a body without content",
    ),
    (
        whole,
        "{hosts: [a], exportTo: ['~'], http: [{redirect: {uri: /}}]}",
        "spec.exportTo[0]: \"~\" is not a namespace",
    ),
    (
        whole,
        "{hosts: [a], tls: [{route: [{destination: {host: a}}]}]}",
        "spec.tls[0].match: a rule for TLS must say",
    ),
    (
        whole,
        "{hosts: [a], tls: [{match: [{sniHosts: [b]}], route: [{destination: {host: a}}]}]}",
        "spec.tls[0].match[0].sniHosts[0]: \"b\" is none of the hosts",
    ),
    (whole, "{hosts: [a], tcp: [{match: [{port: 1}]}]}", "spec.tcp[0].route: no destination is there"),
    (
        whole,
        "{http: [{delegate: {name: x}}]}",
        "spec.http[0].delegate: rules without hosts cannot be delegated on",
    ),
];

#[test]
fn mistakes_name_field_and_mend() {
    for (wrap, text, expected) in MISTAKES {
        let spec = wrap(text);
        let said = said(&document(&spec));
        let prefix = format!("f.yaml:4: VirtualService ns/v: {expected}");
        assert!(said.starts_with(&prefix), "{spec}\n said     {said}\n expected {prefix}");
    }
}
