//! Tables and requests by chance, from alphabets so small that requests meet rules.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::table::{
    Action, BACKENDS, Changes, Form, Match, Named, PORTS, Path, Redirect, RedirectPort, Rewrite, Rule, Table,
    Target, Text,
};

#[path = "generate/policy.rs"]
mod policy;
#[path = "generate/request.rs"]
mod request;

pub(crate) use request::request;

pub(crate) const SEGMENTS: [&str; 7] = ["a", "b", "api", "v1", "v10", "Items", "x.y"];
const PATH_PATTERNS: [&str; 6] = ["/v[0-9]+/.*", "/(a|b)/[^/]+", "/api.*", ".*/Items", "/[a-z]+", "/.*[.]y"];
pub(crate) const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "OPTIONS"];
pub(crate) const HEADERS: [&str; 4] = ["x-a", "x-b", "x-user", "user-agent"];
pub(crate) const VALUES: [&str; 6] = ["1", "22", "abc", "abcdef", "Mozilla/5.0 (X11) Chrome/1", ""];
const VALUE_PATTERNS: [&str; 4] = ["abc.*", "[0-9]+", ".*Chrome.*", "(1|abc)"];
const PARAMETERS: [&str; 3] = ["q", "id", "flag"];
const PARAMETER_VALUES: [&str; 5] = ["", "1", "22", "abc", "abcdef"];

/// Dice.
pub(crate) struct Dice(SmallRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(SmallRng::seed_from_u64(seed))
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.choose(&mut self.0).cloned().expect("something to pick from")
    }

    /// One to `most` different ones.
    pub(crate) fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let count = 1 + self.below(most.min(from.len()));
        from.choose_multiple(&mut self.0, count).cloned().collect()
    }

    pub(crate) fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let mut path: String = (0..depth).map(|_| format!("/{}", self.pick(&SEGMENTS))).collect();
        if self.chance(15) {
            path.push('/');
        }
        path
    }

    /// `exact` and `regex` always, `prefix` where the form has it.
    fn text(&mut self, form: Form, words: &[&str], patterns: &[&str]) -> Text {
        match self.below(3) {
            0 => Text::Regex(self.pick(patterns).to_owned()),
            1 if form == Form::VirtualService => {
                let word = self.pick(words);
                let end = 1 + self.below(word.len().max(1));
                if word.is_empty() {
                    Text::Exact(String::new())
                } else {
                    Text::Prefix(word[..end].to_owned())
                }
            }
            _ => Text::Exact(self.pick(words).to_owned()),
        }
    }
}

/// The table of a seed.
pub(crate) fn table(name: String, seed: u64) -> Table {
    let mut dice = Dice::new(seed);
    let form = if dice.chance(70) { Form::VirtualService } else { Form::HttpRoute };
    let count = 2 + dice.below(5);
    let mut rules: Vec<_> = (0..count).map(|number| rule(&mut dice, form, number, &name)).collect();
    if dice.chance(60) {
        // Without conditions, so that what nobody wanted still goes somewhere.
        rules.push(Rule { matches: Vec::new(), ..rule(&mut dice, form, count, &name) });
        let last = rules.last_mut().expect("one was pushed");
        if form == Form::HttpRoute {
            whole_segments(last);
        }
    }
    let policies = policy::policies(&mut dice, &name);
    Table { name, seed, form, rules, policies }
}

