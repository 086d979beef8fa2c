//! What a token says of its bearer, whoever vouches for it. Pure.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::tokens::{Account, BoundPod, Caller, TokenError};

/// Clocks of issuer and controller may differ by this.
pub(super) const LEEWAY: Duration = Duration::from_secs(10);

/// No token lives to the year 9999.
const FAR: Duration = Duration::from_secs(250_000_000_000);

/// The part that we read.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    #[serde(default)]
    aud: Audiences,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    sub: String,
    #[serde(rename = "kubernetes.io", default)]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    Many(Vec<String>),
    One(String),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: NameOnly,
    pod: Option<NameAndUid>,
    node: Option<NameOnly>,
}

#[derive(Deserialize)]
struct NameOnly {
    name: String,
}

#[derive(Deserialize)]
struct NameAndUid {
    name: String,
    uid: String,
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Whose a token claims to be; whether it is genuine is for others to say. One that is past its end, or meant for others by its
/// own word, is nobody's.
pub(super) fn unverified(token: &str, audience: &str, now: SystemTime) -> Result<Caller, TokenError> {
    let body = token.split('.').nth(1).ok_or_else(|| TokenError::Malformed("it has no parts".to_owned()))?;
    let body = URL_SAFE_NO_PAD.decode(body).map_err(|cause| TokenError::Malformed(cause.to_string()))?;
    let claims: Claims =
        serde_json::from_slice(&body).map_err(|cause| TokenError::Malformed(cause.to_string()))?;
    let caller = claimed(claims, audience, now)?;
    // Its issuer's clock decides, which is the clock of whoever is asked.
    let expires = caller.expires - LEEWAY;
    match now.duration_since(expires) {
        Ok(since) => Err(TokenError::Expired(since)),
        Err(_) => Ok(Caller { expires, ..caller }),
    }
}

/// What a token says, if it says it to us and now.
pub(super) fn claimed(claims: Claims, audience: &str, now: SystemTime) -> Result<Caller, TokenError> {
    let audiences = match claims.aud {
        Audiences::Many(many) => many,
        Audiences::One(one) => vec![one],
    };
    if !audiences.iter().any(|one| one == audience) {
        return Err(TokenError::Audience(audiences));
    }
    in_time(claims.exp, claims.nbf, now)?;
    // Far enough away for anybody, where the claim is beyond what a clock can show.
    let expires = Duration::try_from_secs_f64(claims.exp).unwrap_or(FAR) + LEEWAY;
    whose(&claims.sub, claims.kubernetes, SystemTime::UNIX_EPOCH + expires.min(FAR))
}

fn in_time(exp: f64, nbf: Option<f64>, now: SystemTime) -> Result<(), TokenError> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let leeway = LEEWAY.as_secs_f64();
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX);
    if exp.is_nan() || exp + leeway <= now {
        return Err(TokenError::Expired(span(now - exp)));
    }
    match nbf {
        Some(nbf) if nbf.is_nan() || nbf - leeway > now => Err(TokenError::NotYetValid(span(nbf - now))),
        _ => Ok(()),
    }
}

/// Subject and Kubernetes' own claims must say the same.
fn whose(subject: &str, kubernetes: Option<Kubernetes>, expires: SystemTime) -> Result<Caller, TokenError> {
    let account = subject
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .map(|(namespace, name)| Account { namespace: namespace.to_owned(), name: name.to_owned() })
        .ok_or_else(|| TokenError::Malformed(format!("subject {subject:?} is no service account")))?;
    let Some(claims) = kubernetes else {
        return Err(TokenError::NotPodBound(account));
    };
    if (&claims.namespace, &claims.serviceaccount.name) != (&account.namespace, &account.name) {
        return Err(TokenError::Malformed(format!("subject {account} and the bound account differ")));
    }
    match claims.pod {
        Some(pod) if !pod.uid.is_empty() => Ok(Caller {
            account,
            pod: BoundPod { name: pod.name, uid: pod.uid },
            node: claims.node.map(|node| node.name),
            expires,
        }),
        _ => Err(TokenError::NotPodBound(account)),
    }
}
