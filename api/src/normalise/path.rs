//! Paths: one spelling of each.

use std::borrow::Cow;

use crate::waypoint::PathNormalization;

/// A path in normal form, and its query as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised<'a> {
    /// The path; borrowed if it was in normal form already.
    pub path: Cow<'a, str>,
    /// What followed the first `?`.
    pub query: Option<&'a str>,
}

/// Why a path is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    Relative,
    /// It has a fragment, which clients keep to themselves.
    #[error("the path has a fragment")]
    Fragment,
    /// A control byte, or the escape of one.
    #[error("the path has a control byte")]
    Control,
    /// A byte beyond ASCII, which belongs into an escape.
    #[error("the path has a byte beyond ASCII")]
    Ascii,
    /// A percent sign that begins no escape.
    #[error("the path has a broken escape")]
    Escape,
}

/// The normal form of a request's target. Allocates only if it was not in normal form.
pub fn normalise(target: &str, how: PathNormalization) -> Result<Normalised<'_>, BadPath> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if path == "*" {
        // The whole server, of OPTIONS.
        return Ok(Normalised { path: Cow::Borrowed(path), query });
    }
    if !path.starts_with('/') {
        return Err(BadPath::Relative);
    }
    check(path, query.unwrap_or_default())?;
    let path = match how {
        PathNormalization::None => Cow::Borrowed(path),
        _ if is_normal(path, how) => Cow::Borrowed(path),
        _ => Cow::Owned(rewritten(path, how)),
    };
    Ok(Normalised { path, query })
}

/// Bytes that belong in no target. Queries are the application's; only what breaks a request apart is looked for.
fn check(path: &str, query: &str) -> Result<(), BadPath> {
    for byte in path.bytes().chain(query.bytes()) {
        match byte {
            0..=0x1f | 0x7f => return Err(BadPath::Control),
            0x80.. => return Err(BadPath::Ascii),
            b'#' => return Err(BadPath::Fragment),
            _ => {}
        }
    }
    let mut rest = path.as_bytes();
    while let Some(place) = rest.iter().position(|byte| *byte == b'%') {
        let byte = escape(&rest[place..]).ok_or(BadPath::Escape)?;
        if byte < b' ' || byte == 0x7f {
            return Err(BadPath::Control);
        }
        rest = &rest[place + 3..];
    }
    Ok(())
}

/// The byte that an escape at the start stands for.
fn escape(bytes: &[u8]) -> Option<u8> {
    let digit = |place: usize| bytes.get(place).and_then(|byte| char::from(*byte).to_digit(16));
    let value = digit(1)? * 16 + digit(2)?;
    u8::try_from(value).ok().filter(|_| bytes[0] == b'%')
}

/// Whether a look at the bytes already shows that nothing is to be done.
fn is_normal(path: &str, how: PathNormalization) -> bool {
    let merges = how != PathNormalization::Base;
    let mut last = 0;
    path.bytes().all(|byte| {
        let plain = match byte {
            b'%' | b'\\' => false,
            b'.' => last != b'/',
            b'/' => !(merges && last == b'/'),
            _ => true,
        };
        last = byte;
        plain
    })
}

fn rewritten(path: &str, how: PathNormalization) -> String {
    let decoded = decode(path, how == PathNormalization::DecodeAndMergeSlashes);
    let mut done = without_dots(&decoded);
    if how != PathNormalization::Base {
        let mut last = ' ';
        done.retain(|next| !(std::mem::replace(&mut last, next) == '/' && next == '/'));
    }
    done
}

/// Decodes what needs no escape (RFC 3986 §2.3), spells the other escapes in upper case, and turns backslashes, which
/// some servers take for slashes, into slashes.
fn decode(path: &str, slashes: bool) -> String {
    let mut done = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        let length = match (next, escape(rest.as_bytes())) {
            ('%', Some(byte)) => {
                match byte {
                    b'/' | b'\\' if slashes => done.push('/'),
                    b'-' | b'.' | b'_' | b'~' => done.push(char::from(byte)),
                    _ if byte.is_ascii_alphanumeric() => done.push(char::from(byte)),
                    _ => done.push_str(&rest[..3].to_ascii_uppercase()),
                }
                3
            }
            ('\\', _) => {
                done.push('/');
                1
            }
            _ => {
                done.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    done
}

/// Removes dot segments as RFC 3986 §5.2.4 does. Nothing leads above the root.
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => drop(segments.pop()),
            _ => {
                segments.push(part);
                continue;
            }
        }
        if last {
            // What is left names a directory.
            segments.push("");
        }
    }
    segments.iter().fold(String::with_capacity(path.len()), |mut done, segment| {
        done.push('/');
        done.push_str(segment);
        done
    })
}
