//! Two answers to one request: what must be the same, and what differs and may.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::{Answer, Headers};
use crate::table::{Action, BACKEND, Condition, RULE, Redirect, RedirectPort, Request, Rule, Table};

/// A difference that is known: where it is seen, and why it is one.
pub(crate) struct Known {
    /// What [`differences`] calls it.
    pub(crate) what: &'static str,
    pub(crate) reason: &'static str,
    /// Whether a difference is of this sort.
    holds: fn(&Pair<'_>) -> bool,
}

/// What differs, and where.
pub(crate) struct Pair<'a> {
    /// The rule ours says it is by.
    rule: Option<&'a Rule>,
    answers: [&'a Answer; 2],
    /// Ours and Envoy's.
    values: [&'a str; 2],
}

/// Every difference that is accepted. None concerns which rule a request falls on, or, but for [`CLOSED_READING`], whether
/// it may pass.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        what: "response header x-rule",
        reason: "Envoy puts a rule's headers on refusals too; we judge before a rule acts",
        holds: refused_alike,
    },
    Known {
        what: "response header x-backend",
        reason: "the same, for a backend that was never asked",
        holds: refused_alike,
    },
    Known { what: "response header x-added", reason: "the same", holds: refused_alike },
    Known {
        what: "response header location",
        reason: "we leave out a port that goes without saying, as Istio does; Envoy writes what it was told",
        holds: |pair| without_port(pair.values[0]) == without_port(pair.values[1]),
    },
    Known {
        what: "response header location",
        reason: "where a VirtualService says nothing of the port, ours is the one dialled or, with a scheme, its own; Envoy repeats the host as sent",
        holds: |pair| names_no_port(pair.rule) && bare(pair.values[0]) == bare(pair.values[1]),
    },
    Known {
        what: "response header connection",
        reason: "Envoy closes where it answered before it had the body; we read the body",
        holds: |pair| pair.values == ABSENT_CLOSE,
    },
    Known {
        what: "response header x-envoy-upstream-service-time",
        reason: "Envoy tells how long the backend took; we keep that to the access log",
        holds: only_envoys,
    },
    Known {
        what: "request header x-request-id",
        reason: "a request without one gets one, and no two are alike",
        holds: |pair| {
            pair.values.iter().all(|value| value.len() == r#"["00000000-0000-0000-0000-000000000000"]"#.len())
        },
    },
    Known {
        what: "request header x-forwarded-proto",
        reason: "Envoy tells backends how the request came to it; between two pods of a mesh nothing is forwarded",
        holds: only_envoys,
    },
    Known {
        what: "request header x-envoy-original-host",
        reason: "Envoy leaves a rewritten host beside the new one",
        holds: only_envoys,
    },
    Known {
        what: "request header x-envoy-original-path",
        reason: "Envoy leaves a rewritten path beside the new one",
        holds: only_envoys,
    },
    Known {
        what: "request header content-length",
        reason: "Envoy says of some methods that there is no body; we send what came",
        holds: |pair| pair.values == ["[]", r#"["0"]"#],
    },
];

/// The one difference in a verdict, and we are the stricter ones: [`closed_reading`].
pub(crate) const CLOSED_READING: &str = "refused by us, and not by Envoy: a request that repeats a header which a policy asks for. Every value has to \
please an ALLOW, and one suffices for a DENY (CVE-2021-32777, CVE-2026-26308); Envoy is content with any, or joins them";

/// Whether a request is refused because of a header that has several values.
pub(crate) fn closed_reading(table: &Table, request: &Request, ours: &Answer, envoys: &Answer) -> bool {
    let conditions = table.policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.when);
    let repeated = |condition: &Condition| {
        let name = condition.key.strip_prefix("request.headers[").and_then(|key| key.strip_suffix(']'));
        request.headers.iter().filter(|(own, _)| Some(own.as_str()) == name).count() > 1
    };
    ours.status == 403 && envoys.status != 403 && conditions.into_iter().any(repeated)
}

const ABSENT_CLOSE: [&str; 2] = ["[]", r#"["close"]"#];

fn refused_alike(pair: &Pair<'_>) -> bool {
    pair.values[0] == "[]" && pair.answers.iter().all(|answer| answer.status == 403 && answer.seen.is_none())
}

/// A `Location` without the port that its scheme means anyway.
fn without_port(location: &str) -> String {
    let port = if location.contains("https://") { ":443" } else { ":80" };
    match location.split_once(port) {
        Some((host, rest)) if rest.starts_with(['/', '"']) => format!("{host}{rest}"),
        _ => location.to_owned(),
    }
}

fn names_no_port(rule: Option<&Rule>) -> bool {
    let action = rule.map(|rule| &rule.action);
    matches!(action, Some(Action::Redirect(Redirect { port: RedirectPort::Unsaid, authority: None, .. })))
}

/// A `Location` without any port.
fn bare(location: &str) -> String {
    let (scheme, rest) = location.split_once("://").unwrap_or(("", location));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    format!("{scheme}://{}/{path}", host.split(':').next().unwrap_or_default())
}

fn only_envoys(pair: &Pair<'_>) -> bool {
    pair.values[0] == "[]"
}

/// One thing that is not the same.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) envoys: String,
}

/// Which rule an answer says it is by.
pub(crate) fn rule(answer: &Answer) -> Option<usize> {
    answer.headers.get(RULE)?.first()?.parse().ok()
}

/// Which backend a request reached.
pub(crate) fn backend(answer: &Answer) -> Option<&str> {
    answer.seen.as_ref()?["pod"].as_str()
}

/// Everything in which the answers differ, the known things left out.
pub(crate) fn differences(table: &Table, one: &Answer, other: &Answer) -> Vec<Difference> {
    let (ours, envoys) = (one, other);
    let chosen = rule(ours).and_then(|place| table.rules.get(place));
    let mut all = Vec::new();
    let mut add = |what: &str, ours: String, envoys: String| {
        let pair = Pair { rule: chosen, answers: [one, other], values: [&ours, &envoys] };
        if ours != envoys && !KNOWN.iter().any(|known| known.what == what && (known.holds)(&pair)) {
            all.push(Difference { what: what.to_owned(), ours, envoys });
        }
    };
    add("status", ours.status.to_string(), envoys.status.to_string());
    let chooses = chosen.map(Rule::shares).unwrap_or_default();
    let reached = |answer: &Answer| match backend(answer) {
        Some(name)
            if chooses.iter().any(|(own, share)| *own == name && *share > 0.0) && chooses.len() > 1 =>
        {
            "one of several".to_owned()
        }
        name => format!("{name:?}"),
    };
    add("backend", reached(ours), reached(envoys));
    let same_backend = backend(ours) == backend(envoys);
    for (name, ours, envoys) in both(&ours.headers, &envoys.headers) {
        if (name != BACKEND || same_backend) && !is_framing(name, &ours, &envoys) {
            add(&format!("response header {name}"), ours, envoys);
        }
    }
    if let (Some(ours), Some(envoys)) = (&ours.seen, &envoys.seen) {
        for field in ["method", "path", "host", "bodyBytes"] {
            add(field, ours[field].to_string(), envoys[field].to_string());
        }
        for (name, ours, envoys) in both(&headers(ours), &headers(envoys)) {
            if name != "x-to" || same_backend {
                add(&format!("request header {name}"), ours, envoys);
            }
        }
    } else {
        add("body", ours.body.clone(), envoys.body.clone());
    }
    all
}

/// Lengths of bodies that hold a pod's name and its address.
fn is_framing(name: &str, ours: &str, envoys: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding" | "date") && (ours != "[]" || envoys != "[]")
}

fn headers(seen: &Value) -> Headers {
    serde_json::from_value(seen["headers"].clone()).unwrap_or_default()
}

/// Every name either has, with the values of both.
fn both<'a>(ours: &'a Headers, envoys: &'a Headers) -> Vec<(&'a str, String, String)> {
    let names: BTreeMap<&str, ()> =
        ours.keys().chain(envoys.keys()).map(|name| (name.as_str(), ())).collect();
    let values = |of: &Headers, name: &str| match of.get(name) {
        Some(values) => format!("{values:?}"),
        None => "[]".to_owned(),
    };
    names.into_keys().map(|name| (name, values(ours, name), values(envoys, name))).collect()
}
