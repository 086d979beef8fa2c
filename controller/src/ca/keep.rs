//! The root's key and certificate on disk: made once, then kept. A doubtful state is an error, never a new root, since a
//! new root would cut every proxy off.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ambit_api::identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

const CERTIFICATE: &str = "root-cert.pem";
const KEY: &str = "root-key.pem";

/// Validity of a new root: ten years.
const VALIDITY: Duration = Duration::from_secs(3_650 * 86_400);

/// Certificates start a little in the past, for clocks that are behind.
pub const BACKDATED: Duration = Duration::from_secs(120);

/// The root.
pub struct Root {
    /// The key.
    pub key: KeyPair,
    /// The certificate, PEM.
    pub pem: String,
    /// The certificate, DER.
    pub der: CertificateDer<'static>,
    /// Its end; nothing signed with it lives longer.
    pub not_after: SystemTime,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Others may read the key, or write beside it.
    #[error("{path} has mode {mode:04o}, which lets others {what}; run: chmod {mend} {path}")]
    Permissions {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What they could do.
        what: &'static str,
        /// The mode it should have.
        mend: &'static str,
    },
    /// Key or certificate cannot be used.
    #[error("{path} is unusable: {cause}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A certificate without its key.
    #[error(
        "{certificate} exists, but its key {key} does not; restore the key, or remove both to start a new trust domain"
    )]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// They do not belong together.
    #[error("{key} is not the key of {certificate}; restore the pair from one backup")]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

impl Root {
    /// Loads the root from `dir`, or makes it where there is none.
    pub fn load_or_create(
        dir: &Path,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, KeepError> {
        if !dir.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|cause| at(dir, cause))?;
        }
        refuse_modes(dir, 0o022, "replace the key", "0700")?;
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        if !key.exists() {
            if certificate.exists() {
                return Err(KeepError::KeyMissing { certificate, key });
            }
            let new = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                .map_err(|cause| unusable(&key, cause))?;
            write_once(&key, &new.serialize_pem(), 0o600)?;
        }
        refuse_modes(&key, 0o077, "read or change the key", "0600")?;
        let text = fs::read_to_string(&key).map_err(|cause| at(&key, cause))?;
        let pair = KeyPair::from_pem(&text).map_err(|cause| unusable(&key, cause))?;
        if !certificate.exists() {
            // Also after a crash between the two files: a root that nobody has seen may be made again from its key.
            let pem = self_signed(&pair, trust_domain, now).map_err(|cause| unusable(&certificate, cause))?;
            write_once(&certificate, &pem, 0o644)?;
        }
        let pem = fs::read_to_string(&certificate).map_err(|cause| at(&certificate, cause))?;
        check(pem, pair, &certificate, &key)
    }
}

/// A key must sign, and belong to the certificate; the certificate must be a CA's.
fn check(pem: String, pair: KeyPair, certificate: &Path, key: &Path) -> Result<Root, KeepError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|cause| unusable(certificate, cause))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|cause| unusable(certificate, cause))?;
    if parsed.public_key().raw != pair.subject_public_key_info() {
        return Err(KeepError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() });
    }
    if !parsed.is_ca() {
        return Err(unusable(certificate, "it is not a CA certificate"));
    }
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(not_after);
    Ok(Root { key: pair, pem, der, not_after })
}

/// A new root's certificate, PEM.
pub(crate) fn self_signed(
    key: &KeyPair,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    params.distinguished_name.push(DnType::CommonName, "Ambit root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + VALIDITY).into();
    params.self_signed(key).map(|certificate| certificate.pem())
}

/// Whole or not at all, and never over what another process wrote first.
fn write_once(path: &Path, text: &str, mode: u32) -> Result<(), KeepError> {
    let temporary = path.with_extension(format!("new.{}", std::process::id()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        // The process's umask may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    })();
    let _ = fs::remove_file(&temporary);
    written.map_err(|cause| at(path, cause))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|cause| at(dir, cause))
}

fn refuse_modes(
    path: &Path,
    forbidden: u32,
    what: &'static str,
    mend: &'static str,
) -> Result<(), KeepError> {
    let mode = fs::metadata(path).map_err(|cause| at(path, cause))?.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeepError::Permissions { path: path.to_owned(), mode, what, mend });
    }
    Ok(())
}

fn at(path: &Path, cause: io::Error) -> KeepError {
    KeepError::Io { path: path.to_owned(), cause }
}

fn unusable(path: &Path, cause: impl ToString) -> KeepError {
    KeepError::Unusable { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests;
