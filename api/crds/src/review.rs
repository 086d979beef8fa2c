//! What an API server says of a token that somebody presented.

use std::collections::BTreeMap;

/// The answer to a TokenReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Whether the token is genuine, in force and for the audience.
    pub authenticated: bool,
    /// Why not, in the API server's words.
    pub error: String,
    /// Whose it is, for example `system:serviceaccount:shop:web`.
    pub username: String,
    /// Which of the audiences asked for it is meant for.
    pub audiences: Vec<String>,
    /// What else is known of its bearer, as `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Review {
    /// The first value of something else that is known of the bearer.
    pub fn extra(&self, key: &str) -> Option<&str> {
        self.extra.get(key)?.first().map(String::as_str)
    }
}
