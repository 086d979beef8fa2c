//! Arithmetic of conditions: which one comes first, which one takes everything, what two of them have in common.

use std::cmp::Reverse;

use ambit_api::wire::waypoint::text::Kind;
use ambit_api::wire::waypoint::{HeaderMatch, HttpMatch, HttpRule, Text};

/// A place in the Gateway API's order of precedence; the smallest is asked first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence(Reverse<[usize; 5]>);

impl Precedence {
    /// Of an HTTPRoute's condition: exact path, then the longest prefix, then patterns, whose place Gateway API leaves open
    /// (so it is Istio's), then what every path has; method; count of headers, of parameters.
    pub(crate) fn of_http(one: &HttpMatch) -> Self {
        let (kind, length) = match one.path.as_ref().and_then(|path| path.kind.as_ref()) {
            Some(Kind::Exact(path)) => (3, path.len()),
            Some(Kind::Segments(path) | Kind::Prefix(path)) if !matches!(path.as_str(), "" | "/") => {
                (2, path.len())
            }
            Some(Kind::Regex(pattern)) => (1, pattern.len()),
            _ => (0, 0),
        };
        let method = usize::from(one.method.is_some());
        Self(Reverse([kind, length, method, one.headers.len(), one.query.len()]))
    }

    /// Of a GRPCRoute's condition: the longest service, then the longest method, then the count of headers.
    pub(crate) fn of_grpc(service: &str, method: &str, headers: usize) -> Self {
        Self(Reverse([service.len(), method.len(), headers, 0, 0]))
    }
}

/// Whether every request to the port that it names satisfies it.
fn takes_all(one: &HttpMatch) -> bool {
    let any_path = match one.path.as_ref().and_then(|path| path.kind.as_ref()) {
        None => true,
        Some(Kind::Prefix(path) | Kind::Segments(path)) => matches!(path.as_str(), "" | "/"),
        Some(Kind::Regex(pattern)) => matches!(pattern.as_str(), ".*" | "/.*"),
        Some(_) => false,
    };
    let bare = HttpMatch { path: None, ignore_path_case: false, port: 0, name: String::new(), ..one.clone() };
    any_path && bare == HttpMatch::default()
}

/// Whether no request to `port` (any, if 0) gets past the rule.
pub(crate) fn ends_with(rule: &HttpRule, port: u32) -> bool {
    let all = |one: &HttpMatch| takes_all(one) && (one.port == 0 || one.port == port);
    rule.matches.is_empty() || rule.matches.iter().any(all)
}

/// Whether some request to the port could satisfy the rule.
pub(crate) fn concerns(rule: &HttpRule, port: u32) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|one| one.port == 0 || one.port == port)
}

/// What a request must satisfy to satisfy both the root's condition and the delegate's, if there is any
/// (apis: a pattern on either side fits nothing but silence).
pub(crate) fn common(root: &HttpMatch, own: &HttpMatch) -> Option<HttpMatch> {
    let fits = root.ignore_path_case == own.ignore_path_case
        && (root.port == 0 || own.port == 0 || root.port == own.port)
        && (root.source_namespace.is_empty() || root.source_namespace == own.source_namespace)
        && root.source_labels.iter().all(|(key, value)| own.source_labels.get(key).unwrap_or(value) == value);
    if !fits {
        return None;
    }
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(own.source_labels.clone());
    Some(HttpMatch {
        path: narrower(root.path.as_ref(), own.path.as_ref())?,
        ignore_path_case: own.ignore_path_case,
        scheme: narrower(root.scheme.as_ref(), own.scheme.as_ref())?,
        method: narrower(root.method.as_ref(), own.method.as_ref())?,
        authority: narrower(root.authority.as_ref(), own.authority.as_ref())?,
        headers: united(&root.headers, &own.headers)?,
        query: united(&root.query, &own.query)?,
        port: if own.port == 0 { root.port } else { own.port },
        source_labels,
        source_namespace: own.source_namespace.clone(),
        name: joined(&root.name, &own.name),
    })
}

/// Two names as one.
pub(crate) fn joined(root: &str, own: &str) -> String {
    let names = [root, own].into_iter().filter(|name| !name.is_empty());
    names.collect::<Vec<_>>().join("-")
}

/// The delegate's text where it lies within the root's; nothing if it does not.
fn narrower(root: Option<&Text>, own: Option<&Text>) -> Option<Option<Text>> {
    let (Some(outer), Some(inner)) = (root, own) else {
        return Some(own.or(root).cloned());
    };
    let fits = match (outer.kind.as_ref()?, inner.kind.as_ref()?) {
        (Kind::Exact(outer), Kind::Exact(inner)) => inner == outer,
        (Kind::Prefix(outer), Kind::Exact(inner) | Kind::Prefix(inner)) => inner.starts_with(outer.as_str()),
        _ => false,
    };
    fits.then(|| Some(inner.clone()))
}

