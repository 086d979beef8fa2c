//! A request after a match of its table, and then, often, spoilt in one place.

use std::collections::BTreeSet;

use super::{Dice, HEADERS, METHODS, PARAMETER_VALUES, PARAMETERS, VALUES};
use crate::table::{CLIENTS, Match, PORTS, Request, Table, Text};

/// A request for a table.
pub(crate) fn request(dice: &mut Dice, table: &Table) -> Request {
    let hosts = [
        table.name.clone(),
        format!("{}.diff", table.name),
        format!("{}.diff.svc.cluster.local", table.name),
    ];
    let mut request = Request {
        client: dice.below(CLIENTS.len()),
        port: dice.pick(&PORTS),
        method: dice.pick(&METHODS),
        target: dice.path(),
        authority: dice.pick(&hosts),
        headers: Vec::new(),
    };
    if dice.chance(40) {
        let port = request.port;
        request.authority.push_str(&format!(":{port}"));
    }
    if dice.chance(5) {
        request.authority = "elsewhere.example".to_owned();
    }
    let mut query = Vec::new();
    let matches: Vec<_> = table.rules.iter().flat_map(|rule| &rule.matches).collect();
    if !matches.is_empty() && dice.chance(75) {
        let wanted = dice.pick(&matches);
        suit(dice, wanted, &mut request, &mut query);
    }
    if dice.chance(30) {
        query.push(parameter(dice));
    }
    if dice.chance(50) {
        let header = (dice.pick(&HEADERS).to_owned(), dice.pick(&VALUES).to_owned());
        request.headers.push(header);
    }
    if dice.chance(25) {
        spoil(dice, &mut request);
    }
    if dice.chance(10)
        && let Some((name, _)) = request.headers.last().cloned()
    {
        request.headers.push((name, dice.pick(&VALUES).to_owned()));
    }
    once(&mut request.headers);
    if !query.is_empty() {
        request.target.push('?');
        request.target.push_str(&query.join("&"));
    }
    request
}

/// Leaves one value of `user-agent`, which is no list and which Envoy joins.
fn once(headers: &mut Vec<(String, String)>) {
    let mut seen = BTreeSet::new();
    headers.retain(|(name, _)| seen.insert(name.clone()) || name != "user-agent");
}

fn parameter(dice: &mut Dice) -> String {
    let name = dice.pick(&PARAMETERS);
    match dice.below(5) {
        0 => name.to_owned(),
        // The same by another spelling.
        1 => format!("{name}={}", dice.pick(&["%31", "a%62c", "2%32"])),
        _ => format!("{name}={}", dice.pick(&PARAMETER_VALUES)),
    }
}

/// Makes a request that should fit a match.
fn suit(dice: &mut Dice, wanted: &Match, request: &mut Request, query: &mut Vec<String>) {
    if let Some(path) = &wanted.path {
        request.target = match path {
            Text::Exact(path) => path.clone(),
            Text::Prefix(path) if dice.chance(50) => format!("{}{}", path.trim_end_matches('/'), dice.path()),
            Text::Prefix(path) => path.clone(),
            Text::Regex(_) => {
                dice.pick(&["/v1/a", "/v22/a/b", "/a/x.y", "/api", "/b/Items", "/apis/b"]).to_owned()
            }
        };
    }
    if wanted.ignore_case && dice.chance(50) {
        request.target = request.target.to_uppercase();
    }
    if let Some(Text::Exact(method) | Text::Prefix(method)) = &wanted.method {
        request.method = METHODS.into_iter().find(|own| own.starts_with(method.as_str())).unwrap_or("GET");
    }
    if let Some(Text::Exact(authority)) = &wanted.authority {
        request.authority.clone_from(authority);
    }
    if let Some(port) = wanted.port {
        request.port = port;
    }
    let value = |dice: &mut Dice, text: &Option<Text>| match text {
        None => dice.pick(&VALUES).to_owned(),
        Some(Text::Exact(text)) => text.clone(),
        Some(Text::Prefix(text)) => format!("{text}zz"),
        Some(Text::Regex(_)) => dice.pick(&["abcd", "7", "a Chrome b", "1"]).to_owned(),
    };
    for (name, text) in &wanted.headers {
        let header = (name.clone(), value(dice, text));
        request.headers.push(header);
    }
    for (name, text) in &wanted.query {
        let value = value(dice, text).replace([' ', '(', ')', ';'], "+");
        query.push(format!("{name}={value}"));
    }
}

/// Changes one thing so that it often no longer fits, or is spelt in another way.
fn spoil(dice: &mut Dice, request: &mut Request) {
    match dice.below(9) {
        0 => request.method = dice.pick(&METHODS),
        1 => request.target.push_str("/more"),
        2 => request.target.insert_str(0, "/a/.."),
        3 => request.target.insert(0, '/'),
        4 => request.target.push_str("/./"),
        5 => request.target = request.target.replace('a', "%61"),
        6 => request.target = request.target.replacen("/", "/%2F", 1),
        7 => drop(request.headers.pop()),
        _ => {
            let again = (dice.pick(&HEADERS).to_owned(), dice.pick(&VALUES).to_owned());
            request.headers.push(again);
        }
    }
}
