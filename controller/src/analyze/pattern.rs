//! Paths, methods and hosts that no request has.

use ambit_api::policy::StringMatch;
use ambit_crds::authorization_policy::{Action, AuthorizationPolicy, Operation};
use ambit_crds::code::Code;

use super::Report;

/// Those of an AuthorizationPolicy.
pub(super) fn of_policy(one: &AuthorizationPolicy, report: &mut Report) {
    let effect = match one.spec.action {
        Action::Allow => "it allows nothing",
        _ => "it catches nothing",
    };
    for (at, rule) in one.spec.rules.iter().enumerate() {
        for (place, operation) in rule.to.iter().enumerate() {
            let field = format!("spec.rules[{at}].to[{place}].operation");
            for (name, number, why, mend) in never(operation) {
                let field = format!("{field}.{name}[{number}]");
                report.warning(Code::PatternNeverMatches, &field, format!("{why}, so {effect}"), mend);
            }
        }
    }
}

type Never = (&'static str, usize, String, String);

fn never(operation: &Operation) -> Vec<Never> {
    let mut found = Vec::new();
    for (name, list) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        let wrong = list.iter().enumerate().filter_map(|(number, text)| Some((number, path(text)?)));
        found.extend(wrong.map(|(number, (why, mend))| (name, number, why, mend)));
    }
    for (name, list) in [("methods", &operation.methods), ("notMethods", &operation.not_methods)] {
        let wrong = list.iter().enumerate().filter_map(|(number, text)| Some((number, method(text)?)));
        found.extend(wrong.map(|(number, (why, mend))| (name, number, why, mend)));
    }
    for (name, list) in [("hosts", &operation.hosts), ("notHosts", &operation.not_hosts)] {
        let wrong = list.iter().enumerate().filter_map(|(number, text)| Some((number, host(text)?)));
        found.extend(wrong.map(|(number, (why, mend))| (name, number, why, mend)));
    }
    found
}

/// Why no request has the path, and what to write.
pub(super) fn path(text: &str) -> Option<(String, String)> {
    if !text.starts_with(['/', '*', '{']) {
        return Some((
            format!("every path begins with /, and {text:?} does not"),
            format!("write \"/{text}\""),
        ));
    }
    let (path, _) = text.split_once(['?', '#'])?;
    Some((
        format!("paths are compared without what follows ?, and {text:?} has that"),
        format!("write {path:?}"),
    ))
}

fn method(text: &StringMatch) -> Option<(String, String)> {
    let (StringMatch::Exact(name) | StringMatch::Prefix(name) | StringMatch::Suffix(name)) = text else {
        return None;
    };
    name.chars().any(|letter| letter.is_ascii_lowercase()).then(|| {
        let upper = name.to_ascii_uppercase();
        (format!("methods are written in capitals, and {name:?} is not"), format!("write {upper}"))
    })
}

fn host(text: &StringMatch) -> Option<(String, String)> {
    let (StringMatch::Exact(name) | StringMatch::Prefix(name) | StringMatch::Suffix(name)) = text else {
        return None;
    };
    let bare = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or_default();
    (bare != name)
        .then(|| (format!("a host has neither scheme nor path, and {name:?} has"), format!("write {bare:?}")))
}