fn united(root: &[HeaderMatch], own: &[HeaderMatch]) -> Option<Vec<HeaderMatch>> {
    let mut all: Vec<HeaderMatch> = own.to_vec();
    for outer in root {
        match all.iter_mut().find(|inner| inner.name == outer.name && inner.invert == outer.invert) {
            None => all.push(outer.clone()),
            Some(inner) => inner.value = narrower(outer.value.as_ref(), inner.value.as_ref())?,
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind) -> Option<Text> {
        Some(Text { kind: Some(kind) })
    }

    fn exact(path: &str) -> HttpMatch {
        HttpMatch { path: text(Kind::Exact(path.into())), ..HttpMatch::default() }
    }

    fn prefix(path: &str) -> HttpMatch {
        HttpMatch { path: text(Kind::Prefix(path.into())), ..HttpMatch::default() }
    }

    fn regex(path: &str) -> HttpMatch {
        HttpMatch { path: text(Kind::Regex(path.into())), ..HttpMatch::default() }
    }

    #[test]
    fn a_delegate_stays_within_its_root() {
        let any = HttpMatch::default;
        let port = |port| HttpMatch { port, ..any() };
        let from = |namespace: &str| HttpMatch { source_namespace: namespace.into(), ..any() };
        let case = HttpMatch { ignore_path_case: true, ..prefix("/a") };
        let table = [
            (any(), any(), Some(any())),
            (prefix("/a"), any(), Some(prefix("/a"))),
            (any(), regex("x"), Some(regex("x"))),
            (exact("/a"), exact("/a"), Some(exact("/a"))),
            (exact("/a"), exact("/b"), None),
            (exact("/a"), prefix("/a"), None),
            (prefix("/a"), exact("/ab"), Some(exact("/ab"))),
            (prefix("/a"), prefix("/a/b"), Some(prefix("/a/b"))),
            (prefix("/a/b"), prefix("/a"), None),
            (prefix("/a"), regex("/a/.*"), None),
            (regex("x"), exact("x"), None),
            (regex("x"), regex("x"), None),
            (prefix("/a"), case.clone(), None),
            (case.clone(), case.clone(), Some(case)),
            (port(80), any(), Some(port(80))),
            (any(), port(80), Some(port(80))),
            (port(80), port(81), None),
            (from("a"), any(), None),
            (from("a"), from("a"), Some(from("a"))),
            (any(), from("a"), Some(from("a"))),
        ];
        for (root, own, expected) in table {
            assert_eq!(common(&root, &own), expected, "{root:?} over {own:?}");
        }
    }

    #[test]
    fn headers_of_both_count_and_those_of_one_name_must_fit() {
        let header = |value: Option<Text>| HttpMatch {
            headers: vec![HeaderMatch { name: "x".into(), value, invert: false }],
            ..HttpMatch::default()
        };
        let (a, b) = (text(Kind::Exact("a".into())), text(Kind::Exact("b".into())));
        assert_eq!(common(&header(a.clone()), &header(None)), Some(header(a.clone())));
        assert_eq!(common(&header(None), &header(a.clone())), Some(header(a.clone())));
        assert_eq!(common(&header(a.clone()), &header(b)), None);
        assert_eq!(common(&header(a.clone()), &HttpMatch::default()), Some(header(a)));
    }

    #[test]
    fn what_takes_everything_says_nothing_but_a_port() {
        let all = [HttpMatch::default(), prefix("/"), regex(".*")];
        let some = [prefix("/a"), exact("/"), HttpMatch { source_namespace: "a".into(), ..prefix("/") }];
        let rule = |one: &HttpMatch, port| HttpRule {
            matches: vec![HttpMatch { port, ..one.clone() }],
            ..HttpRule::default()
        };
        for one in &all {
            assert!(ends_with(&rule(one, 0), 80) && ends_with(&rule(one, 80), 80), "{one:?}");
            assert!(!ends_with(&rule(one, 81), 80) && !concerns(&rule(one, 81), 80), "{one:?}");
        }
        assert!(some.iter().all(|one| !ends_with(&rule(one, 0), 80) && concerns(&rule(one, 0), 80)));
        assert!(ends_with(&HttpRule::default(), 80));
    }

    #[test]
    fn precedence_is_that_of_the_gateway_api() {
        let get = |one: HttpMatch| HttpMatch { method: text(Kind::Exact("GET".into())), ..one };
        let with = |one: HttpMatch, headers, query| HttpMatch {
            headers: vec![HeaderMatch::default(); headers],
            query: vec![HeaderMatch::default(); query],
            ..one
        };
        let ordered = [
            exact("/a"),
            prefix("/a/long"),
            get(prefix("/a")),
            with(prefix("/a"), 2, 0),
            with(prefix("/a"), 1, 1),
            with(prefix("/a"), 1, 0),
            with(prefix("/a"), 0, 1),
            prefix("/a"),
            regex("/a.*"),
            prefix("/"),
        ];
        let ranks: Vec<_> = ordered.iter().map(Precedence::of_http).collect();
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert!(Precedence::of_grpc("a.B", "C", 0) < Precedence::of_grpc("a.B", "", 5));
        assert!(Precedence::of_grpc("a.B", "", 0) < Precedence::of_grpc("", "Method", 5));
    }
}
