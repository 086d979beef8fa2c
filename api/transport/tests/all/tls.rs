//! Who is let in, and what is offered.

use std::time::Duration;

use ambit_api::identity::{Identity, TrustDomain};
use ambit_transport::certificate::{Certificate, PrivateKey, Roots, request};
use ambit_transport::tls::{self, TlsError};
use ambit_transport::trust::{Accepted, Untrusted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{
    End, Mesh, PATIENCE, client_identity, handshake, identity, on_a_worker, pair, self_signed,
    server_identity,
};

fn trusted(mesh: &Mesh, certificate: Certificate) -> End<'_> {
    End { certificate, roots: &mesh.roots }
}

#[test]
fn both_ends_learn_who_the_other_is() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let client = trusted(&mesh, mesh.leaf(&client_identity()));
        let server = trusted(&mesh, mesh.leaf(&server_identity()));
        let (client, server) =
            handshake(client, vec![identity("spiffe://cluster.local/ns/a/sa/b"), server_identity()], server)
                .await;
        let ((mut near, server_seen), (mut far, client_seen)) = (client.unwrap(), server.unwrap());
        assert_eq!((server_seen.identity, client_seen.identity), (server_identity(), client_identity()));
        near.write_all(b"hello").await.unwrap();
        near.flush().await.unwrap();
        let mut hello = [0; 5];
        far.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut hello).await.unwrap(), 0);
    });
}

/// A client's certificate and what the server says to it.
struct Refused {
    what: &'static str,
    certificate: fn(&Mesh) -> Certificate,
    verdict: fn(&Untrusted) -> bool,
}

#[test]
fn a_server_refuses_clients_that_are_not_of_the_mesh() {
    let cases = [
        Refused {
            what: "another trust domain",
            certificate: |mesh| mesh.leaf(&identity("spiffe://other.domain/ns/shop/sa/client")),
            verdict: |why| matches!(why, Untrusted::OtherTrustDomain { presented, .. } if presented.0 == ["spiffe://other.domain/ns/shop/sa/client"]),
        },
        Refused {
            what: "expired",
            certificate: |mesh| mesh.expired(&client_identity()),
            verdict: |why| matches!(why, Untrusted::Expired(presented) if presented.0 == [client_identity().uri()]),
        },
        Refused {
            what: "self-signed",
            certificate: |_| self_signed(&client_identity()),
            verdict: |why| matches!(why, Untrusted::UnknownIssuer(presented) if presented.0 == [client_identity().uri()]),
        },
        Refused {
            what: "another mesh",
            certificate: |_| Mesh::new().leaf(&client_identity()),
            verdict: |why| matches!(why, Untrusted::UnknownIssuer(_) | Untrusted::Other { .. }),
        },
    ];
    for case in cases {
        on_a_worker(async {
            let mesh = Mesh::new();
            let client = trusted(&mesh, (case.certificate)(&mesh));
            let server = trusted(&mesh, mesh.leaf(&server_identity()));
            let (_, server) = handshake(client, vec![server_identity()], server).await;
            match server {
                Err(TlsError::Untrusted(why)) if (case.verdict)(&why) => {}
                other => panic!("{}: {:?}", case.what, other.map(|(_, peer)| peer)),
            }
        });
    }
}

#[test]
fn an_alias_of_our_trust_domain_is_accepted() {
    let theirs = identity("spiffe://old.domain/ns/shop/sa/client");
    let mut accepted = Accepted::only(TrustDomain::default());
    assert!(!accepted.accepts(&theirs));
    accepted.aliases.push(TrustDomain::new("old.domain").unwrap());
    assert!(accepted.accepts(&theirs));
}

#[test]
fn a_client_insists_on_whom_it_expects() {
    let cases: [(&str, Vec<Identity>, bool); 4] = [
        ("nobody expected", vec![], false),
        ("somebody else", vec![identity("spiffe://cluster.local/ns/shop/sa/serve")], false),
        ("another trust domain", vec![identity("spiffe://other.domain/ns/shop/sa/server")], false),
        ("the right one", vec![server_identity()], true),
    ];
    for (what, expected, accepted) in cases {
        on_a_worker(async move {
            let mesh = Mesh::new();
            let client = trusted(&mesh, mesh.leaf(&client_identity()));
            let server = trusted(&mesh, mesh.leaf(&server_identity()));
            let (client, _) = handshake(client, expected, server).await;
            match client {
                Ok(_) if accepted => {}
                Err(TlsError::Untrusted(Untrusted::UnexpectedIdentity { presented, .. }))
                    if !accepted && presented.0 == [server_identity().uri()] => {}
                other => panic!("{what}: {:?}", other.map(|(_, peer)| peer)),
            }
        });
    }
}

