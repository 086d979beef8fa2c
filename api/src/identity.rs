//! Who a peer is: a SPIFFE identity of the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use spiffe::SpiffeId;

#[cfg(test)]
mod tests;

/// The scheme prefix that identities carry in certificates and that principals in policies leave out.
const SCHEME: &str = "spiffe://";

/// The SPIFFE specification's limit, which keeps identities from a peer's certificate small.
const LONGEST: usize = 2048;

/// A trust domain name, for example `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// A workload identity. Cheap to clone; equality is by text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(Arc<Parts>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    uri: String,
    trust_domain: TrustDomain,
    namespace: String,
    service_account: String,
}

/// Why a text is not an identity of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The text breaks the SPIFFE rules (scheme, characters, length).
    #[error("{text:?} is not a SPIFFE ID: {cause}")]
    Spiffe {
        /// What was given.
        text: String,
        /// What the SPIFFE parser said.
        cause: String,
    },
    /// A SPIFFE ID, but not of the form `/ns/<namespace>/sa/<service account>`.
    #[error("{0:?} does not have the path /ns/<namespace>/sa/<service account>")]
    Path(String),
}

/// The SPIFFE library lowers the case of trust domains. A peer that compares texts would see two identities where we
/// see one, so we take only texts that need no change.
const NOT_NORMAL: &str = "not in its normal form";

fn spiffe_fault(text: &str, cause: impl fmt::Display) -> InvalidIdentity {
    InvalidIdentity::Spiffe { text: text.to_owned(), cause: cause.to_string() }
}

impl TrustDomain {
    /// Parses a trust domain name; characters as the SPIFFE specification allows.
    pub fn new(name: &str) -> Result<Self, InvalidIdentity> {
        let domain = spiffe::TrustDomain::new(name).map_err(|cause| spiffe_fault(name, cause))?;
        if domain.as_str() != name {
            return Err(spiffe_fault(name, NOT_NORMAL));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidIdentity;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl Default for TrustDomain {
    /// Istio's default, `cluster.local`: what a Workload without a trust domain means.
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Identity {
    /// Builds the identity of a service account.
    pub fn new(
        domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidIdentity> {
        format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The full URI, as certificates and logs carry it.
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// The text that policies compare: the URI without `spiffe://`.
    pub fn principal(&self) -> &str {
        &self.0.uri[SCHEME.len()..]
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The service account's name.
    pub fn service_account(&self) -> &str {
        &self.0.service_account
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            let start: String = text.chars().take(64).collect();
            return Err(spiffe_fault(&format!("{start}…"), format!("longer than {LONGEST} bytes")));
        }
        let id = SpiffeId::new(text).map_err(|cause| spiffe_fault(text, cause))?;
        let segments: Vec<&str> = id.path().split('/').collect();
        let ["", "ns", namespace, "sa", service_account] = segments[..] else {
            return Err(InvalidIdentity::Path(text.to_owned()));
        };
        if namespace.is_empty() || service_account.is_empty() {
            return Err(InvalidIdentity::Path(text.to_owned()));
        }
        let trust_domain = TrustDomain(id.trust_domain_name().into());
        let uri = format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}");
        if uri != text {
            return Err(spiffe_fault(text, NOT_NORMAL));
        }
        Ok(Self(Arc::new(Parts {
            uri,
            trust_domain,
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl serde::Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.uri())
    }
}

impl serde::Serialize for TrustDomain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
