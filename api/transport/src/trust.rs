//! Who is trusted: chains end in our roots, clients are of our trust domain, servers are exactly whom we expect.

use std::fmt;
use std::sync::Arc;

use ambit_api::identity::{Identity, TrustDomain};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::certificate::{CertificateError as Unusable, Facts, Roots};

/// Which clients a server accepts: those whose identity is of one of these trust domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Our own trust domain.
    pub trust_domain: TrustDomain,
    /// Others that mean the same.
    pub aliases: Vec<TrustDomain>,
}

/// Why a peer's certificate was refused, with what it presented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Past its end.
    #[error("certificate expired{0}")]
    Expired(Presented),
    /// Before its start.
    #[error("certificate not valid yet{0}")]
    NotYetValid(Presented),
    /// Does not end in one of our roots (self-signed, or of another mesh).
    #[error("certificate from an unknown issuer{0}")]
    UnknownIssuer(Presented),
    /// An identity of a trust domain that is not ours.
    #[error("trust domain is not {ours}{presented}")]
    OtherTrustDomain {
        /// Ours.
        ours: TrustDomain,
        /// Theirs.
        presented: Presented,
    },
    /// Not whom we meant to reach.
    #[error("expected {expected:?}{presented}")]
    UnexpectedIdentity {
        /// Whom we meant.
        expected: Vec<Identity>,
        /// Who answered.
        presented: Presented,
    },
    /// No SPIFFE identity among its names.
    #[error("certificate without a SPIFFE identity{0}")]
    NoIdentity(Presented),
    /// Anything else the verifier refuses: bad signature, wrong use, unreadable.
    #[error("certificate refused: {cause}{presented}")]
    Other {
        /// What the verifier said.
        cause: String,
        /// What it saw.
        presented: Presented,
    },
}

/// The URI names a certificate carried, whether or not it was genuine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented(pub Vec<String>);

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" (no URI names)");
        }
        write!(f, " (presented {})", self.0.join(", "))
    }
}

impl Accepted {
    /// Accepts one trust domain.
    pub fn only(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, aliases: Vec::new() }
    }

    /// Whether an identity is of ours.
    pub fn accepts(&self, identity: &Identity) -> bool {
        let theirs = identity.trust_domain();
        *theirs == self.trust_domain || self.aliases.contains(theirs)
    }
}

/// Judges clients that connect to a server of the mesh.
#[derive(Debug)]
pub(crate) struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    accepted: Accepted,
}

/// Judges the server we connected to.
#[derive(Debug)]
pub(crate) struct Servers {
    chain: Arc<WebPkiServerVerifier>,
    expected: Arc<[Identity]>,
}

impl Clients {
    pub(crate) fn new(roots: &Roots, accepted: &Accepted) -> Result<Self, Unusable> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots.store(), crate::tls::provider())
            .build()
            .map_err(|cause| Unusable::Parse(cause.to_string()))?;
        Ok(Self { chain, accepted: accepted.clone() })
    }

    fn judge(&self, leaf: &CertificateDer<'_>) -> Result<(), Untrusted> {
        let facts = facts(leaf)?;
        let mut identities = facts.uris.iter().filter_map(|uri| uri.parse::<Identity>().ok()).peekable();
        let presented = || Presented(facts.uris.clone());
        if identities.peek().is_none() {
            return Err(Untrusted::NoIdentity(presented()));
        }
        // The first identity is the peer's name everywhere after this, so it is the one that must be ours.
        if identities.next().is_some_and(|identity| self.accepted.accepts(&identity)) {
            return Ok(());
        }
        Err(Untrusted::OtherTrustDomain { ours: self.accepted.trust_domain.clone(), presented: presented() })
    }
}

impl Servers {
    pub(crate) fn new(chain: Arc<WebPkiServerVerifier>, expected: Arc<[Identity]>) -> Self {
        Self { chain, expected }
    }

    fn judge(&self, leaf: &CertificateDer<'_>) -> Result<(), Untrusted> {
        let facts = facts(leaf)?;
        if facts.uris.iter().any(|uri| self.expected.iter().any(|expected| expected.uri() == uri)) {
            return Ok(());
        }
        let presented = Presented(facts.uris.clone());
        if facts.identity().is_none() {
            return Err(Untrusted::NoIdentity(presented));
        }
        Err(Untrusted::UnexpectedIdentity { expected: self.expected.to_vec(), presented })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Peers have one certificate; hints would only tell strangers about our roots.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(leaf, intermediates, now)
            .map_err(|cause| refuse(untrusted(leaf, &cause)))?;
        self.judge(leaf).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Mesh certificates carry no DNS or IP name, so the chain is verified for a placeholder and exactly the
        // complaint about that name, which webpki raises after the chain is proven, is set aside.
        match self.chain.verify_server_cert(leaf, intermediates, &placeholder(), ocsp, now) {
            Ok(_) | Err(Error::InvalidCertificate(CertificateError::NotValidForName)) => {}
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {}
            Err(cause) => return Err(refuse(untrusted(leaf, &cause))),
        }
        self.judge(leaf).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The server name of mesh connections; never sent (no SNI).
pub(crate) fn placeholder() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// Finds our own verdict inside a TLS error.
pub(crate) fn verdict(error: &Error) -> Option<Untrusted> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            cause.downcast_ref().cloned()
        }
        _ => None,
    }
}

fn refuse(untrusted: Untrusted) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(untrusted))))
}

fn facts(leaf: &CertificateDer<'_>) -> Result<Facts, Untrusted> {
    Facts::read(leaf)
        .map_err(|cause| Untrusted::Other { cause: cause.to_string(), presented: Presented::default() })
}

fn untrusted(leaf: &CertificateDer<'_>, cause: &Error) -> Untrusted {
    let presented = Presented(Facts::read(leaf).map(|facts| facts.uris).unwrap_or_default());
    match cause {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Untrusted::Expired(presented)
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Untrusted::NotYetValid(presented),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Untrusted::UnknownIssuer(presented),
        other => Untrusted::Other { cause: other.to_string(), presented },
    }
}