fn rule(dice: &mut Dice, form: Form, number: usize, host: &str) -> Rule {
    let count = if dice.chance(70) { 1 } else { 2 };
    let mut matches: Vec<_> = (0..count).map(|_| condition(dice, form, host)).collect();
    let action = match dice.below(10) {
        0 | 1 => Action::Redirect(redirect(dice, form)),
        2 if form == Form::VirtualService => {
            Action::Respond { status: dice.pick(&[200, 418, 429]), body: format!("rule {number} says no\n") }
        }
        _ => Action::Forward { to: targets(dice, form), rewrite: rewrite(dice, form) },
    };
    let prefix_needed = match &action {
        Action::Redirect(redirect) => matches!(redirect.path, Some(Path::Prefix(_))),
        // VirtualServices take a rewrite of any match; Gateway API that of a prefix alone.
        Action::Forward { rewrite, .. } => {
            form == Form::HttpRoute && matches!(rewrite.path, Some(Path::Prefix(_)))
        }
        Action::Respond { .. } => false,
    };
    if prefix_needed {
        if form == Form::HttpRoute {
            // Or it would not be clear which prefix is meant.
            matches.truncate(1);
        }
        for one in &mut matches {
            one.path = Some(Text::Prefix(dice.path().trim_end_matches('/').to_owned()));
        }
    }
    let mut response_headers = Changes::default();
    response_headers.set.insert(crate::table::RULE.to_owned(), number.to_string());
    if dice.chance(20) {
        response_headers.add.insert("x-added".to_owned(), "by the rule".to_owned());
    }
    let forwards = matches!(action, Action::Forward { .. });
    let request_headers = if forwards && dice.chance(40) { changes(dice) } else { Changes::default() };
    let mut rule = Rule { matches, action, request_headers, response_headers };
    if form == Form::HttpRoute && !prefix_needed {
        whole_segments(&mut rule);
    }
    rule
}

/// Gateway API replaces prefixes only where every match has one.
fn whole_segments(rule: &mut Rule) {
    let path = match &mut rule.action {
        Action::Forward { rewrite, .. } => &mut rewrite.path,
        Action::Redirect(redirect) => &mut redirect.path,
        Action::Respond { .. } => return,
    };
    if matches!(path, Some(Path::Prefix(_))) {
        *path = Some(Path::Full("/full".to_owned()));
    }
}

fn condition(dice: &mut Dice, form: Form, host: &str) -> Match {
    let istio = form == Form::VirtualService;
    let mut one = Match::default();
    if dice.chance(80) {
        one.path = Some(match dice.below(5) {
            0 => Text::Regex(dice.pick(&PATH_PATTERNS).to_owned()),
            1 | 2 => Text::Prefix(if dice.chance(15) { "/".to_owned() } else { dice.path() }),
            _ => Text::Exact(dice.path()),
        });
        one.ignore_case = istio && dice.chance(20);
    }
    if dice.chance(20) {
        let patterns = ["(GET|PUT)", "P.*"];
        one.method = Some(match form {
            Form::VirtualService => dice.text(form, &METHODS, &patterns),
            Form::HttpRoute => Text::Exact(dice.pick(&METHODS).to_owned()),
        });
    }
    if dice.chance(30) {
        one.headers = named(dice, form, &HEADERS, &VALUES, &VALUE_PATTERNS);
    }
    if dice.chance(20) {
        one.query = named(dice, form, &PARAMETERS, &PARAMETER_VALUES, &VALUE_PATTERNS);
    }
    if istio && dice.chance(15) {
        one.without = named(dice, form, &HEADERS, &VALUES, &VALUE_PATTERNS);
    }
    if istio && dice.chance(10) {
        let full = format!("{host}.diff.svc.cluster.local");
        let words = [host, full.as_str(), "elsewhere.example"];
        one.authority = Some(dice.text(form, &words, &[".*[.]example", "t[0-9]+.*"]));
    }
    if istio && dice.chance(10) {
        one.port = Some(dice.pick(&PORTS));
    }
    one
}

fn named(dice: &mut Dice, form: Form, names: &[&str], words: &[&str], patterns: &[&str]) -> Vec<Named> {
    let names = dice.some(names, 2);
    let text = |dice: &mut Dice| match form {
        Form::VirtualService if dice.chance(20) => None,
        // Gateway API wants at least one character.
        Form::HttpRoute => {
            let words: Vec<_> = words.iter().copied().filter(|word| !word.is_empty()).collect();
            Some(dice.text(form, &words, patterns))
        }
        Form::VirtualService => Some(dice.text(form, words, patterns)),
    };
    names.into_iter().map(|name| (name.to_owned(), text(dice))).collect()
}

