//! Header operations of routes, on requests and answers.
//!
//! The authority is no header here: it is part of who is addressed, and [`super::rewrite`] sees to it.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};

use super::HeaderChange;

#[cfg(test)]
mod tests;

/// Sets, then adds, then removes.
pub fn change(change: &HeaderChange, headers: &mut HeaderMap) {
    for (name, value) in change.set.iter().filter(|(name, _)| is_content(name)) {
        headers.insert(name, value.clone());
    }
    for (name, value) in change.add.iter().filter(|(name, _)| is_content(name)) {
        headers.append(name, value.clone());
    }
    for name in change.remove.iter().filter(|name| is_content(name)) {
        headers.remove(name);
    }
}

/// Whether a header belongs to the message, and not to the connection it is on. Where a body ends is the proxy's to say:
/// a route that said otherwise would make two requests of one.
fn is_content(name: &HeaderName) -> bool {
    ![CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
}
