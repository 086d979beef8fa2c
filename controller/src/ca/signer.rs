//! What signs: a CA's key and certificate, and what leads from it to the roots. Whatever an administrator brings is tried out
//! before it signs for anybody.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_transport::tls::provider;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Name in the certificate that is signed to see whether others would accept it.
const PROBE: &str = "probe.invalid";

/// A CA as its administrator keeps it: PEM texts, under the names that they have in a Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// `ca-cert.pem`: the certificate that signs.
    pub certificate: String,
    /// `ca-key.pem`: its key.
    pub key: String,
    /// `cert-chain.pem`: what leads from it to a root; it may itself be in there, and the root.
    pub chain: Option<String>,
    /// `root-cert.pem`: the roots; the certificate itself, if it is one.
    pub roots: Option<String>,
}

/// A CA that signs.
pub struct Signer {
    /// The key, with what stands in certificates about their issuer.
    pub issuer: Issuer<'static, KeyPair>,
    /// What leads from a leaf to a root, each PEM: the signing certificate first, no root. Empty for a root that signs.
    pub chain: Vec<String>,
    /// All roots, PEM.
    pub roots: String,
    /// When the first of all these ends; nothing signed with it lives longer.
    pub not_after: SystemTime,
}

/// Why a CA cannot sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// A part holds nothing that can be used.
    #[error("{part}: {cause}")]
    Unusable {
        /// Which.
        part: &'static str,
        /// Why.
        cause: String,
    },
    /// Key and certificate do not belong together.
    #[error("ca-key.pem is not the key of ca-cert.pem; put the pair of one CA there")]
    Mismatch,
    /// Not a CA's.
    #[error("ca-cert.pem is not a CA certificate (basicConstraints CA:TRUE is missing); issue one that is")]
    NotAuthority,
    /// Its time is over.
    #[error("{part} expired {ago:?} ago; renew it")]
    Expired {
        /// Which.
        part: &'static str,
        /// Since when.
        ago: Duration,
    },
    /// Its time has not come.
    #[error("{part} is not valid for another {left:?}; compare the clocks")]
    NotYetValid {
        /// Which.
        part: &'static str,
        /// Until when.
        left: Duration,
    },
    /// No root, and none can be guessed.
    #[error("root-cert.pem is missing, and ca-cert.pem is not a root itself; add the root")]
    RootMissing,
    /// Nobody would accept what it signs.
    #[error(
        "certificates signed with ca-key.pem do not lead by cert-chain.pem to root-cert.pem ({0}); put every certificate between \
         them into cert-chain.pem, the signing one first"
    )]
    Chain(String),
}

/// One certificate of a PEM text.
#[derive(PartialEq)]
struct Piece {
    der: CertificateDer<'static>,
    pem: String,
}

/// From when to when a certificate is valid.
struct Life {
    from: SystemTime,
    until: SystemTime,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of every log.
        f.write_str("Parts")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer(until {:?})", self.not_after)
    }
}

impl Signer {
    /// Makes a signer of what was brought, if others would accept what it signs.
    ///
    /// # Errors
    /// When a part is missing or wrong; the text names it and what to do.
    pub fn new(parts: &Parts, now: SystemTime) -> Result<Self, SignerError> {
        let unusable = |part, cause: String| SignerError::Unusable { part, cause };
        let key = KeyPair::from_pem(&parts.key).map_err(|cause| unusable("ca-key.pem", cause.to_string()))?;
        let certificate = pieces("ca-cert.pem", &parts.certificate)?.swap_remove(0);
        let life = checked(&certificate, &key, now)?;
        let roots = roots(parts, &certificate)?;
        let between = match &parts.chain {
            Some(text) if !text.trim().is_empty() => pieces("cert-chain.pem", text)?,
            _ => Vec::new(),
        };
        let between: Vec<Piece> =
            between.into_iter().filter(|one| *one != certificate && !roots.contains(one)).collect();
        let mut not_after = life.until;
        for one in &between {
            not_after = not_after.min(in_time("cert-chain.pem", one, now)?.until);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate.der, key)
            .map_err(|cause| unusable("ca-cert.pem", cause.to_string()))?;
        let is_root = roots.contains(&certificate);
        let chain: Vec<Piece> = (!is_root).then_some(certificate).into_iter().chain(between).collect();
        try_out(&issuer, &chain, &roots, now)?;
        Ok(Self {
            issuer,
            chain: chain.into_iter().map(|one| one.pem).collect(),
            roots: roots.into_iter().map(|one| one.pem).collect(),
            not_after,
        })
    }
}

