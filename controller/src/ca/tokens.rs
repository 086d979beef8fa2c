//! Who calls: Kubernetes' pod-bound service account tokens, verified against an issuer's public keys.
//!
//! [`verify`] is pure; [`Verifier`] keeps the key file fresh.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::claims::{Claims, claimed};

/// A longer text is no token of ours.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A larger key file is refused.
const MAX_KEYS_BYTES: u64 = 1 << 20;

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A pod, as a token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPod {
    /// Its name, in the account's namespace.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A verified caller. Whether its pod still exists is for [`super::grant`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its service account.
    pub account: Account,
    /// Its pod.
    pub pod: BoundPod,
    /// The node its token names, where the issuer writes one.
    pub node: Option<String>,
    /// When its token ends, with the leeway for clocks.
    pub expires: SystemTime,
}

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `iss`.
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
}

/// Why a token is refused. The text is for our log; the caller is told [`TokenError::public`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No `authorization: Bearer` header.
    #[error("no bearer token")]
    Missing,
    /// Not a token of the kind.
    #[error("not a service account token: {0}")]
    Malformed(String),
    /// Signed by nobody we know, or forged.
    #[error("signed by an unknown key: {0}")]
    UnknownKey(String),
    /// From somebody else.
    #[error("issued by {0:?}, not by our issuer")]
    Issuer(String),
    /// For somebody else.
    #[error("for the audience {0:?}, not for us")]
    Audience(Vec<String>),
    /// Too old.
    #[error("expired {0:?} ago")]
    Expired(Duration),
    /// Too new.
    #[error("not valid before {0:?} from now; compare the clocks")]
    NotYetValid(Duration),
    /// Not bound to a pod, so it could be anybody's copy.
    #[error("the token of {0} is not bound to a pod")]
    NotPodBound(Account),
    /// We have no keys to judge it by.
    #[error("no issuer keys are loaded: {0}")]
    NoKeys(String),
    /// The API server knows it not, or no longer.
    #[error("the API server does not take it: {0}")]
    NotGenuine(String),
    /// Nobody can say now: no refusal.
    #[error("the API server cannot be asked: {0}")]
    Unavailable(String),
}

/// Verifies tokens against a key file (JWKS) that may be replaced while we run.
#[derive(Debug)]
pub struct Verifier {
    expected: Expected,
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    stamp: Option<(SystemTime, u64)>,
    keys: Option<Arc<JwkSet>>,
    fault: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not namespace/service-account")),
        }
    }
}

impl TokenError {
    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed(_) => "token_malformed",
            Self::UnknownKey(_) => "token_unknown_key",
            Self::Issuer(_) => "token_issuer",
            Self::Audience(_) => "token_audience",
            Self::Expired(_) => "token_expired",
            Self::NotYetValid(_) => "token_not_yet_valid",
            Self::NotPodBound(_) => "token_not_pod_bound",
            Self::NoKeys(_) => "no_issuer_keys",
            Self::NotGenuine(_) => "token_not_genuine",
            Self::Unavailable(_) => "token_review_unavailable",
        }
    }

    /// What the caller may read.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Missing => "a bearer token is required",
            Self::Malformed(_) => "the token is malformed",
            Self::UnknownKey(_) => "the token is not signed by a known key",
            Self::Issuer(_) => "the token is from another issuer",
            Self::Audience(_) => "the token is for another audience",
            Self::Expired(_) => "the token has expired",
            Self::NotYetValid(_) => "the token is not valid yet",
            Self::NotPodBound(_) => "the token is not bound to a pod",
            Self::NotGenuine(_) => "the token is not, or no longer, a token of this cluster",
            Self::NoKeys(_) | Self::Unavailable(_) => "tokens cannot be verified at the moment",
        }
    }
}

impl Verifier {
    /// Reads keys from `path` when they are first needed, and whenever the file changes.
    pub fn new(path: PathBuf, expected: Expected) -> Self {
        Self { expected, path, loaded: Mutex::default() }
    }

