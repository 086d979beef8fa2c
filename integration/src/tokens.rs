//! The lab's token issuer: Kubernetes' bound service account tokens, good ones and, for tests, bad ones.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::error::LabError;

/// Issuer named in every token.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Audience the mesh's certificate authority asks for.
pub const AUDIENCE: &str = "istio-ca";
const KEY_ID: &str = "ambit-lab";
/// What Kubernetes gives a projected token of the mesh.
const LIFETIME: i64 = 43_200;

/// An issuer with a key of its own.
pub struct Tokens {
    key: EncodingKey,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of every log.
        formatter.write_str("Tokens")
    }
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Issuer.
    pub issuer: String,
    /// Audiences.
    pub audiences: Vec<String>,
    /// Seconds from now at which it expires; negative for one that has.
    pub lifetime: i64,
    /// Namespace of the pod and its service account.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Name and UID of the pod.
    pub pod: (String, String),
    /// Name of the pod's node.
    pub node: String,
}

impl Claims {
    /// A good token's claims for this pod.
    pub fn of_pod(pod: &Value) -> Self {
        let text = |path: &[&str]| crate::manifest::text(pod, path).unwrap_or_default().to_owned();
        Claims {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            lifetime: LIFETIME,
            namespace: text(&["metadata", "namespace"]),
            service_account: text(&["spec", "serviceAccountName"]),
            pod: (text(&["metadata", "name"]), text(&["metadata", "uid"])),
            node: text(&["spec", "nodeName"]),
        }
    }

    fn body(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs() as i64);
        // An expired token was good once: it was issued before it expired.
        let issued = now.min(now + self.lifetime - 1) - 1;
        json!({
            "iss": self.issuer, "aud": self.audiences, "iat": issued, "nbf": issued, "exp": now + self.lifetime,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.service_account),
            "kubernetes.io": {
                "namespace": self.namespace,
                "node": {"name": self.node},
                "pod": {"name": self.pod.0, "uid": self.pod.1},
                "serviceaccount": {
                    "name": self.service_account,
                    "uid": account_uid(&self.namespace, &self.service_account),
                },
            },
        })
    }
}

impl Tokens {
    /// A new issuer; also of use as one that nobody trusts.
    pub fn create() -> Result<Self, LabError> {
        let failed = |error: String| LabError::Manifest(format!("making the issuer's key: {error}"));
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| failed(error.to_string()))?;
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())
            .map_err(|error| failed(error.to_string()))?;
        Ok(Tokens { key })
    }

    /// Writes the issuer's public key into a folder and returns the file.
    pub fn publish(&self, folder: &Path) -> Result<PathBuf, LabError> {
        let failed = |error: String| LabError::Manifest(format!("publishing the issuer's key: {error}"));
        let mut key =
            Jwk::from_encoding_key(&self.key, Algorithm::ES256).map_err(|error| failed(error.to_string()))?;
        key.common.key_id = Some(KEY_ID.to_owned());
        let set =
            serde_json::to_string(&JwkSet { keys: vec![key] }).map_err(|error| failed(error.to_string()))?;
        let file = folder.join("jwks.json");
        crate::manifest::write_whole(&file, &set)
            .map_err(LabError::system(format!("writing {}", file.display())))?;
        Ok(file)
    }

    /// A signed token.
    pub fn mint(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KEY_ID.to_owned());
        encode(&header, &claims.body(), &self.key).expect("a JSON map and a P-256 key can always be signed")
    }
}

/// UID of a service account the lab made.
pub(crate) fn account_uid(namespace: &str, name: &str) -> String {
    let part = crate::expand::hash(&format!("{namespace}/{name}"));
    let hex: String = part.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8000-000000000000", &hex[..8], &hex[8..12], &hex[12..15])
}

#[cfg(test)]
mod tests {
    use super::{AUDIENCE, Claims, ISSUER, Tokens};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};
    use serde_json::{Value, json};

    #[test]
    fn tokens_are_verified_by_the_published_key() {
        let folder = std::env::temp_dir().join(format!("ambit-lab-tokens-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let tokens = Tokens::create().unwrap();
        let set: JwkSet =
            serde_json::from_str(&std::fs::read_to_string(tokens.publish(&folder).unwrap()).unwrap())
                .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let key = DecodingKey::from_jwk(&set.keys[0]).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        let pod = json!({"metadata": {"name": "z", "namespace": "ambit-system", "uid": "u1"}, "spec": {"nodeName": "node-1", "serviceAccountName": "ztunnel"}});
        let good = Claims::of_pod(&pod);
        let told = decode::<Value>(tokens.mint(&good).as_bytes(), &key, &validation).unwrap().claims;
        assert_eq!(told["sub"], "system:serviceaccount:ambit-system:ztunnel");
        assert_eq!(told["kubernetes.io"]["pod"]["uid"], "u1");
        let late = Claims { lifetime: -600, ..good.clone() };
        assert!(decode::<Value>(tokens.mint(&late).as_bytes(), &key, &validation).is_err());
        let stranger = Tokens::create().unwrap().mint(&good);
        assert!(decode::<Value>(stranger.as_bytes(), &key, &validation).is_err());
    }
}