fn targets(dice: &mut Dice, form: Form) -> Vec<Target> {
    let backends = if dice.chance(65) { vec![dice.pick(&BACKENDS)] } else { dice.some(&BACKENDS, 3) };
    let several = backends.len() > 1;
    let mut targets: Vec<_> = backends
        .into_iter()
        .map(|backend| {
            let request_headers = Changes {
                set: BTreeMap::from([("x-to".to_owned(), backend.to_owned())]),
                ..Changes::default()
            };
            Target {
                backend,
                subset: form == Form::VirtualService && dice.chance(40),
                weight: if several { dice.pick(&[0, 1, 10, 30, 90]) } else { 1 },
                request_headers,
            }
        })
        .collect();
    if targets.iter().all(|target| target.weight == 0) {
        targets[0].weight = 5;
    }
    targets
}

fn rewrite(dice: &mut Dice, form: Form) -> Rewrite {
    let mut rewrite = Rewrite::default();
    if dice.chance(30) {
        rewrite.path = Some(path_change(dice, form));
    }
    if dice.chance(15) {
        rewrite.authority = Some("rewritten.example".to_owned());
    }
    rewrite
}

fn path_change(dice: &mut Dice, form: Form) -> Path {
    match dice.below(4) {
        0 if form == Form::VirtualService => {
            let pairs = [("/([a-z]+)/([a-z0-9]+)", "/\\2/\\1"), ("a", "A"), ("^/api", ""), ("[0-9]+$", "n")];
            let (pattern, substitution) = dice.pick(&pairs);
            // A path without its slash is no path; the test is not about that.
            let substitution = if pattern.starts_with('^') { "/new" } else { substitution };
            Path::Regex { pattern: pattern.to_owned(), substitution: substitution.to_owned() }
        }
        1 if form == Form::HttpRoute => Path::Full("/full/path".to_owned()),
        _ => Path::Prefix(dice.pick(&["/", "/new", "/new/", "/deep/er"]).to_owned()),
    }
}

fn redirect(dice: &mut Dice, form: Form) -> Redirect {
    let istio = form == Form::VirtualService;
    let path = dice.chance(60).then(|| match dice.below(2) {
        0 => Path::Full("/moved".to_owned()),
        _ => Path::Prefix(dice.pick(&["/", "/moved", "/moved/"]).to_owned()),
    });
    let ports = [
        RedirectPort::Unsaid,
        RedirectPort::Number(8443),
        RedirectPort::Number(80),
        RedirectPort::Number(443),
    ];
    let of_istio =
        [RedirectPort::Unsaid, RedirectPort::Number(8080), RedirectPort::OfRequest, RedirectPort::OfScheme];
    Redirect {
        scheme: dice.chance(40).then(|| dice.pick(&["http", "https"])),
        // One that changes nothing else is no redirect.
        authority: (path.is_none() || dice.chance(30)).then_some("moved.example"),
        port: if istio { dice.pick(&of_istio) } else { dice.pick(&ports) },
        path,
        status: if istio { dice.pick(&[301, 302, 303, 307, 308]) } else { dice.pick(&[301, 302]) },
    }
}

/// What is removed is neither set nor added, since the two sides order these differently.
fn changes(dice: &mut Dice) -> Changes {
    let mut changes = Changes::default();
    if dice.chance(60) {
        changes.set.insert("x-a".to_owned(), "set".to_owned());
    }
    if dice.chance(60) {
        changes.add.insert("x-user".to_owned(), "added".to_owned());
    }
    if dice.chance(40) {
        changes.remove.push("x-b".to_owned());
    }
    changes
}
