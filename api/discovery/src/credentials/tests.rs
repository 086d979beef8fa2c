//! Rotation with an issuer of the test's own.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, IsCa, KeyPair,
};
use tokio::sync::Semaphore;

use super::*;

/// Signs what the table says.
struct Table {
    key: KeyPair,
    params: CertificateParams,
    asked: Arc<AtomicUsize>,
    stuck: Arc<Semaphore>,
}

fn identity(name: &str) -> Identity {
    format!("spiffe://cluster.local/ns/a/sa/{name}").parse().expect("an identity")
}

fn table() -> Table {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Table { key, params, asked: Arc::default(), stuck: Arc::new(Semaphore::new(0)) }
}

impl Table {
    fn sign(&self, identity: &Identity, validity: Duration) -> (Certificate, Roots) {
        let request = ambit_transport::certificate::request(identity).expect("a request");
        let mut csr = CertificateSigningRequestParams::from_pem(&request.csr).expect("readable");
        csr.params.distinguished_name = DistinguishedName::new();
        let now = SystemTime::now();
        csr.params.not_before = (now - Duration::from_secs(2)).into();
        csr.params.not_after = (now - Duration::from_secs(1) + validity).into();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let leaf = csr.signed_by(&issuer).expect("signed").pem();
        let root = self.params.self_signed(&self.key).expect("a root").pem();
        Certificate::from_answer(&[leaf, root], request.key).expect("usable")
    }
}

impl Issuer for Table {
    async fn issue(&self, identity: &Identity) -> Result<(Certificate, Roots), IssueError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let day = Duration::from_secs(86_400);
        match identity.service_account() {
            "refused" => Err(IssueError::Lost),
            "stuck" => {
                let _ = self.stuck.acquire().await;
                Err(IssueError::Lost)
            }
            "another" => Ok(self.sign(&"spiffe://cluster.local/ns/a/sa/x".parse().expect("one"), day)),
            "expired" => Ok(self.sign(identity, Duration::ZERO)),
            "short" => Ok(self.sign(identity, Duration::from_secs(3))),
            _ => Ok(self.sign(identity, day)),
        }
    }
}

fn credentials() -> Credentials {
    Credentials::new(Accepted::only(ambit_api::identity::TrustDomain::default()))
}

async fn settled(mut state: watch::Receiver<State>) -> State {
    let wait = state.wait_for(|state| !matches!(state, State::Pending));
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("in time")
        .expect("not forgotten")
        .clone()
}

#[tokio::test]
async fn every_identity_gets_its_own_outcome_and_none_holds_another_back() {
    let credentials = credentials();
    let stuck = credentials.watch(&identity("stuck"));
    let states = ["refused", "another", "expired", "good"].map(|name| credentials.watch(&identity(name)));
    let table = table();
    let run = credentials.clone().run(table, std::future::pending());
    let check = async {
        let [refused, another, expired, good] = states;
        assert!(matches!(settled(refused).await, State::Failed { .. }));
        let State::Failed { reason, .. } = settled(another).await else { panic!("accepted another's") };
        assert!(reason.contains("sa/x"), "{reason}");
        let State::Failed { reason, .. } = settled(expired).await else { panic!("accepted an expired one") };
        assert!(reason.contains("not valid now"), "{reason}");
        let State::Ready(held) = settled(good).await else { panic!("refused a good one") };
        assert_eq!(held.certificate.identity, identity("good"));
        assert!(matches!(*stuck.borrow(), State::Pending));
        let dump = credentials.dump();
        let good = dump.iter().find(|one| one.identity.ends_with("/good")).expect("dumped");
        assert_eq!((good.state.as_str(), good.cert_chain.len(), good.root_certs.len()), ("Available", 1, 1));
    };
    tokio::select! { () = run => panic!("ended"), () = check => {} }
}

#[tokio::test]
async fn a_short_certificate_is_renewed_while_the_old_one_serves_and_a_forgotten_one_closes() {
    let credentials = credentials();
    let table = table();
    let asked = table.asked.clone();
    let run = credentials.clone().run(table, std::future::pending());
    let check = async {
        let mut state = credentials.watch(&identity("short"));
        let State::Ready(first) = settled(state.clone()).await else { panic!("none") };
        let renewed = |state: &State| matches!(state, State::Ready(held) if held.certificate.serial != first.certificate.serial);
        let renewed = state.wait_for(renewed);
        tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("in time").expect("renewed");
        assert!(asked.load(Ordering::SeqCst) >= 2);
        credentials.forget(&identity("short"));
        assert!(state.wait_for(|_| false).await.is_err(), "closed");
        assert!(credentials.dump().is_empty());
    };
    tokio::select! { () = run => panic!("ended"), () = check => {} }
}