    /// Verifies the value of an `authorization` header.
    pub fn verify(&self, header: Option<&str>, now: SystemTime) -> Result<Caller, TokenError> {
        verify(bearer(header)?, &*self.keys()?, &self.expected, now)
    }

    /// A file that became unreadable leaves the last good keys in force; none at all refuses everybody.
    fn keys(&self) -> Result<Arc<JwkSet>, TokenError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match std::fs::metadata(&self.path) {
            Ok(found) => {
                let stamp = (found.modified().unwrap_or(SystemTime::UNIX_EPOCH), found.len());
                if loaded.stamp != Some(stamp) {
                    loaded.stamp = Some(stamp);
                    match read(&self.path, found.len()) {
                        Ok(keys) => {
                            tracing::info!(path = %self.path.display(), keys = keys.keys.len(), "issuer keys loaded");
                            loaded.keys = Some(Arc::new(keys));
                        }
                        Err(fault) => {
                            tracing::error!(path = %self.path.display(), %fault, "issuer keys are unusable");
                            loaded.fault = fault;
                        }
                    }
                }
            }
            Err(cause) => loaded.fault = format!("{}: {cause}", self.path.display()),
        }
        loaded.keys.clone().ok_or_else(|| TokenError::NoKeys(loaded.fault.clone()))
    }
}

fn read(path: &std::path::Path, len: u64) -> Result<JwkSet, String> {
    if len > MAX_KEYS_BYTES {
        return Err(format!("larger than {MAX_KEYS_BYTES} bytes"));
    }
    let text = std::fs::read(path).map_err(|cause| cause.to_string())?;
    serde_json::from_slice(&text).map_err(|cause| cause.to_string())
}

/// The token in the value of an `authorization` header.
pub(super) fn bearer(header: Option<&str>) -> Result<&str, TokenError> {
    let token = header
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .ok_or(TokenError::Missing)?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed(format!("longer than {MAX_TOKEN_BYTES} bytes")));
    }
    Ok(token)
}

/// Verifies one token: signature first, then where it comes from, whom it is for, when, and whose it is.
pub fn verify(
    token: &str,
    keys: &JwkSet,
    expected: &Expected,
    now: SystemTime,
) -> Result<Caller, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed(format!("longer than {MAX_TOKEN_BYTES} bytes")));
    }
    let claims = signed(token, keys)?;
    if claims.iss != expected.issuer {
        return Err(TokenError::Issuer(claims.iss));
    }
    claimed(claims, &expected.audience, now)
}

fn signed(token: &str, keys: &JwkSet) -> Result<Claims, TokenError> {
    let malformed = |cause: jsonwebtoken::errors::Error| TokenError::Malformed(cause.to_string());
    let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
    let key = match (&header.kid, &keys.keys[..]) {
        (Some(kid), _) => keys.find(kid),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let key =
        key.ok_or_else(|| TokenError::UnknownKey(format!("kid {:?}", header.kid.as_deref().unwrap_or(""))))?;
    // The key says which algorithm verifies it; the token's word for it must agree, never decide.
    let algorithm =
        algorithm(key).ok_or_else(|| TokenError::UnknownKey("the key is neither P-256 nor RSA".into()))?;
    if header.alg != algorithm {
        return Err(TokenError::UnknownKey(format!(
            "signed with {:?}, but the key is for {algorithm:?}",
            header.alg
        )));
    }
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    let unusable = |cause: jsonwebtoken::errors::Error| TokenError::UnknownKey(cause.to_string());
    let key = DecodingKey::from_jwk(key).map_err(unusable)?;
    jsonwebtoken::decode::<Claims>(token, &key, &validation).map(|token| token.claims).map_err(|cause| {
        use jsonwebtoken::errors::ErrorKind;
        match cause.kind() {
            ErrorKind::InvalidSignature => TokenError::UnknownKey("the signature does not match".to_owned()),
            _ => malformed(cause),
        }
    })
}

fn algorithm(key: &Jwk) -> Option<Algorithm> {
    match &key.algorithm {
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            Some(Algorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
