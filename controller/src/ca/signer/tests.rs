//! CAs as administrators bring them, good ones and every way in which they are not.

use rcgen::{BasicConstraints, DnType, KeyUsagePurpose};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Signing certificate, what is said to lead on, roots; how long the chain is that goes along, and how many roots.
type Case<'a> = (&'a Made, Vec<&'a Made>, Vec<&'a Made>, usize, usize);

/// A CA made for a test.
struct Made {
    key: String,
    certificate: String,
}

fn params(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * 30).into();
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A CA, signed by itself or by another.
fn made(name: &str, by: Option<&Made>, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let (key, mut params) = (key(), params(name, SystemTime::now()));
    change(&mut params);
    let certificate = match by {
        None => params.self_signed(&key).unwrap(),
        Some(by) => {
            let der = CertificateDer::from_pem_slice(by.certificate.as_bytes()).unwrap();
            let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(&by.key).unwrap()).unwrap();
            params.signed_by(&key, &issuer).unwrap()
        }
    };
    Made { key: key.serialize_pem(), certificate: certificate.pem() }
}

fn root(name: &str) -> Made {
    made(name, None, |_| ())
}

fn parts(ca: &Made, chain: &[&Made], roots: &[&Made]) -> Parts {
    let joined = |all: &[&Made]| {
        let text: String = all.iter().map(|one| one.certificate.as_str()).collect();
        (!text.is_empty()).then_some(text)
    };
    Parts {
        certificate: ca.certificate.clone(),
        key: ca.key.clone(),
        chain: joined(chain),
        roots: joined(roots),
    }
}

fn signer(parts: &Parts) -> Result<Signer, SignerError> {
    Signer::new(parts, SystemTime::now())
}

#[test]
fn a_root_or_an_intermediate_signs_and_its_chain_goes_along() {
    let (root, other) = (root("root"), root("next root"));
    let upper = made("upper", Some(&root), |_| ());
    let lower = made("lower", Some(&upper), |_| ());
    let table: [Case<'_>; 6] = [
        (&root, vec![], vec![], 0, 1),
        (&root, vec![&root], vec![&root], 0, 1),
        (&root, vec![], vec![&other, &root], 0, 2),
        (&upper, vec![], vec![&root], 1, 1),
        (&upper, vec![&upper, &root], vec![&root], 1, 1),
        (&lower, vec![&lower, &upper, &root], vec![&root, &other], 2, 2),
    ];
    for (at, (ca, chain, roots, length, count)) in table.into_iter().enumerate() {
        let made = signer(&parts(ca, &chain, &roots)).unwrap_or_else(|why| panic!("{at}: {why}"));
        assert_eq!((made.chain.len(), made.roots.matches("BEGIN").count()), (length, count), "{at}");
    }
}

#[test]
fn what_nobody_would_accept_does_not_sign_and_the_text_says_why() {
    let (root, other) = (root("root"), root("other"));
    let upper = made("upper", Some(&root), |_| ());
    let lower = made("lower", Some(&upper), |_| ());
    let plain = made("plain", None, |params| params.is_ca = IsCa::ExplicitNoCa);
    let old = made("old", None, |params| params.not_after = (SystemTime::now() - DAY / 2).into());
    let early = made("early", None, |params| params.not_before = (SystemTime::now() + DAY).into());
    let stale = made("stale", Some(&root), |params| params.not_after = (SystemTime::now() - DAY / 2).into());
    let below = made("below", Some(&stale), |_| ());
    let mixed = Made { key: other.key.clone(), certificate: root.certificate.clone() };
    let table = [
        ("another's key", parts(&mixed, &[], &[]), "is not the key of ca-cert.pem"),
        ("no CA", parts(&plain, &[], &[]), "is not a CA certificate"),
        ("past", parts(&old, &[], &[]), "ca-cert.pem expired"),
        ("future", parts(&early, &[], &[]), "ca-cert.pem is not valid for another"),
        ("a step that is past", parts(&below, &[&stale], &[&root]), "cert-chain.pem expired"),
        ("no root", parts(&upper, &[], &[]), "root-cert.pem is missing"),
        ("another root", parts(&upper, &[], &[&other]), "do not lead by cert-chain.pem to root-cert.pem"),
        ("a step is missing", parts(&lower, &[], &[&root]), "do not lead by cert-chain.pem to root-cert.pem"),
        ("no key", Parts { key: "none".to_owned(), ..parts(&root, &[], &[]) }, "ca-key.pem"),
        (
            "no certificate",
            Parts { certificate: String::new(), ..parts(&root, &[], &[]) },
            "ca-cert.pem: it holds no",
        ),
    ];
    for (what, parts, expected) in table {
        let text = signer(&parts).err().unwrap_or_else(|| panic!("{what} signs")).to_string();
        assert!(text.contains(expected), "{what}: {text}");
    }
}

#[test]
fn nothing_that_is_signed_outlives_what_vouches_for_it() {
    let root = root("root");
    let soon = SystemTime::now() + DAY;
    let upper = made("upper", Some(&root), |params| params.not_after = soon.into());
    let lower = made("lower", Some(&upper), |_| ());
    let signer = signer(&parts(&lower, &[&upper], &[&root])).unwrap();
    assert!(signer.not_after <= soon, "{:?}", signer.not_after);
}

#[test]
fn keys_in_the_forms_of_openssl_are_read() {
    // openssl genrsa, openssl ecparam -genkey and openssl genpkey write three forms.
    let forms = [
        ("rsa-pkcs1", include_str!("testdata/rsa-pkcs1.pem"), include_str!("testdata/rsa-cert.pem")),
        ("ec-sec1", include_str!("testdata/ec-sec1.pem"), include_str!("testdata/ec-cert.pem")),
    ];
    for (name, key, certificate) in forms {
        let parts =
            Parts { certificate: certificate.to_owned(), key: key.to_owned(), chain: None, roots: None };
        if let Err(why) = signer(&parts) {
            panic!("{name}: {why}");
        }
    }
}
