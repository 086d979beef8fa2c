//! The texts of a policy — patterns, ports, addresses, service accounts — parsed one by one, so that an error names its place.

use std::net::IpAddr;

use ambit_api::policy::{ServiceAccountMatch, StringMatch};
use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::meta::Map;

/// A text that is parsed while it is read.
trait Parse: Sized {
    type Output;
    fn parse(text: &str) -> Result<Self::Output, String>;
}

struct Item<P: Parse>(P::Output);

impl<'de, P: Parse> Deserialize<'de> for Item<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        P::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

fn list<'de, P: Parse, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<P::Output>, D::Error> {
    Ok(Vec::<Item<P>>::deserialize(deserializer)?.into_iter().map(|item| item.0).collect())
}

macro_rules! lists {
    ($($name:ident: $parse:ident -> $output:ty;)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<$output>, D::Error> {
            struct One;
            impl Parse for One {
                type Output = $output;
                fn parse(text: &str) -> Result<$output, String> {
                    $parse(text)
                }
            }
            list::<One, D>(deserializer)
        }
    )*};
}

lists! {
    patterns: pattern -> StringMatch;
    principals: principal -> StringMatch;
    service_accounts: service_account -> ServiceAccountMatch;
    networks: network -> IpNet;
    ports: port -> u16;
    paths: path -> String;
}

/// `abc`, `abc*`, `*abc` or `*`; an asterisk elsewhere would be compared literally and never match.
pub(super) fn pattern(text: &str) -> Result<StringMatch, String> {
    let parsed = loose_pattern(text)?;
    let rest = match &parsed {
        StringMatch::Exact(rest) | StringMatch::Prefix(rest) | StringMatch::Suffix(rest) => rest.as_str(),
        StringMatch::Presence => "",
    };
    if rest.contains('*') {
        return Err(format!("{text:?} has a * that is neither first nor last; write `abc*`, `*abc` or `*`"));
    }
    Ok(parsed)
}

/// Like [`pattern`], for values in which an asterisk may be meant literally.
pub(super) fn loose_pattern(text: &str) -> Result<StringMatch, String> {
    if text.is_empty() {
        return Err("an empty text matches nothing; remove it".to_owned());
    }
    if text == "*" {
        return Ok(StringMatch::Presence);
    }
    if let Some(rest) = text.strip_prefix('*') {
        return Ok(StringMatch::Suffix(rest.to_owned()));
    }
    if let Some(rest) = text.strip_suffix('*') {
        return Ok(StringMatch::Prefix(rest.to_owned()));
    }
    Ok(StringMatch::Exact(text.to_owned()))
}

pub(super) fn principal(text: &str) -> Result<StringMatch, String> {
    if let Some(rest) = text.strip_prefix("spiffe://") {
        return Err(format!("principals are compared without spiffe://; write {rest:?}"));
    }
    pattern(text)
}

/// `name` or `namespace/name`; the namespace stays empty until the policy's is known.
pub(super) fn service_account(text: &str) -> Result<ServiceAccountMatch, String> {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    let valid = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    if !valid(name) || (text.contains('/') && !valid(namespace)) {
        return Err(format!(
            "{text:?} is not a service account; write `name` or `namespace/name`, without *"
        ));
    }
    Ok(ServiceAccountMatch { namespace: namespace.to_owned(), service_account: name.to_owned() })
}

/// An address or a CIDR; bits behind the prefix are dropped.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let parsed = text.parse::<IpNet>().map(|network| network.trunc());
    parsed.map_err(|_| format!("{text:?} is neither an IP address nor a CIDR; write for example 10.0.0.0/8"))
}

/// A port number as a text, as Istio's API has it.
pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!("{text:?} is not a port; write a number from 1 to 65535 in quotes")),
    }
}

/// A path, a path with one * at an end, or a template with `{*}` and `{**}` segments.
pub(super) fn path(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty path matches nothing; remove it".to_owned());
    }
    if text.contains(['{', '}']) {
        check_template(text)?;
    } else {
        pattern(text)?;
    }
    Ok(text.to_owned())
}

fn check_template(text: &str) -> Result<(), String> {
    let segments: Vec<&str> = text.split('/').collect();
    for (place, segment) in segments.iter().enumerate() {
        let last = place + 1 == segments.len();
        let fine = match *segment {
            "{*}" => true,
            "{**}" => last || !segments[place + 1..].iter().any(|later| later.contains('{')),
            plain => !plain.contains(['{', '}', '*']),
        };
        if !fine {
            return Err(format!(
                "{text:?} is not a path template; {{*}} and {{**}} fill whole segments, {{**}} is the last of them"
            ));
        }
    }
    Ok(())
}

/// Selector labels: no empty key, and no wildcard, which would be taken literally.
pub(super) fn check_labels(labels: &Map) -> Result<(), String> {
    match labels.iter().find(|(key, value)| key.is_empty() || key.contains('*') || value.contains('*')) {
        Some((key, value)) => Err(format!(
            "selector.matchLabels: {key:?}: {value:?} cannot match a label; wildcards do not work here"
        )),
        None => Ok(()),
    }
}
