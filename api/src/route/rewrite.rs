//! Paths and authorities that routes change on the way to an endpoint.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use super::outline::Outline;
use super::{HttpRule, Matched};

#[cfg(test)]
mod tests;

/// Where the path as the client sent it is kept, for logs of applications.
pub const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// A rewritten path is none that may be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRewrite {
    /// It is no path.
    #[error("{path:?} is no path")]
    NotAPath {
        /// It.
        path: String,
    },
    /// It leads elsewhere than it says: policies that judge paths would be deceived.
    #[error("{path:?} has dot segments")]
    Dots {
        /// It.
        path: String,
    },
}

/// Applies a rule's rewrite. Of two authorities a rule may name, that of its rewrite is in force.
pub fn apply(rule: &HttpRule, matched: &Matched<'_>, outline: &mut Outline) -> Result<(), BadRewrite> {
    let Some(rewrite) = &rule.rewrite else { return Ok(()) };
    if let Some(authority) = &rewrite.authority {
        outline.authority = authority.clone();
    }
    let Some(change) = &rewrite.path else { return Ok(()) };
    let old = outline.target.path();
    let new = change.apply(old, matched.prefix);
    if new == old {
        return Ok(());
    }
    let target = target(old, &new, outline.target.query())?;
    // A URI is always a sound header.
    if let Ok(original) = HeaderValue::try_from(outline.target.as_str()) {
        outline.headers.insert(ORIGINAL_PATH, original);
    }
    outline.target = target;
    Ok(())
}

fn target(old: &str, new: &str, query: Option<&str>) -> Result<PathAndQuery, BadRewrite> {
    let not_a_path = || BadRewrite::NotAPath { path: new.to_owned() };
    // A query or fragment in the new path would end the path where no policy expects it.
    if !new.starts_with('/') || new.contains(['?', '#']) {
        return Err(not_a_path());
    }
    // What arrived without dot segments was normalised, and must stay so.
    if has_dots(new) && !has_dots(old) {
        return Err(BadRewrite::Dots { path: new.to_owned() });
    }
    let whole = match query {
        Some(query) => Cow::Owned(format!("{new}?{query}")),
        None => Cow::Borrowed(new),
    };
    PathAndQuery::try_from(&*whole).map_err(|_| not_a_path())
}

/// Whether a reader could climb up from a segment: `.` or `..`, escaped or not, after either slash.
fn has_dots(path: &str) -> bool {
    path.split(['/', '\\']).any(|segment| {
        let dots = segment.as_bytes().first().is_some_and(|byte| matches!(byte, b'.' | b'%'))
            && segment.len() <= "%2e%2e".len();
        dots && matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..")
    })
}
