//! Signing: the root's key, what may be in a request, and what we put into a certificate whatever the request says.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ambit_api::identity::TrustDomain;
use rand::RngCore;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::grant::Granted;
use super::keep::{BACKDATED, KeepError, Root};
use super::signer::Signer;

/// Longest validity of a leaf, and the validity where none is asked for.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3_600);

/// A larger request is not one of ours.
const MAX_CSR_BYTES: usize = 16 << 10;

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const PRIME256V1: &str = "1.2.840.10045.3.1.7";

/// Signs with our key.
pub struct Authority(Signer);

/// A server certificate of our own, with its key.
pub struct Serving {
    /// Chain, PEM.
    pub certificate: String,
    /// Key, PEM.
    pub key: String,
    /// When to make the next one.
    pub renew_at: SystemTime,
}

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not a request, or one that we do not read.
    #[error("the certificate request is malformed: {0}")]
    Malformed(String),
    /// Its signature does not match its key.
    #[error("the certificate request is not signed by its own key")]
    Signature,
    /// Not P-256.
    #[error("the key of a certificate request must be ECDSA P-256")]
    KeyType,
    /// Other names than the granted one.
    #[error("the certificate request must name exactly {expected}, and names {found:?}")]
    Names {
        /// What was granted.
        expected: String,
        /// What it names.
        found: Vec<String>,
    },
    /// It wants to be an authority.
    #[error("the certificate request asks for a CA certificate")]
    Authority,
    /// What we sign with is at its end.
    #[error("the CA's certificate has expired")]
    RootExpired,
    /// The signature could not be made.
    #[error("cannot sign: {0}")]
    Failed(String),
}

impl SignError {
    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "csr_malformed",
            Self::Signature => "csr_signature",
            Self::KeyType => "csr_key_type",
            Self::Names { .. } => "csr_names",
            Self::Authority => "csr_ca",
            Self::RootExpired => "root_expired",
            Self::Failed(_) => "signing_failed",
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority(until {:?})", self.0.not_after)
    }
}

impl Authority {
    /// With the root kept in `dir`, made on the first start.
    pub fn open(dir: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, KeepError> {
        let root = Root::load_or_create(dir, trust_domain, now)?;
        let issuer = Issuer::from_ca_cert_der(&root.der, root.key)
            .map_err(|cause| KeepError::Unusable { path: dir.to_owned(), cause: cause.to_string() })?;
        Ok(Self::new(Signer { issuer, chain: Vec::new(), roots: root.pem, not_after: root.not_after }))
    }

    /// With a key from elsewhere.
    pub fn new(signer: Signer) -> Self {
        Self(signer)
    }

    /// All roots, PEM.
    pub fn roots(&self) -> &str {
        &self.0.roots
    }

    /// Signs a leaf for what was granted: leaf first, then what leads to the roots, all roots last.
    pub fn sign(
        &self,
        csr: &str,
        granted: &Granted,
        ttl: Option<Duration>,
        now: SystemTime,
    ) -> Result<Vec<String>, SignError> {
        let request = read(csr)?;
        let expected = granted.identity().uri();
        match &request.params.subject_alt_names[..] {
            [SanType::URI(uri)] if uri.as_str() == expected => {}
            others => {
                let found = others.iter().map(|name| format!("{name:?}")).collect();
                return Err(SignError::Names { expected: expected.to_owned(), found });
            }
        }
        if matches!(request.params.is_ca, IsCa::Ca(_)) {
            return Err(SignError::Authority);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = request.params.subject_alt_names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let until = ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(MAX_TTL).min(MAX_TTL);
        let leaf = self.issue(params, &request.public_key, now, until)?;
        let chain = self.0.chain.iter().cloned();
        Ok(std::iter::once(leaf).chain(chain).chain([self.0.roots.clone()]).collect())
    }

    /// A certificate and key for our own port.
    pub fn serving(&self, names: &[String], now: SystemTime) -> Result<Serving, SignError> {
        let failed = |cause: rcgen::Error| SignError::Failed(cause.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Ambit controller");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = self.issue(params, &key, now, MAX_TTL)? + &self.0.chain.concat();
        Ok(Serving { certificate, key: key.serialize_pem(), renew_at: now + MAX_TTL / 2 })
    }

    /// What every certificate of ours has.
    fn issue(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<String, SignError> {
        if self.0.not_after <= now {
            return Err(SignError::RootExpired);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + ttl).min(self.0.not_after).into();
        let signed =
            params.signed_by(key, &self.0.issuer).map_err(|cause| SignError::Failed(cause.to_string()))?;
        Ok(signed.pem())
    }
}

/// Positive and not zero, with 126 random bits.
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn read(csr: &str) -> Result<CertificateSigningRequestParams, SignError> {
    let malformed = |cause: &dyn fmt::Display| SignError::Malformed(cause.to_string());
    if csr.len() > MAX_CSR_BYTES {
        return Err(SignError::Malformed(format!("longer than {MAX_CSR_BYTES} bytes")));
    }
    let der =
        CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).map_err(|cause| malformed(&cause))?;
    let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|cause| malformed(&cause))?;
    if !rest.is_empty() {
        return Err(SignError::Malformed("trailing bytes".to_owned()));
    }
    // The curve is a parameter of the key; the signature's algorithm alone does not tell.
    let algorithm = &parsed.certification_request_info.subject_pki.algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if algorithm.algorithm.to_id_string() != EC_PUBLIC_KEY
        || curve.is_none_or(|curve| curve.to_id_string() != PRIME256V1)
    {
        return Err(SignError::KeyType);
    }
    let request = CertificateSigningRequestParams::from_der(&der).map_err(|cause| match cause {
        rcgen::Error::InvalidCertificationRequestSignature => SignError::Signature,
        other => malformed(&other),
    })?;
    if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(SignError::KeyType);
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
