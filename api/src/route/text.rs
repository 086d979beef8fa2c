//! How texts are compared: literals as they stand, and patterns compiled once within limits.

use std::borrow::Cow;
use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::wire::waypoint as wire;

/// What a compiled pattern may hold, in bytes. A user's pattern must not be able to fill a proxy's memory.
const PROGRAM_BOUND: usize = 1 << 20;

/// Whether the case of ASCII letters counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// It does.
    #[default]
    Sensitive,
    /// It does not.
    Insensitive,
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// Equal.
    Exact(String),
    /// Starts with, as it stands.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// The whole text follows the pattern.
    Regex(Pattern),
    /// Any value, as long as there is one.
    Present,
    /// A path by whole segments, without a trailing slash: `/a` matches `/a` and `/a/b`, not `/ab`.
    Segments(String),
}

/// A compiled pattern; two are equal if their texts are.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
    text: String,
}

/// What a pattern's matches are replaced by, with `\0` to `\9` for its groups and `\\` for a backslash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitution(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// Why a text cannot be compared with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing is said about how to compare.
    #[error("says nothing about how to compare")]
    Empty,
    /// The pattern does not compile within the limits.
    #[error("{text:?} is not a usable pattern: {cause}")]
    Pattern {
        /// The pattern.
        text: String,
        /// What the compiler said.
        cause: String,
    },
    /// A substitution names a group its pattern has not, or ends within an escape.
    #[error("{0:?} is not a substitution for its pattern")]
    Substitution(String),
}

impl Pattern {
    /// A pattern that must cover the whole text.
    pub fn whole(text: &str) -> Result<Self, InvalidText> {
        // The text must be a pattern by itself, or `a)|(b` would escape from the anchors.
        Self::compile(text, text)?;
        Self::compile(text, &format!(r"\A(?:{text})\z"))
    }

    /// A pattern that is looked for anywhere in the text.
    pub fn within(text: &str) -> Result<Self, InvalidText> {
        Self::compile(text, text)
    }

    fn compile(text: &str, full: &str) -> Result<Self, InvalidText> {
        let compiled =
            RegexBuilder::new(full).size_limit(PROGRAM_BOUND).dfa_size_limit(PROGRAM_BOUND).build();
        let cause =
            |cause: regex::Error| InvalidText::Pattern { text: text.to_owned(), cause: cause.to_string() };
        Ok(Self { regex: compiled.map_err(cause)?, text: text.to_owned() })
    }

    /// Whether a text follows the pattern.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Replaces every match that does not overlap an earlier one.
    pub fn replace<'t>(&self, text: &'t str, by: &Substitution) -> Cow<'t, str> {
        self.regex.replace_all(text, by)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Substitution {
    /// Reads a substitution for `pattern`.
    pub fn new(text: &str, pattern: &Pattern) -> Result<Self, InvalidText> {
        let fault = || InvalidText::Substitution(text.to_owned());
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            if next != '\\' {
                literal.push(next);
                continue;
            }
            match rest.next().ok_or_else(fault)? {
                '\\' => literal.push('\\'),
                digit => {
                    let group = digit.to_digit(10).ok_or_else(fault)? as usize;
                    if group >= pattern.regex.captures_len() {
                        return Err(fault());
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(Piece::Group(group));
                }
            }
        }
        pieces.push(Piece::Text(literal));
        Ok(Self(pieces))
    }
}

impl regex::Replacer for &Substitution {
    fn replace_append(&mut self, found: &regex::Captures<'_>, to: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => to.push_str(text),
                Piece::Group(group) => to.push_str(found.get(*group).map_or("", |group| group.as_str())),
            }
        }
    }
}

impl TextMatch {
    /// Whether `value` is what is asked for.
    pub fn matches(&self, value: &str, case: Case) -> bool {
        self.matches_bytes(value.as_bytes(), case)
    }

    /// Whether the bytes of a header are what is asked for. A pattern only follows texts.
    pub fn matches_bytes(&self, value: &[u8], case: Case) -> bool {
        let same = |one: &[u8], other: &[u8]| match case {
            Case::Sensitive => one == other,
            Case::Insensitive => one.eq_ignore_ascii_case(other),
        };
        let starts = |with: &[u8]| value.get(..with.len()).is_some_and(|start| same(start, with));
        match self {
            Self::Exact(text) => same(value, text.as_bytes()),
            Self::Prefix(text) => starts(text.as_bytes()),
            Self::Suffix(text) => {
                let start = value.len().checked_sub(text.len());
                start.is_some_and(|start| same(&value[start..], text.as_bytes()))
            }
            Self::Regex(pattern) => str::from_utf8(value).is_ok_and(|text| pattern.is_match(text)),
            Self::Present => !value.is_empty(),
            Self::Segments(text) => {
                starts(text.as_bytes()) && matches!(value.get(text.len()), None | Some(b'/'))
            }
        }
    }
}

impl TryFrom<wire::Text> for TextMatch {
    type Error = InvalidText;

    fn try_from(wire: wire::Text) -> Result<Self, InvalidText> {
        use wire::text::Kind;
        Ok(match wire.kind.ok_or(InvalidText::Empty)? {
            Kind::Exact(text) => Self::Exact(text),
            Kind::Prefix(text) => Self::Prefix(text),
            Kind::Suffix(text) => Self::Suffix(text),
            Kind::Regex(text) => Self::Regex(Pattern::whole(&text)?),
            Kind::Present(true) => Self::Present,
            Kind::Present(false) => return Err(InvalidText::Empty),
            Kind::Segments(text) => Self::Segments(text.trim_end_matches('/').to_owned()),
        })
    }
}