#[test]
fn a_client_refuses_expired_and_self_signed_servers() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let client = || trusted(&mesh, mesh.leaf(&client_identity()));
        let expected = || vec![server_identity()];
        let expired = trusted(&mesh, mesh.expired(&server_identity()));
        let (outcome, _) = handshake(client(), expected(), expired).await;
        assert!(matches!(outcome, Err(TlsError::Untrusted(Untrusted::Expired(_)))));
        let forged = trusted(&mesh, self_signed(&server_identity()));
        let (outcome, _) = handshake(client(), expected(), forged).await;
        assert!(matches!(outcome, Err(TlsError::Untrusted(Untrusted::UnknownIssuer(_)))));
    });
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let (near, far) = pair().await;
        let accepted = Accepted::only(TrustDomain::default());
        let server = tls::server_config(&mesh.leaf(&server_identity()), &mesh.roots, &accepted).unwrap();
        let client = tls::plain_client_config(&mesh.roots).unwrap();
        let connector = tokio_rustls::TlsConnector::from(client);
        let name = rustls_pki_types::ServerName::try_from("server").unwrap();
        let (_, server) = tokio::join!(connector.connect(name, near), tls::accept(far, server, PATIENCE));
        assert!(matches!(server, Err(TlsError::NoClientCertificate | TlsError::Handshake(_))));
    });
}

#[test]
fn a_silent_client_is_not_waited_for() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let (_near, far) = pair().await;
        let accepted = Accepted::only(TrustDomain::default());
        let server = tls::server_config(&mesh.leaf(&server_identity()), &mesh.roots, &accepted).unwrap();
        let outcome = tls::accept(far, server, Duration::from_millis(50)).await;
        assert!(matches!(outcome, Err(TlsError::TimedOut(_))));
    });
}

#[test]
fn the_client_offers_post_quantum_key_exchange_first_and_no_name() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let (near, mut far) = pair().await;
        let client = tls::client_config(&mesh.leaf(&client_identity()), &mesh.roots).unwrap();
        let client =
            tls::connect(near, client.expecting([server_identity()].into()), Duration::from_millis(200));
        let hello = async {
            let mut hello = vec![0; 5];
            far.read_exact(&mut hello).await.unwrap();
            let length = u16::from_be_bytes([hello[3], hello[4]]);
            hello.resize(5 + usize::from(length), 0);
            far.read_exact(&mut hello[5..]).await.unwrap();
            hello
        };
        let (_, hello) = tokio::join!(client, hello);
        let groups = extension(&hello, 10).expect("supported_groups");
        assert_eq!(groups, [0, 4, 0x11, 0xec, 0, 0x1d], "X25519MLKEM768, then X25519, nothing else");
        assert_eq!(extension(&hello, 43), Some(vec![2, 3, 4]), "TLS 1.3 alone");
        assert_eq!(extension(&hello, 16), Some(b"\0\x03\x02h2".to_vec()), "ALPN h2");
        assert_eq!(extension(&hello, 0), None, "no SNI");
        assert_eq!(suites(&hello), [0x1302, 0x1301], "AES-256-GCM, then AES-128-GCM");
    });
}

/// Offset behind record and handshake heads, version, random and session id.
fn after_session(hello: &[u8]) -> usize {
    let session = 5 + 4 + 2 + 32;
    session + 1 + usize::from(hello[session])
}

fn suites(hello: &[u8]) -> Vec<u16> {
    let start = after_session(hello);
    let length = usize::from(u16::from_be_bytes([hello[start], hello[start + 1]]));
    let suites =
        hello[start + 2..start + 2 + length].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    // The renegotiation signal is not a suite.
    suites.filter(|suite| *suite != 0x00ff).collect()
}

fn extension(hello: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let start = after_session(hello);
    let suites = usize::from(u16::from_be_bytes([hello[start], hello[start + 1]]));
    let mut rest = &hello[start + 2 + suites + 2 + 2..];
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_be_bytes([c, d]));
        if u16::from_be_bytes([a, b]) == wanted {
            return Some(rest[4..4 + length].to_vec());
        }
        rest = &rest[4 + length..];
    }
    None
}

#[test]
fn a_request_names_exactly_the_identity_and_nothing_else() {
    let made = request(&client_identity()).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(made.csr.as_bytes()).unwrap();
    let (_, csr) =
        <x509_parser::certification_request::X509CertificationRequest<'_> as x509_parser::prelude::FromDer<
            _,
        >>::from_der(&pem.contents)
        .unwrap();
    assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
    let extensions: Vec<_> = csr.requested_extensions().unwrap().collect();
    let [x509_parser::extensions::ParsedExtension::SubjectAlternativeName(names)] = extensions[..] else {
        panic!("{extensions:?}");
    };
    let names: Vec<_> = names.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(names, [format!("URI({})", client_identity())]);
    // OID 2.5.29.17 followed by TRUE: critical.
    assert!(pem.contents.windows(8).any(|bytes| bytes == [6, 3, 0x55, 0x1d, 0x11, 1, 1, 0xff]));
}

#[test]
fn a_certificate_is_checked_against_key_and_identity() {
    let mesh = Mesh::new();
    let certificate =
        mesh.leaf_between(&client_identity(), Duration::from_secs(100), Duration::from_secs(300));
    let half = certificate.half_life().duration_since(certificate.not_before).unwrap();
    assert_eq!(half.as_secs(), 200);
    assert!(certificate.clone().must_be_for(&client_identity()).is_ok());
    assert!(certificate.clone().must_be_for(&server_identity()).is_err());
    assert!(Certificate::from_answer(&[], certificate.key.clone()).is_err());
    assert!(Roots::from_pem("").is_err());
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let own = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::default();
    let nameless = params.self_signed(&own).unwrap().pem();
    assert!(Certificate::from_pem(&nameless, PrivateKey::from_pem(&own.serialize_pem()).unwrap()).is_err());
    assert!(Certificate::from_pem(&nameless, PrivateKey::from_pem(&other).unwrap()).is_err());
}
