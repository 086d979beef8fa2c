//! Certificates and keys: what the CA's answer holds, and the request that asks for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A private key. Never printed.
#[derive(Clone)]
pub struct PrivateKey(Arc<PrivateKeyDer<'static>>);

/// A workload's certificate with its key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Leaf first, then intermediates.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// The leaf's key.
    pub key: PrivateKey,
    /// The leaf's identity.
    pub identity: Identity,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Serial number, hexadecimal with colons as tools print it.
    pub serial: String,
}

/// The certificates every chain must end in. Cheap to clone.
#[derive(Clone)]
pub struct Roots {
    certificates: Arc<[CertificateDer<'static>]>,
    store: Arc<RootCertStore>,
}

/// A key and the request for its certificate.
#[derive(Debug)]
pub struct Request {
    /// The new key.
    pub key: PrivateKey,
    /// The signing request, PEM.
    pub csr: String,
}

/// Why a certificate, key or root is unusable.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or not what was expected in it.
    #[error("{what} is not valid PEM: {cause}")]
    Pem {
        /// Which input.
        what: &'static str,
        /// What the parser said.
        cause: String,
    },
    /// The certificate could not be read.
    #[error("unreadable certificate: {0}")]
    Parse(String),
    /// The leaf names no identity of this mesh.
    #[error("the certificate has no SPIFFE identity (URI names: {0:?})")]
    NoIdentity(Vec<String>),
    /// The leaf is for somebody else than asked for.
    #[error("the certificate is for {found}, not for {asked}")]
    OtherIdentity {
        /// What it names.
        found: Identity,
        /// What was asked for.
        asked: Identity,
    },
    /// The answer holds no leaf or no root.
    #[error("no {0} in the certificate chain")]
    Missing(&'static str),
    /// The key does not belong to the leaf, or is of an unsupported kind.
    #[error("unusable key: {0}")]
    Key(String),
    /// A signing request could not be made.
    #[error("cannot make a signing request: {0}")]
    Request(String),
}

/// What a certificate says about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) uris: Vec<String>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: String,
}

impl PrivateKey {
    /// Reads a PEM key (PKCS#8, SEC1 or PKCS#1).
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map(|der| Self(Arc::new(der)))
            .map_err(|cause| CertificateError::Pem { what: "the key", cause: cause.to_string() })
    }

    /// The key in DER.
    pub fn der(&self) -> PrivateKeyDer<'static> {
        self.0.clone_key()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl Certificate {
    /// Reads a CA's answer: leaf first, then intermediates one per string, the last string holding all roots.
    pub fn from_answer(chain: &[String], key: PrivateKey) -> Result<(Self, Roots), CertificateError> {
        let [leaf_and_more @ .., roots] = chain else {
            return Err(CertificateError::Missing("root"));
        };
        let roots = Roots::from_pem(roots)?;
        Ok((Self::from_pem(&leaf_and_more.concat(), key)?, roots))
    }

    /// Reads a PEM chain, leaf first.
    pub fn from_pem(chain: &str, key: PrivateKey) -> Result<Self, CertificateError> {
        let chain = certificates("the certificate chain", chain)?;
        let leaf = chain.first().ok_or(CertificateError::Missing("leaf"))?;
        let facts = Facts::read(leaf)?;
        let identity = facts.identity().ok_or_else(|| CertificateError::NoIdentity(facts.uris.clone()))?;
        let certified = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key.0)
            .map(|signer| rustls::sign::CertifiedKey::new(chain.clone(), signer))
            .map_err(|cause| CertificateError::Key(cause.to_string()))?;
        certified.keys_match().map_err(|cause| CertificateError::Key(cause.to_string()))?;
        Ok(Self {
            key,
            identity,
            not_before: facts.not_before,
            not_after: facts.not_after,
            serial: facts.serial,
            chain: chain.into(),
        })
    }

    /// Refuses a certificate that is not the one asked for.
    pub fn must_be_for(self, asked: &Identity) -> Result<Self, CertificateError> {
        if self.identity == *asked {
            return Ok(self);
        }
        Err(CertificateError::OtherIdentity { found: self.identity, asked: asked.clone() })
    }

    /// When to renew: the middle of the validity.
    pub fn half_life(&self) -> SystemTime {
        let validity = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + validity / 2
    }

    /// Whether it may still be presented.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

impl Roots {
    /// Reads one or more PEM roots.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        Self::from_certificates(certificates("the trust bundle", pem)?)
    }

    /// All roots of several bundles.
    pub fn merged<'a>(bundles: impl IntoIterator<Item = &'a Roots>) -> Result<Self, CertificateError> {
        let mut all: Vec<_> =
            bundles.into_iter().flat_map(|bundle| bundle.certificates.iter().cloned()).collect();
        all.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        all.dedup();
        Self::from_certificates(all)
    }

    /// The roots in DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }

    fn from_certificates(certificates: Vec<CertificateDer<'static>>) -> Result<Self, CertificateError> {
        let mut store = RootCertStore::empty();
        for root in &certificates {
            store.add(root.clone()).map_err(|cause| CertificateError::Parse(cause.to_string()))?;
        }
        if store.is_empty() {
            return Err(CertificateError::Missing("root"));
        }
        Ok(Self { certificates: certificates.into(), store: Arc::new(store) })
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.certificates.len())
    }
}

impl Facts {
    /// Reads the parts of a certificate that matter to the mesh.
    pub(crate) fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|cause| CertificateError::Parse(cause.to_string()))?;
        let names =
            parsed.subject_alternative_name().map_err(|cause| CertificateError::Parse(cause.to_string()))?;
        let uris = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect();
        Ok(Self {
            uris,
            not_before: at(parsed.validity().not_before.timestamp()),
            not_after: at(parsed.validity().not_after.timestamp()),
            serial: parsed.raw_serial_as_string(),
        })
    }

    /// The first name that is an identity.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.uris.iter().find_map(|uri| uri.parse().ok())
    }
}

/// A new P-256 key and a request for `identity`: empty subject and exactly one name, a critical URI.
pub fn request(identity: &Identity) -> Result<Request, CertificateError> {
    let failed = |cause: rcgen::Error| CertificateError::Request(cause.to_string());
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let mut names = CustomExtension::from_oid_content(&[2, 5, 29, 17], uri_names(identity.uri()));
    names.set_criticality(true);
    params.custom_extensions = vec![names];
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(failed)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|cause| CertificateError::Key(cause.to_owned()))?;
    Ok(Request { key: PrivateKey(Arc::new(key)), csr })
}

/// DER of a GeneralNames sequence with one URI. rcgen writes subject names as not critical; SPIFFE wants them critical
/// where the subject is empty.
fn uri_names(uri: &str) -> Vec<u8> {
    let name = tagged(0x86, uri.as_bytes());
    tagged(0x30, &name)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, short] if short < 0x80 => out.push(short),
        [0, long] => out.extend([0x81, long]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|cause| CertificateError::Pem { what, cause: cause.to_string() })
}

fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}
