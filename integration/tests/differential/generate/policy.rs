//! Policies by chance.

use super::{Dice, HEADERS, METHODS, VALUES};
use crate::table::{Condition, Field, PORTS, Policy, PolicyRule};

/// Every wildcard of a path.
const PATHS: [&str; 9] =
    ["/a", "/api*", "*/Items", "*", "/v1/*", "/{*}/b", "/api/{**}", "/{*}/v1/{**}", "/{**}/Items"];
const PRINCIPALS: [&str; 5] = [
    "cluster.local/ns/diff/sa/alice",
    "cluster.local/ns/other/sa/bob",
    "cluster.local/ns/diff/*",
    "*/sa/bob",
    "*",
];
const NAMESPACES: [&str; 3] = ["diff", "oth*", "*iff"];
const ACCOUNTS: [&str; 3] = ["alice", "diff/alice", "other/bob"];

pub(super) fn policies(dice: &mut Dice, host: &str) -> Vec<Policy> {
    if dice.chance(35) {
        return Vec::new();
    }
    let count = 1 + dice.below(3);
    let mut policies: Vec<_> = (0..count).map(|_| policy(dice, host)).collect();
    if policies.iter().any(|policy| !policy.deny && !policy.dry_run) && dice.chance(60) {
        // Narrow ALLOWs alone would refuse nearly everything.
        let methods = Field { name: "methods", not: true, values: vec![dice.pick(&METHODS).to_owned()] };
        let rule = PolicyRule { to: vec![vec![methods]], ..PolicyRule::default() };
        policies.push(Policy { deny: false, dry_run: false, rules: vec![rule] });
    }
    policies
}

fn policy(dice: &mut Dice, host: &str) -> Policy {
    let deny = dice.chance(50);
    let mut count = 1 + dice.below(3);
    if !deny && dice.chance(4) {
        count = 0;
    }
    let rules = (0..count).map(|_| rule(dice, host)).collect();
    Policy { deny, dry_run: dice.chance(10), rules }
}

fn rule(dice: &mut Dice, host: &str) -> PolicyRule {
    let mut rule = PolicyRule::default();
    if dice.chance(50) {
        rule.from = (0..1 + dice.below(2)).map(|_| source(dice)).collect();
    }
    if dice.chance(70) || rule.from.is_empty() {
        rule.to = (0..1 + dice.below(2)).map(|_| operation(dice, host)).collect();
    }
    if dice.chance(30) {
        rule.when = (0..1 + dice.below(2)).map(|_| condition(dice)).collect();
    }
    rule
}

fn source(dice: &mut Dice) -> Vec<Field> {
    let all: &[(&'static str, &[&str])] =
        &[("principals", &PRINCIPALS), ("namespaces", &NAMESPACES), ("serviceAccounts", &ACCOUNTS)];
    // serviceAccounts stand alone.
    let (name, values) = dice.pick(all);
    let mut fields = vec![field(dice, name, values)];
    if name == "principals" && dice.chance(30) {
        fields.push(field(dice, "namespaces", &NAMESPACES));
    }
    fields
}

fn operation(dice: &mut Dice, host: &str) -> Vec<Field> {
    let full = format!("{host}.diff.svc.cluster.local");
    let upper = host.to_uppercase();
    let with_port = format!("{host}:81");
    let start = format!("{host}*");
    let hosts = [host, &full, &upper, &with_port, &start, "*.local", "*"];
    let ports = PORTS.map(|port| port.to_string());
    let ports: Vec<_> = ports.iter().map(String::as_str).collect();
    let methods = [&METHODS[..], &["P*", "*T", "*"]].concat();
    let all: &[(&'static str, &[&str])] =
        &[("paths", &PATHS), ("paths", &PATHS), ("methods", &methods), ("hosts", &hosts), ("ports", &ports)];
    let (name, values) = dice.pick(all);
    let mut fields = vec![field(dice, name, values)];
    if dice.chance(40) {
        let (other, values) = dice.pick(all);
        if other != name {
            fields.push(field(dice, other, values));
        }
    }
    if name == "paths" && dice.chance(20) {
        let not = !fields[0].not;
        let values = dice.some(&PATHS, 2).into_iter().map(str::to_owned).collect();
        fields.push(Field { name, not, values });
    }
    fields
}

fn field(dice: &mut Dice, name: &'static str, values: &[&str]) -> Field {
    let values = dice.some(values, 2).into_iter().map(str::to_owned).collect();
    Field { name, not: dice.chance(25), values }
}

fn condition(dice: &mut Dice) -> Condition {
    let ports = PORTS.map(|port| port.to_string());
    let ports: Vec<_> = ports.iter().map(String::as_str).collect();
    let header = format!("request.headers[{}]", dice.pick(&HEADERS));
    let words = ["abc*", "*1", "*", "22"];
    let known: Vec<_> = VALUES.into_iter().filter(|value| !value.is_empty()).chain(words).collect();
    let (key, values): (_, &[&str]) = match dice.below(5) {
        0 => ("source.principal".to_owned(), &PRINCIPALS),
        1 => ("source.namespace".to_owned(), &NAMESPACES),
        2 => ("destination.port".to_owned(), &ports),
        _ => (header, &known),
    };
    let mut some = || dice.some(values, 2).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let (wanted, unwanted) = (some(), some());
    match dice.below(4) {
        0 => Condition { key, values: Vec::new(), not_values: unwanted },
        1 => Condition { key, values: wanted, not_values: unwanted },
        _ => Condition { key, values: wanted, not_values: Vec::new() },
    }
}
