//! What the demo says about promises: each finding with the command that repeats it, and the sum at the end.

use std::time::Instant;

use super::Verdict;
use super::promise::{Finding, Promise, Sort};

/// Width of the column of words.
pub(super) const COLUMN: usize = 12;
/// Width of the text beside it.
const WIDTH: usize = 96;

/// The command that repeats a look.
pub(super) fn again(promise: Promise, on: Option<&str>) -> String {
    match on {
        Some(name) if promise.sort() != Sort::Once => {
            format!("cargo xtask lab demo --on {name} --once --only {promise}")
        }
        _ => format!("cargo xtask lab demo --once --only {promise}"),
    }
}

/// A finding, with the command that repeats it.
pub(super) fn print(finding: &Finding, again: &str) {
    let word = if finding.holds { "ok" } else { "BROKEN" };
    println!("{word:<COLUMN$}{}", finding.promise.sentence());
    for line in finding.measured.lines().flat_map(wrap) {
        println!("{:<COLUMN$}{line}", "");
    }
    println!("{:<COLUMN$}$ {again}\n", "");
}

/// A line in pieces that fit beside the words, broken between words.
fn wrap(line: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for word in line.split(' ') {
        let last = pieces.len() - 1;
        if !pieces[last].is_empty() && pieces[last].len() + 1 + word.len() > WIDTH {
            pieces.push(word.to_owned());
            continue;
        }
        // A table's columns are spaces in a row; they stay.
        if !pieces[last].is_empty() {
            pieces[last].push(' ');
        }
        pieces[last].push_str(word);
    }
    pieces
}

/// How many promises hold, or which are broken.
pub(super) fn sum_up(findings: &[Finding], start: Instant) -> Verdict {
    let seconds = start.elapsed().as_secs_f64();
    let broken: Vec<_> = findings.iter().filter(|finding| !finding.holds).collect();
    if broken.is_empty() {
        println!("{0} of {0} promises hold ({seconds:.1} s).", findings.len());
        return Verdict::Holds;
    }
    println!("{} of {} promises are BROKEN ({seconds:.1} s):", broken.len(), findings.len());
    for finding in broken {
        println!("  {:<COLUMN$}{}", finding.promise, finding.promise.sentence());
    }
    Verdict::Broken
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, wrap};

    #[test]
    fn long_lines_are_broken_between_words_and_lose_nothing() {
        for line in ["", "short", "a  table  of  columns", &"word ".repeat(60), &"x".repeat(3 * WIDTH)] {
            let pieces = wrap(line);
            assert_eq!(pieces.join(" ").replace(' ', ""), line.replace(' ', ""));
            assert!(pieces.iter().all(|piece| piece.len() <= WIDTH || !piece.contains(' ')), "{pieces:?}");
        }
        assert_eq!(wrap("a  b"), ["a  b"]);
        assert_eq!(wrap(&"word ".repeat(60)).len(), 4);
    }
}
