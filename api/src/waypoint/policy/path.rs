//! Paths as policies write them: exact, `prefix*`, `*suffix`, `*`, or a template with `{*}` and `{**}`.

use super::wildcard;
use crate::route::{Case, TextMatch};

/// One path of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// With the wildcards of every text.
    Text(TextMatch),
    /// With operators.
    Template(Template),
}

/// Literals with an operator after each but the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Each is followed by one segment.
    singles: Vec<String>,
    /// Followed by anything, if there is a `{**}`; else the end.
    last: String,
    /// What ends the path after a `{**}`.
    rest: Option<String>,
}

/// Why a text is not a path of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a path with operators: `{{*}}` and `{{**}}` stand alone in their segments, `{{**}}` last, without `*`"
)]
pub struct InvalidPath(pub String);

const ONE: &str = "{*}";
const ANY: &str = "{**}";

impl PathMatch {
    /// Reads a path.
    pub fn new(text: &str) -> Result<Self, InvalidPath> {
        if text.contains(ONE) || text.contains(ANY) {
            return Template::new(text).map(Self::Template).ok_or_else(|| InvalidPath(text.to_owned()));
        }
        Ok(Self::Text(wildcard(text)))
    }

    /// Whether it means this path.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.matches(path, Case::Sensitive),
            Self::Template(template) => template.matches(path),
        }
    }
}

impl Template {
    fn new(text: &str) -> Option<Self> {
        let mut singles = Vec::new();
        let mut literal = String::new();
        let mut rest: Option<String> = None;
        for segment in text.strip_prefix('/')?.split('/') {
            let free = rest.is_none();
            let to = rest.as_mut().unwrap_or(&mut literal);
            to.push('/');
            match segment {
                ONE if free => singles.push(std::mem::take(&mut literal)),
                ANY if free => rest = Some(String::new()),
                plain if plain.contains(['*', '{', '}']) => return None,
                plain => to.push_str(plain),
            }
        }
        Some(Self { singles, last: literal, rest })
    }

    fn matches(&self, path: &str) -> bool {
        let mut left = path;
        for literal in &self.singles {
            let Some(after) = left.strip_prefix(literal.as_str()) else { return false };
            let end = after.find('/').unwrap_or(after.len());
            if end == 0 {
                return false;
            }
            left = &after[end..];
        }
        match &self.rest {
            None => left == self.last,
            Some(rest) => {
                left.strip_prefix(self.last.as_str()).is_some_and(|left| left.ends_with(rest.as_str()))
            }
        }
    }
}
