//! Tokens that are good, and every way in which they are not.

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::ca::claims::LEEWAY;

const NOW: u64 = 1_800_000_000;

struct Key {
    private: EncodingKey,
    kid: &'static str,
}

fn key(kid: &'static str) -> Key {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    Key { private: EncodingKey::from_ec_der(&pair.serialize_der()), kid }
}

fn jwks(keys: &[&Key]) -> JwkSet {
    let public = |key: &&Key| {
        let mut jwk = Jwk::from_encoding_key(&key.private, Algorithm::ES256).expect("public");
        jwk.common.key_id = Some(key.kid.to_owned());
        jwk
    };
    JwkSet { keys: keys.iter().map(public).collect() }
}

fn claims() -> Value {
    json!({
        "iss": "us", "aud": ["other", "istio-ca"], "exp": NOW + 600, "nbf": NOW,
        "sub": "system:serviceaccount:ambit-system:ztunnel",
        "kubernetes.io": {
            "namespace": "ambit-system", "serviceaccount": {"name": "ztunnel", "uid": "s"},
            "pod": {"name": "ztunnel-a", "uid": "u"}, "node": {"name": "node-a", "uid": "n"},
        },
    })
}

fn sign(key: &Key, claims: &Value) -> String {
    let header = Header { kid: Some(key.kid.to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, claims, &key.private).expect("signed")
}

fn expected() -> Expected {
    Expected { issuer: "us".to_owned(), audience: "istio-ca".to_owned() }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

#[test]
fn a_good_token_says_who_calls() {
    let key = key("k");
    let caller = verify(&sign(&key, &claims()), &jwks(&[&key]), &expected(), now()).expect("good");
    assert_eq!((caller.account.to_string().as_str(), caller.pod.uid.as_str()), ("ambit-system/ztunnel", "u"));
    assert_eq!(caller.node.as_deref(), Some("node-a"));
    assert_eq!(caller.expires, now() + Duration::from_secs(600) + LEEWAY);
}

#[test]
fn each_wrong_claim_is_told_apart() {
    let key = key("k");
    let keys = jwks(&[&key]);
    let table = [
        ("/aud", json!("istio-ca"), "ok"),
        ("/exp", json!(NOW - 9), "ok"),
        ("/exp", json!(NOW - 10), "token_expired"),
        ("/exp", json!(0), "token_expired"),
        ("/exp", Value::Null, "token_malformed"),
        ("/nbf", json!(NOW + 10), "ok"),
        ("/nbf", json!(NOW + 11), "token_not_yet_valid"),
        ("/iss", json!("them"), "token_issuer"),
        ("/aud", json!(["other"]), "token_audience"),
        ("/aud", json!([]), "token_audience"),
        ("/sub", json!("system:node:a"), "token_malformed"),
        ("/sub", json!("system:serviceaccount:ambit-system:other"), "token_malformed"),
        ("/kubernetes.io/namespace", json!("other"), "token_malformed"),
        ("/kubernetes.io/pod", Value::Null, "token_not_pod_bound"),
        ("/kubernetes.io/pod/uid", json!(""), "token_not_pod_bound"),
        ("/kubernetes.io", Value::Null, "token_not_pod_bound"),
        ("/kubernetes.io/node", Value::Null, "ok"),
    ];
    for (pointer, value, outcome) in table {
        let mut claims = claims();
        *claims.pointer_mut(pointer).expect("there") = value.clone();
        let found = verify(&sign(&key, &claims), &keys, &expected(), now());
        assert_eq!(
            found.as_ref().map_or_else(TokenError::label, |_| "ok"),
            outcome,
            "{pointer}={value}: {found:?}"
        );
    }
}

#[test]
fn only_the_named_key_with_its_own_algorithm_counts() {
    let (ours, other) = (key("ours"), key("other"));
    let impostor = Key { private: other.private.clone(), kid: "ours" };
    let both = jwks(&[&ours, &other]);
    let label = |token: &str, keys: &JwkSet| {
        verify(token, keys, &expected(), now()).map_or_else(|e| e.label(), |_| "ok")
    };
    assert_eq!(label(&sign(&other, &claims()), &both), "ok");
    assert_eq!(label(&sign(&other, &claims()), &jwks(&[&ours])), "token_unknown_key");
    assert_eq!(label(&sign(&impostor, &claims()), &both), "token_unknown_key");
    assert_eq!(label("", &both), "token_malformed");
    assert_eq!(label(&"x".repeat(MAX_TOKEN_BYTES + 1), &both), "token_malformed");
    // A key that everybody can read must not pass for a shared secret.
    let public = serde_json::to_vec(&both.keys[0]).expect("json");
    let header = Header { kid: Some("ours".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused =
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&public)).expect("signed");
    assert_eq!(label(&confused, &both), "token_unknown_key");
    let (_, rest) = confused.split_once('.').expect("three parts");
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoib3VycyJ9.{rest}");
    assert_eq!(label(&none, &both), "token_malformed");
}

#[test]
fn keys_are_read_again_when_they_change_and_kept_when_they_vanish() {
    let path = std::env::temp_dir().join(format!("ambit-jwks-{}.json", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let (old, new) = (key("old"), key("new-with-a-longer-name"));
    let verifier = Verifier::new(path.clone(), expected());
    let label = |key: &Key| {
        let header = format!("Bearer {}", sign(key, &claims()));
        verifier.verify(Some(&header), now()).map_or_else(|error| error.label(), |_| "ok")
    };
    let write = |keys: &str| std::fs::write(&path, keys).expect("written");
    assert_eq!(label(&old), "no_issuer_keys");
    write(&serde_json::to_string(&jwks(&[&old])).expect("json"));
    assert_eq!((label(&old), label(&new)), ("ok", "token_unknown_key"));
    write(&serde_json::to_string(&jwks(&[&new])).expect("json"));
    assert_eq!((label(&old), label(&new)), ("token_unknown_key", "ok"));
    write("{");
    assert_eq!(label(&new), "ok", "the last good keys stay in force");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(label(&new), "ok");
    for header in [None, Some(""), Some("Bearer "), Some("Basic abc")] {
        assert_eq!(verifier.verify(header, now()), Err(TokenError::Missing), "{header:?}");
    }
}
