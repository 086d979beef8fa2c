//! The checked-in list of exceptions: each has a reason, and none may outlive its need.

use std::path::Path;

use crate::run::Failure;

/// Where the list stands.
const LIST: &str = "integration/xtask/exceptions.txt";

/// What is excused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Exceptions {
    /// Files over the budget: path and the lines they may have.
    pub(crate) lines: Vec<(String, usize)>,
    /// Crates that are banned but cannot go yet.
    pub(crate) crates: Vec<String>,
}

impl Exceptions {
    pub(crate) fn read(root: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(root.join(LIST)).map_err(|error| Failure::new(LIST, error))?;
        Self::parse(&text).map_err(|problem| Failure::new(LIST, problem))
    }

    /// `lines PATH LIMIT REASON…` or `crate NAME REASON…`, one a line.
    fn parse(text: &str) -> Result<Self, String> {
        let mut exceptions = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["lines", path, limit, _, ..] => {
                    let limit = limit.parse().map_err(|_| format!("{line:?}: {limit:?} is no number"))?;
                    exceptions.lines.push(((*path).to_owned(), limit));
                }
                ["crate", name, _, ..] => exceptions.crates.push((*name).to_owned()),
                _ => {
                    return Err(format!(
                        "{line:?} is neither `lines PATH LIMIT REASON` nor `crate NAME REASON`"
                    ));
                }
            }
        }
        Ok(exceptions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_and_a_reason_is_required() {
        let text = "# comment\n\nlines a/b.rs 450 one table\ncrate ring listed, never built\n";
        let expected =
            Exceptions { lines: vec![("a/b.rs".to_owned(), 450)], crates: vec!["ring".to_owned()] };
        assert_eq!(Exceptions::parse(text), Ok(expected));
        for text in ["lines a/b.rs 450", "lines a/b.rs many reason", "crate ring", "file a b c"] {
            assert!(Exceptions::parse(text).is_err(), "{text}");
        }
    }
}
