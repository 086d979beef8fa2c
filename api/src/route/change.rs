//! What rules do to paths and addresses.

use std::borrow::Cow;

use super::{PathChange, Redirect, RedirectPort, Request};
use crate::normalise;

impl PathChange {
    /// The new path, without its query. `prefix` is how much of `path` was matched.
    pub fn apply<'p>(&'p self, path: &'p str, prefix: usize) -> Cow<'p, str> {
        match self {
            Self::Prefix(by) => Cow::Owned([by, path.get(prefix..).unwrap_or_default()].concat()),
            Self::Segments(by) => segments(by, path, prefix),
            Self::Full(by) => Cow::Borrowed(by),
            Self::Regex { pattern, substitution } => pattern.replace(path, substitution),
        }
    }
}

/// `/` as prefix or replacement is no segment at all, so that slashes neither double nor vanish.
fn segments<'p>(by: &'p str, path: &'p str, prefix: usize) -> Cow<'p, str> {
    let (matched, rest) = path.split_at_checked(prefix).unwrap_or((path, ""));
    let rest = if matched.ends_with('/') { &path[matched.len() - 1..] } else { rest };
    match [by.trim_end_matches('/'), rest].concat() {
        empty if empty.is_empty() => Cow::Borrowed("/"),
        path => Cow::Owned(path),
    }
}

impl Redirect {
    /// The `Location` a request is sent to.
    pub fn location(&self, request: &Request<'_>, prefix: usize) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let path = self
            .path
            .as_ref()
            .map_or(Cow::Borrowed(request.path), |change| change.apply(request.path, prefix));
        let mut location = format!("{scheme}://{}", self.host(request, scheme));
        if !path.starts_with('/') {
            location.push('/');
        }
        location.push_str(&path);
        if let Some(query) = request.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }

    /// Host and port, without a port that the scheme means anyway.
    fn host(&self, request: &Request<'_>, scheme: &str) -> String {
        let given = self.authority.as_deref().unwrap_or(request.authority);
        let bare = normalise::host(given);
        let own = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        // A port that the route itself wrote into its authority is meant.
        let written = self.authority.as_deref().and_then(|given| given[bare.len()..].strip_prefix(':'));
        let port = match self.port {
            RedirectPort::Number(port) => Some(port.get()),
            RedirectPort::Request | RedirectPort::Scheme if written.is_some() => {
                written.and_then(|port| port.parse().ok())
            }
            RedirectPort::Request => Some(request.port),
            RedirectPort::Scheme => None,
        };
        match port.filter(|port| Some(*port) != own) {
            Some(port) => format!("{bare}:{port}"),
            None => bare.to_owned(),
        }
    }
}
