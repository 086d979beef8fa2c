//! Weighted choices: each is chance, so shares are compared, within bounds that chance hardly ever leaves.

use std::collections::BTreeMap;

use crate::Case;
use crate::ask::Answers;
use crate::compare::{backend, rule};
use crate::support::{self, Check};

/// Standard deviations; one test in two million is further off by chance.
const BOUND: f64 = 5.0;
/// Choices that must have been made in all.
const LEAST: usize = 300;

/// Checks every rule that chooses, and all of them together.
pub(crate) fn check(cases: &[Case], answers: &Answers, whose: &str) -> Check {
    let mut counts: BTreeMap<(usize, usize), BTreeMap<&str, usize>> = BTreeMap::new();
    for (place, answers) in answers.iter().enumerate() {
        for answer in answers {
            if let (Some(number), Some(backend)) = (rule(answer), backend(answer)) {
                *counts.entry((place, number)).or_default().entry(backend).or_default() += 1;
            }
        }
    }
    let (mut choices, mut furthest) = (0, 0.0_f64);
    for ((place, number), counts) in counts {
        let table = &cases[place].table;
        let shares = table.rules.get(number).map(|rule| rule.shares()).unwrap_or_default();
        if shares.len() < 2 {
            continue;
        }
        let sum: usize = counts.values().sum();
        choices += sum;
        for (name, share) in shares {
            let (count, sum) = (counts.get(name).copied().unwrap_or(0) as f64, sum as f64);
            let deviation = (sum * share * (1.0 - share)).sqrt();
            let off = (count - sum * share).abs();
            // A few more than that come by chance where hardly any are due; where none is due, none may come.
            let bound = if share > 0.0 { BOUND * deviation + 3.0 } else { 0.0 };
            furthest = furthest.max(if deviation > 0.0 { off / deviation } else { 0.0 });
            support::check(off <= bound, || {
                format!(
                    "{whose}: {} rule {number}: {count} of {sum} to {name}, whose share is {share}",
                    table.name
                )
            })?;
        }
    }
    println!("{whose}: {choices} weighted choices, at most {furthest:.1} deviations off");
    support::check(choices >= LEAST, || format!("{whose}: only {choices} weighted choices"))
}
