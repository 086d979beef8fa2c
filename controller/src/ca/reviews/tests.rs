//! Who is asked about what, how often, and what counts when nobody answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;
const EXPIRES: u64 = NOW + 3_600;

/// Answers as it is told to, and counts.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<AtomicUsize>,
    says: Arc<Mutex<Option<Review>>>,
}

impl Reviewer for Server {
    fn review(&self, _: &str) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let says = self.says.lock().unwrap().clone();
        Box::pin(async move { says.ok_or_else(|| "connection refused".to_owned()) })
    }
}

impl Server {
    fn says(&self, review: Option<Review>) {
        *self.says.lock().unwrap() = review;
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    fn reviews(&self) -> Reviews {
        Reviews::new(Box::new(self.clone()), "istio-ca".to_owned(), watch::channel(None).1)
    }
}

fn genuine() -> Review {
    let extra = [("pod-name", "web-1"), ("pod-uid", "u"), ("node-name", "node-a")];
    let extra = extra.map(|(key, value)| (format!("{EXTRA}{key}"), vec![value.to_owned()]));
    Review {
        authenticated: true,
        error: String::new(),
        username: "system:serviceaccount:shop:web".to_owned(),
        audiences: vec!["istio-ca".to_owned()],
        extra: BTreeMap::from(extra),
    }
}

fn claims() -> Value {
    json!({
        "iss": "us", "aud": ["istio-ca"], "exp": EXPIRES, "sub": "system:serviceaccount:shop:web",
        "kubernetes.io": {
            "namespace": "shop", "serviceaccount": {"name": "web", "uid": "s"}, "pod": {"name": "web-1", "uid": "u"},
        },
    })
}

/// A token as it looks; who signed it is not ours to know.
fn header(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("Bearer {}.{}.sig", part(&json!({"alg": "RS256"})), part(claims))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + seconds)
}

#[tokio::test]
async fn the_api_server_says_who_calls_and_where() {
    let server = Server::default();
    server.says(Some(genuine()));
    let caller = server.reviews().verify(Some(&header(&claims())), at(0)).await.unwrap();
    assert_eq!((caller.account.to_string().as_str(), caller.pod.uid.as_str()), ("shop/web", "u"));
    assert_eq!(caller.node.as_deref(), Some("node-a"));
    assert_eq!(caller.expires, at(EXPIRES - NOW), "no leeway: the issuer's clock decides");
}

#[tokio::test]
async fn whatever_differs_from_the_token_is_refused() {
    let changed = |change: fn(&mut Review)| {
        let mut review = genuine();
        change(&mut review);
        review
    };
    let table = [
        ("not_genuine", changed(|review| review.authenticated = false)),
        ("audience", changed(|review| review.audiences.clear())),
        ("malformed", changed(|review| review.username = "system:serviceaccount:shop:other".to_owned())),
        ("malformed", changed(|review| drop(review.extra.remove(&format!("{EXTRA}pod-uid"))))),
        (
            "malformed",
            changed(|review| {
                review.extra.insert(format!("{EXTRA}pod-name"), vec!["web-2".to_owned()]);
            }),
        ),
    ];
    for (label, review) in table {
        let server = Server::default();
        server.says(Some(review.clone()));
        let refused = server.reviews().verify(Some(&header(&claims())), at(0)).await.unwrap_err();
        assert_eq!(refused.label(), format!("token_{label}"), "{review:?}");
    }
}

