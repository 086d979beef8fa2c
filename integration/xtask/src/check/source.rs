//! Rules that a look at the text settles: where `unsafe` stands, how files begin, whose paths they name.

use super::files::File;
use super::{Outcome, outcome};

/// The one file that may hold `unsafe` code.
const UNSAFE: &str = "api/transport/src/sys.rs";

/// Folders of somebody's machine, which mean nothing on another. Split, so that this file does not name them.
const MACHINE: [&str; 5] = [
    concat!("/", "work"),
    concat!("/", "tmp/t"),
    concat!("/", "tmp/brief"),
    concat!("/", "root"),
    concat!("/", "home"),
];

pub(super) fn no_unsafe(files: &[File]) -> Outcome {
    let rust: Vec<_> = files.iter().filter(|file| file.is_rust()).collect();
    let others = rust.iter().filter(|file| file.path != UNSAFE);
    let places = others.flat_map(|file| {
        let code = code_only(&file.text);
        let lines: Vec<_> =
            code.lines().enumerate().filter(|(_, line)| has_unsafe(line)).map(|(n, _)| n + 1).collect();
        lines.into_iter().map(|line| format!("{}:{line}: unsafe code belongs in {UNSAFE}", file.path))
    });
    outcome(places.collect(), format!("{} files", rust.len()))
}

pub(super) fn headers(files: &[File]) -> Outcome {
    let rust: Vec<_> = files.iter().filter(|file| file.is_rust()).collect();
    let bare = rust.iter().filter(|file| !file.text.starts_with("//! "));
    let problems =
        bare.map(|file| format!("{}: does not begin with a `//!` line that says what it is for", file.path));
    outcome(problems.collect(), format!("{} files", rust.len()))
}

pub(super) fn no_machine_paths(files: &[File]) -> Outcome {
    let mut problems = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = MACHINE.iter().find(|path| names(line, path)) {
                problems.push(format!("{}:{}: names {path} of one machine", file.path, number + 1));
            }
        }
    }
    outcome(problems, format!("{} files", files.len()))
}

/// Whether a line names that folder or something in it (and not `/workload`, `a/root` or `https://host/home`).
fn names(line: &str, path: &str) -> bool {
    let inner =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | ')' | '*' | '~');
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_none_or(|c| !inner(c));
        before && line[at + path.len()..].starts_with('/')
    })
}

/// Whether a line of code opens an unsafe item or block, or lifts the lint against it.
fn has_unsafe(line: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.split(|c| !word(c)).any(|part| matches!(part, "unsafe" | "unsafe_code"))
}

/// What a scan of Rust text is inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    Line,
    Block(usize),
    Text,
    Raw(usize),
}

/// The text with comments and string literals blanked, lines kept.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < bytes.len() {
        let (next, step) = advance(inside, &bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        let kept = inside == Inside::Code && next == Inside::Code;
        for byte in &bytes[at..(at + step).min(bytes.len())] {
            code.push(if kept || *byte == b'\n' { char::from(*byte) } else { ' ' });
        }
        (inside, at) = (next, at + step);
    }
    code
}

/// Where the scan is after the next few bytes, and how many those are.
fn advance(inside: Inside, rest: &[u8], before: Option<u8>) -> (Inside, usize) {
    match inside {
        Inside::Code => open(rest, before),
        Inside::Line => (if rest[0] == b'\n' { Inside::Code } else { inside }, 1),
        Inside::Block(depth) if rest.starts_with(b"*/") => {
            (if depth == 1 { Inside::Code } else { Inside::Block(depth - 1) }, 2)
        }
        Inside::Block(depth) if rest.starts_with(b"/*") => (Inside::Block(depth + 1), 2),
        Inside::Text if rest[0] == b'\\' => (inside, 2),
        Inside::Text if rest[0] == b'"' => (Inside::Code, 1),
        Inside::Raw(hashes) if rest[0] == b'"' && hashes_after(&rest[1..]) >= hashes => {
            (Inside::Code, 1 + hashes)
        }
        Inside::Block(_) | Inside::Text | Inside::Raw(_) => (inside, 1),
    }
}

/// What code's next bytes open, if anything.
fn open(rest: &[u8], before: Option<u8>) -> (Inside, usize) {
    let word_before = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match rest {
        [b'/', b'/', ..] => (Inside::Line, 2),
        [b'/', b'*', ..] => (Inside::Block(1), 2),
        [b'"', ..] => (Inside::Text, 1),
        // A character literal that would otherwise open a text or an escape.
        [b'\'', b'"', b'\'', ..] => (Inside::Code, 3),
        [b'\'', b'\\', _, b'\'', ..] => (Inside::Code, 4),
        [b'r', tail @ ..] if !word_before || before == Some(b'b') => {
            let hashes = hashes_after(tail);
            if tail.get(hashes) == Some(&b'"') {
                (Inside::Raw(hashes), hashes + 2)
            } else {
                (Inside::Code, 1)
            }
        }
        _ => (Inside::Code, 1),
    }
}

fn hashes_after(rest: &[u8]) -> usize {
    rest.iter().take_while(|byte| **byte == b'#').count()
}

#[cfg(test)]
mod tests;
