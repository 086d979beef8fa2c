//! Conditions of HTTPRoutes and GRPCRoutes, with their precedence.

use ambit_api::wire::waypoint::text::Kind;
use ambit_api::wire::waypoint::{HeaderMatch, HttpMatch, Text};
use ambit_crds::gateway_api::{MatchKind, NamedMatch};
use ambit_crds::grpc_route::GrpcMatch;
use ambit_crds::http_route::{self, PathMatch};

use super::super::matching::Precedence;

/// One segment of a path.
const SEGMENT: &str = "[^/]+";

pub(super) fn of_http(one: &http_route::HttpMatch) -> (Precedence, HttpMatch) {
    let path = match &one.path {
        PathMatch::Exact(path) => Kind::Exact(path.clone()),
        PathMatch::Regex(pattern) => Kind::Regex(pattern.clone()),
        // The slash at the end says nothing where segments are compared.
        PathMatch::Prefix(path) => Kind::Segments(match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        }),
    };
    let wire = HttpMatch {
        path: text(path),
        method: one.method.and_then(|method| text(Kind::Exact(method.as_str().to_owned()))),
        headers: headers(&one.headers),
        query: named(&one.query_params, str::to_owned),
        ..HttpMatch::default()
    };
    (Precedence::of_http(&wire), wire)
}

/// None written means one that everything meets.
pub(super) fn of_grpc_rule(all: &[GrpcMatch]) -> Vec<(Precedence, HttpMatch)> {
    match all {
        [] => vec![of_grpc(&GrpcMatch::default())],
        all => all.iter().map(of_grpc).collect(),
    }
}

/// A method is the path `/service/method`.
fn of_grpc(one: &GrpcMatch) -> (Precedence, HttpMatch) {
    let method = one.method.clone().unwrap_or_default();
    let part = |part: &Option<String>| part.clone().filter(|text| !text.is_empty());
    let (service, name) = (part(&method.service), part(&method.method));
    let quoted = |text: &str| match method.kind {
        MatchKind::Exact => escaped(text),
        MatchKind::RegularExpression => format!("(?:{text})"),
    };
    let path = match (method.kind, &service, &name) {
        (_, None, None) => None,
        (MatchKind::Exact, Some(service), Some(name)) => text(Kind::Exact(format!("/{service}/{name}"))),
        (MatchKind::Exact, Some(service), None) => text(Kind::Prefix(format!("/{service}/"))),
        (_, service, name) => {
            let part = |text: &Option<String>| text.as_deref().map_or_else(|| SEGMENT.to_owned(), quoted);
            text(Kind::Regex(format!("/{}/{}", part(service), part(name))))
        }
    };
    let wire = HttpMatch { path, headers: headers(&one.headers), ..HttpMatch::default() };
    let rank = Precedence::of_grpc(
        service.as_deref().unwrap_or_default(),
        name.as_deref().unwrap_or_default(),
        wire.headers.len(),
    );
    (rank, wire)
}

fn text(kind: Kind) -> Option<Text> {
    Some(Text { kind: Some(kind) })
}

fn headers(all: &[NamedMatch]) -> Vec<HeaderMatch> {
    named(all, str::to_ascii_lowercase)
}

/// Of several with one name the first counts.
fn named(all: &[NamedMatch], spelt: impl Fn(&str) -> String) -> Vec<HeaderMatch> {
    let mut wire: Vec<HeaderMatch> = Vec::new();
    for one in all {
        let name = spelt(&one.name);
        let value = match one.kind {
            MatchKind::Exact => Kind::Exact(one.value.clone()),
            MatchKind::RegularExpression => Kind::Regex(one.value.clone()),
        };
        if wire.iter().all(|other| other.name != name) {
            wire.push(HeaderMatch { name, value: text(value), invert: false });
        }
    }
    wire
}

/// A text as a pattern that matches it alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if !letter.is_alphanumeric() && letter != '_' {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
