//! What is signed, what is not, and what a certificate holds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::BasicConstraints;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::*;
use crate::ca::grant::{Made, Rules, Waypoints, certificate, proxy};
use crate::ca::pods::{Phase, PodFact, Pods};
use crate::ca::tokens::{BoundPod, Caller};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn authority(name: &str) -> (Authority, Folder) {
    let folder = Folder(std::env::temp_dir().join(format!("ambit-authority-{name}-{}", std::process::id())));
    let _ = std::fs::remove_dir_all(&folder.0);
    (Authority::open(&folder.0, &TrustDomain::default(), SystemTime::now()).expect("a root"), folder)
}

/// A grant can only come from the rules.
fn granted() -> Granted {
    let mut pods = Pods::default();
    for (namespace, name, account) in [("ambit-system", "ztunnel-a", "ztunnel"), ("shop", "web-1", "web")] {
        pods.insert(PodFact {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
            service_account: account.to_owned(),
            node: "node-a".to_owned(),
            waypoint: None,
            phase: Phase::Live,
        });
    }
    let trusted = ["ambit-system/ztunnel".parse().expect("an account")];
    let domain = TrustDomain::default();
    let waypoints = Waypoints::new();
    let made = Made::new();
    let rules =
        Rules { trusted: &trusted, waypoints: &waypoints, made: &made, trust_domain: &domain, pods: &pods };
    let pod = BoundPod { name: "ztunnel-a".to_owned(), uid: "u".to_owned() };
    let caller = Caller { account: trusted[0].clone(), pod, node: None, expires: SystemTime::UNIX_EPOCH };
    let proxy = proxy(&caller, None, rules).expect("a proxy");
    certificate(&proxy, Some(&WEB.parse().expect("an identity")), rules).expect("granted")
}

fn csr(algorithm: &'static rcgen::SignatureAlgorithm, change: impl FnOnce(&mut CertificateParams)) -> String {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(WEB.try_into().expect("ascii"))];
    change(&mut params);
    params.serialize_request(&key).expect("a request").pem().expect("pem")
}

#[test]
fn only_a_p256_request_for_exactly_the_granted_name_is_signed() {
    let (authority, _folder) = authority("table");
    let p256 = &PKCS_ECDSA_P256_SHA256;
    let uri = |text: &str| SanType::URI(text.try_into().expect("ascii"));
    let good = csr(p256, |_| ());
    let mut forged = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(good.as_bytes())
        .expect("pem")
        .to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = pem(&forged);
    let table = [
        ("control", good, "signed"),
        ("extras are ignored", csr(p256, |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "signed"),
        ("p384", csr(&rcgen::PKCS_ECDSA_P384_SHA384, |_| ()), "csr_key_type"),
        ("ed25519", csr(&rcgen::PKCS_ED25519, |_| ()), "csr_key_type"),
        (
            "other",
            csr(p256, |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/ns/shop/sa/cart")]),
            "csr_names",
        ),
        (
            "two",
            csr(p256, |p| p.subject_alt_names.push(uri("spiffe://cluster.local/ns/shop/sa/cart"))),
            "csr_names",
        ),
        ("twice", csr(p256, |p| p.subject_alt_names.push(uri(WEB))), "csr_names"),
        (
            "dns too",
            csr(p256, |p| p.subject_alt_names.push(SanType::DnsName("web".try_into().expect("ascii")))),
            "csr_names",
        ),
        ("none", csr(p256, |p| p.subject_alt_names.clear()), "csr_names"),
        ("forged", forged, "csr_signature"),
        ("authority", csr(p256, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "csr_ca"),
        ("rubbish", "rubbish".to_owned(), "csr_malformed"),
        ("huge", "x".repeat(MAX_CSR_BYTES + 1), "csr_malformed"),
    ];
    for (name, csr, expected) in table {
        let signed = authority.sign(&csr, &granted(), None, SystemTime::now());
        assert_eq!(
            signed.as_ref().map_or_else(SignError::label, |_| "signed"),
            expected,
            "{name}: {signed:?}"
        );
    }
}

#[test]
fn a_leaf_holds_what_it_must_and_never_lives_longer_than_a_day() {
    let (authority, _folder) = authority("leaf");
    let hour = Duration::from_secs(3_600);
    let mut serials = std::collections::HashSet::new();
    for (asked, lives) in
        [(None, MAX_TTL), (Some(Duration::ZERO), MAX_TTL), (Some(hour), hour), (Some(hour * 99), MAX_TTL)]
    {
        let chain =
            authority.sign(&csr(&PKCS_ECDSA_P256_SHA256, |_| ()), &granted(), asked, SystemTime::now());
        let chain = chain.expect("signed");
        assert_eq!((chain.len(), chain[1].as_str()), (2, authority.roots()));
        let der = rustls_pki_types::CertificateDer::from_pem_slice(chain[0].as_bytes()).expect("pem");
        let (_, leaf) = X509Certificate::from_der(&der).expect("a certificate");
        let validity = leaf.validity();
        let total = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(total as u64, (lives + BACKDATED).as_secs(), "{asked:?}");
        let names = leaf.subject_alternative_name().expect("readable").expect("there");
        assert!(names.critical);
        assert!(matches!(names.value.general_names[..], [GeneralName::URI(WEB)]));
        let usage = leaf.key_usage().expect("readable").expect("there").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !leaf.is_ca());
        let usage = leaf.extended_key_usage().expect("readable").expect("there").value;
        assert!(usage.client_auth && usage.server_auth && !usage.any);
        assert!(serials.insert(leaf.raw_serial().to_vec()), "serials differ");
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}