/// Every certificate of a text, at least one.
fn pieces(part: &'static str, text: &str) -> Result<Vec<Piece>, SignerError> {
    let unusable = |cause: String| SignerError::Unusable { part, cause };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = read.map_err(|cause| unusable(cause.to_string()))?;
    if all.is_empty() {
        return Err(unusable("it holds no certificate; put one there, PEM".to_owned()));
    }
    Ok(all.into_iter().map(|der| Piece { pem: pem(&der), der }).collect())
}

/// As it is told to others, without whatever else the text held.
fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: String =
        text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

fn checked(certificate: &Piece, key: &KeyPair, now: SystemTime) -> Result<Life, SignerError> {
    let (_, parsed) = X509Certificate::from_der(&certificate.der)
        .map_err(|cause| SignerError::Unusable { part: "ca-cert.pem", cause: cause.to_string() })?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(SignerError::Mismatch);
    }
    if !parsed.is_ca() {
        return Err(SignerError::NotAuthority);
    }
    in_time("ca-cert.pem", certificate, now)
}

fn in_time(part: &'static str, one: &Piece, now: SystemTime) -> Result<Life, SignerError> {
    let (_, parsed) = X509Certificate::from_der(&one.der)
        .map_err(|cause| SignerError::Unusable { part, cause: cause.to_string() })?;
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = parsed.validity();
    let life = Life { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) };
    match (now.duration_since(life.until), life.from.duration_since(now)) {
        (Ok(ago), _) => Err(SignerError::Expired { part, ago }),
        (_, Ok(left)) if !left.is_zero() => Err(SignerError::NotYetValid { part, left }),
        _ => Ok(life),
    }
}

fn roots(parts: &Parts, certificate: &Piece) -> Result<Vec<Piece>, SignerError> {
    if let Some(text) = parts.roots.as_ref().filter(|text| !text.trim().is_empty()) {
        return pieces("root-cert.pem", text);
    }
    let (_, parsed) = X509Certificate::from_der(&certificate.der)
        .map_err(|cause| SignerError::Unusable { part: "ca-cert.pem", cause: cause.to_string() })?;
    if parsed.subject() != parsed.issuer() {
        return Err(SignerError::RootMissing);
    }
    Ok(vec![Piece { der: certificate.der.clone(), pem: certificate.pem.clone() }])
}

/// Signs a certificate and verifies it as peers do.
fn try_out(
    issuer: &Issuer<'static, KeyPair>,
    chain: &[Piece],
    roots: &[Piece],
    now: SystemTime,
) -> Result<(), SignerError> {
    let broken = |cause: &dyn fmt::Display| SignerError::Chain(cause.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|cause| broken(&cause))?;
    let mut params = CertificateParams::new(vec![PROBE.to_owned()]).map_err(|cause| broken(&cause))?;
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - Duration::from_secs(1)).into();
    params.not_after = (now + Duration::from_secs(60)).into();
    let leaf = params.signed_by(&key, issuer).map_err(|cause| broken(&cause))?;
    let mut store = RootCertStore::empty();
    for root in roots {
        let unusable =
            |cause: rustls::Error| SignerError::Unusable { part: "root-cert.pem", cause: cause.to_string() };
        store.add(root.der.clone()).map_err(unusable)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
    let verifier = verifier.map_err(|cause| broken(&cause))?;
    let between: Vec<_> = chain.iter().map(|one| one.der.clone()).collect();
    let name = ServerName::try_from(PROBE).map_err(|cause| broken(&cause))?;
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let verified = verifier.verify_server_cert(leaf.der(), &between, &name, &[], now);
    verified.map(|_| ()).map_err(|cause| broken(&cause))
}

#[cfg(test)]
mod tests;
