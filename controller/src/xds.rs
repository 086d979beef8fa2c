//! Telling proxies: delta xDS. [`session`] decides what one stream is sent (pure), [`server`] does the I/O.

pub mod metrics;
pub mod pass;
pub mod server;
pub mod session;
pub mod syncz;

use std::fmt;

use crate::snapshot::{ADDRESS, AUTHORIZATION, Resources, Snapshot};

/// The types we serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `istio.security.Authorization`.
    Authorization,
    /// `istio.workload.Address`.
    Address,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Authorization, Self::Address];

    /// Its type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Authorization => AUTHORIZATION,
            Self::Address => ADDRESS,
        }
    }

    /// The kind of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Its resources.
    pub fn of(self, snapshot: &Snapshot) -> &Resources {
        match self {
            Self::Authorization => &snapshot.authorizations,
            Self::Address => &snapshot.addresses,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorization => "Authorization",
            Self::Address => "Address",
        })
    }
}
