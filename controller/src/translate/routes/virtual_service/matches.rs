//! Conditions of a VirtualService's rule.

use std::collections::BTreeMap;

use ambit_api::wire::waypoint::text::Kind;
use ambit_api::wire::waypoint::{HeaderMatch, HttpMatch, Text};
use ambit_crds::code::Code;
use ambit_crds::meta::ObjectRef;
use ambit_crds::value::StringMatch;
use ambit_crds::virtual_service::{self as crd, HttpRoute};

use super::super::draft::{Draft, Remark};
use super::is_of_mesh;

/// Headers that have fields of their own and mean nothing among headers.
const OWN_FIELDS: [&str; 4] = ["uri", "scheme", "method", "authority"];
/// Where a validated token's claims are asked for.
const CLAIMS: &str = "@request.auth.claims";

/// The conditions of a rule, none if it takes everything; `None` if none of them can be met at a waypoint.
pub(super) fn of_rule(
    route: &HttpRoute,
    at: usize,
    object: &ObjectRef,
    draft: &mut Draft,
) -> Option<Vec<HttpMatch>> {
    let mut kept = Vec::new();
    for (number, one) in route.matches.iter().enumerate() {
        let place = format!("http[{at}].match[{number}]");
        if !one.gateways.is_empty() && !is_of_mesh(&one.gateways) {
            let text = "it is for gateways only, which nothing serves yet";
            draft.remark(object, Remark::new(Code::IstioGateway, format!("{place}.gateways"), text));
        } else if one.headers.keys().chain(one.without_headers.keys()).any(|name| name.starts_with(CLAIMS)) {
            draft.not_yet(object, format!("{place}.headers (token claims; the condition is never met)"));
        } else {
            remark_ignored(one, &place, object, draft);
            kept.push(condition(one));
        }
    }
    (route.matches.is_empty() || !kept.is_empty()).then_some(kept)
}

fn remark_ignored(one: &crd::HttpMatch, place: &str, object: &ObjectRef, draft: &mut Draft) {
    let ignored = |name: &&String| OWN_FIELDS.contains(&name.as_str());
    for name in one.headers.keys().chain(one.without_headers.keys()).filter(ignored) {
        let text = format!("{name} among headers means nothing; write it as a field of the condition");
        draft.remark(object, Remark::new(Code::FieldMeansLess, format!("{place}.headers.{name}"), text));
    }
}

fn condition(one: &crd::HttpMatch) -> HttpMatch {
    let asked = |map: &BTreeMap<String, StringMatch>, invert: bool| -> Vec<HeaderMatch> {
        let real = map.iter().filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str()));
        real.map(|(name, value)| HeaderMatch {
            name: name.to_ascii_lowercase(),
            value: value_of(value),
            invert,
        })
        .collect()
    };
    let mut headers = asked(&one.headers, false);
    headers.extend(asked(&one.without_headers, true));
    let query = one.query_params.iter();
    HttpMatch {
        path: one.uri.as_ref().and_then(text),
        ignore_path_case: one.ignore_uri_case,
        scheme: one.scheme.as_ref().and_then(text),
        method: one.method.as_ref().and_then(text),
        authority: one.authority.as_ref().and_then(text),
        headers,
        query: query
            .map(|(name, value)| HeaderMatch { name: name.clone(), value: value_of(value), invert: false })
            .collect(),
        port: one.port.map_or(0, |port| u32::from(port.get())),
        source_labels: one.source_labels.clone(),
        source_namespace: one.source_namespace.clone(),
        name: one.name.clone(),
    }
}

/// None for presence, which a lone star also means.
fn value_of(value: &StringMatch) -> Option<Text> {
    text(value).filter(|text| text.kind != Some(Kind::Regex("*".to_owned())))
}

fn text(value: &StringMatch) -> Option<Text> {
    let kind = match value {
        StringMatch::Exact(text) => Kind::Exact(text.clone()),
        StringMatch::Prefix(text) => Kind::Prefix(text.clone()),
        StringMatch::Regex(text) => Kind::Regex(text.clone()),
        StringMatch::Present => return None,
    };
    Some(Text { kind: Some(kind) })
}