#[tokio::test]
async fn nonsense_is_refused_without_asking() {
    let server = Server::default();
    server.says(Some(genuine()));
    let with = |field: &str, value: Value| {
        let mut claims = claims();
        claims[field] = value;
        header(&claims)
    };
    let table = [
        ("token_missing", None),
        ("token_malformed", Some("Bearer nonsense".to_owned())),
        ("token_malformed", Some("Bearer a.b.c".to_owned())),
        ("token_malformed", Some(format!("Bearer {}", "a".repeat(20_000)))),
        ("token_audience", Some(with("aud", json!(["api"])))),
        ("token_expired", Some(with("exp", json!(NOW)))),
        ("token_not_pod_bound", Some(with("kubernetes.io", Value::Null))),
        ("token_malformed", Some(with("sub", json!("alice")))),
    ];
    let reviews = server.reviews();
    for (label, header) in table {
        assert_eq!(reviews.verify(header.as_deref(), at(0)).await.unwrap_err().label(), label, "{header:?}");
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn an_answer_counts_for_a_while_and_a_refusal_for_a_moment() {
    let server = Server::default();
    server.says(Some(genuine()));
    let (reviews, header) = (server.reviews(), header(&claims()));
    let verify = async |seconds| reviews.verify(Some(&header), at(seconds)).await.map(|_| ());
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(verify(0));
    }
    for one in all {
        assert_eq!(one.await, Ok(()));
    }
    assert_eq!(server.asked(), 1, "one question for all who come with the same token");
    assert_eq!((verify(59).await, server.asked()), (Ok(()), 0));
    // The pod was deleted: the next question tells.
    server.says(Some(Review::default()));
    assert!(verify(60).await.is_err());
    assert_eq!(server.asked(), 1);
    assert!(verify(64).await.is_err());
    assert_eq!(server.asked(), 0);
    server.says(Some(genuine()));
    assert_eq!((verify(65).await, server.asked()), (Ok(()), 1));
}

#[tokio::test]
async fn without_an_api_server_what_it_vouched_for_counts_until_the_token_ends() {
    let server = Server::default();
    server.says(Some(genuine()));
    let reviews = server.reviews();
    let known = header(&claims());
    assert!(reviews.verify(Some(&known), at(0)).await.is_ok());
    server.says(None);
    let mut other = claims();
    other["kubernetes.io"]["pod"] = json!({"name": "web-2", "uid": "u2"});
    let unknown = reviews.verify(Some(&header(&other)), at(100)).await.unwrap_err();
    assert_eq!(unknown.label(), "token_review_unavailable", "no refusal: it may ask again");
    let _ = server.asked();
    assert!(reviews.verify(Some(&known), at(101)).await.is_ok());
    assert_eq!(server.asked(), 0, "it was away a moment ago");
    assert!(reviews.verify(Some(&known), at(EXPIRES - NOW - 1)).await.is_ok());
    assert_eq!(server.asked(), 1);
    let ended = reviews.verify(Some(&known), at(EXPIRES - NOW)).await.unwrap_err();
    assert_eq!(ended.label(), "token_expired");
    // A refusal is no word that counts on.
    server.says(Some(Review::default()));
    assert!(reviews.verify(Some(&known), at(200)).await.is_err());
    server.says(None);
    let after = reviews.verify(Some(&known), at(300)).await.unwrap_err();
    assert_eq!(after.label(), "token_review_unavailable");
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_gives_way_when_it_is_old() {
    let server = Server::default();
    server.says(Some(Review::default()));
    let reviews = server.reviews();
    for number in 0..KEPT + 10 {
        let mut claims = claims();
        claims["jti"] = number.into();
        let _ = reviews.verify(Some(&header(&claims)), at(0)).await;
    }
    assert_eq!(reviews.known.lock().unwrap().len(), KEPT);
    server.says(Some(genuine()));
    assert!(reviews.verify(Some(&header(&claims())), at(10)).await.is_ok());
    assert_eq!(reviews.known.lock().unwrap().len(), 1, "old refusals are forgotten");
}

#[tokio::test]
async fn without_an_api_server_the_issuers_keys_tell_of_tokens_it_was_never_asked_about() {
    let signing = |kid: &str| {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let private = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).unwrap();
        public.common.key_id = Some(kid.to_owned());
        (private, public)
    };
    let ((private, public), (forged, _)) = (signing("k"), signing("k"));
    let signed = |key: &EncodingKey, claims: &Value| {
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
        format!("Bearer {}", jsonwebtoken::encode(&header, claims, key).unwrap())
    };
    let server = Server::default();
    let issuer = Issuer { name: "us".to_owned(), keys: JwkSet { keys: vec![public] } };
    let (_sender, issuer) = watch::channel(Some(Arc::new(issuer)));
    let reviews = Reviews::new(Box::new(server.clone()), "istio-ca".to_owned(), issuer);
    let caller = reviews.verify(Some(&signed(&private, &claims())), at(0)).await.unwrap();
    assert_eq!(caller.account.to_string(), "shop/web");
    let mut foreign = claims();
    foreign["iss"] = "them".into();
    for token in [signed(&forged, &claims()), signed(&private, &foreign), header(&claims())] {
        let refused = reviews.verify(Some(&token), at(1)).await.unwrap_err();
        assert_ne!(refused.label(), "token_review_unavailable", "{token}");
    }
    // It answers again: its word counts, not the keys'.
    server.says(Some(Review::default()));
    let refused = reviews.verify(Some(&signed(&private, &claims())), at(100)).await.unwrap_err();
    assert_eq!(refused.label(), "token_not_genuine");
}
