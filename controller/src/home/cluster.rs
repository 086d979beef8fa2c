//! The controller in a cluster: one of several replicas, of which one leads.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_api::identity::TrustDomain;
use ambit_crds::kubernetes::kube::Client;
use ambit_crds::kubernetes::lease::{self, Candidacy, Terms};
use ambit_crds::kubernetes::roots::Roots;
use ambit_crds::kubernetes::secrets::{self, Data};
use ambit_crds::kubernetes::upkeep::Upkeep;
use ambit_crds::kubernetes::{self, KubernetesSource, tokens};
use ambit_crds::origin::View;
use ambit_crds::source::{Source, Started};
use ambit_process::backoff::Backoff;
use ambit_process::spawn::spawn;
use rcgen::KeyPair;
use tokio::sync::watch;

use super::{CaError, Trusting};
use crate::ca::keep;
use crate::ca::reviews::{Answer, Issuer, Reviewer, Reviews};
use crate::ca::signer::{Parts, Signer, SignerError};
use crate::settings::Settings;

/// The CA that an administrator brings, if there is one.
const BROUGHT: &str = "cacerts";

/// The CA that we make otherwise.
const OWN: &str = "ambit-ca-secret";

/// The configuration of our webhook, made at installation.
const WEBHOOK: &str = "ambit-validation";

/// Our name as a writer of fields.
const WRITER: &str = "ambit-controller";

/// Between two looks at the keys of tokens' issuer.
const KEYS: Duration = Duration::from_secs(300);

/// First and longest wait for an API server that does not answer.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A replica.
pub(crate) struct Cluster {
    client: Client,
    /// Our own namespace.
    namespace: String,
    classes: Vec<String>,
    candidacy: Candidacy,
}

/// Asks the API server.
struct ApiServer {
    client: Client,
    audience: String,
}

impl Cluster {
    /// Begins to read objects, and to take part in the choice of a leader.
    pub(crate) async fn enter(
        view: &View,
        terms: Option<&Terms>,
        settings: &Settings,
    ) -> io::Result<(Self, Started)> {
        let terms = terms.cloned().ok_or_else(|| io::Error::other("there is no lease to lead by"))?;
        let client = kubernetes::client().await?;
        let namespace = terms.namespace.clone();
        let candidacy = lease::lead(client.clone(), terms);
        let leading = Some(candidacy.leading.clone());
        let started = Box::new(KubernetesSource::new(client.clone(), view.clone(), leading)).start()?;
        let classes = settings.classes.names();
        Ok((Self { client, namespace, classes, candidacy }, started))
    }

    /// The CA of the Secrets: one that an administrator brought counts, else ours, which is made where there is none.
    pub(crate) async fn signer(&self, trust_domain: &TrustDomain) -> Result<Signer, CaError> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            match self.parts(trust_domain).await {
                Ok((secret, parts)) => {
                    let name = format!("{}/{secret}", self.namespace);
                    let signer = parts.and_then(|parts| Signer::new(&parts, SystemTime::now()));
                    let signer = signer.map_err(|cause| CaError::Secret { name: name.clone(), cause })?;
                    tracing::info!(secret = name, "certificates are signed with the key of this Secret");
                    return Ok(signer);
                }
                Err(error) => {
                    let wait = backoff.delay();
                    tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "the CA's key cannot be read yet");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// The Secret that counts, and what is in it.
    async fn parts(
        &self,
        trust_domain: &TrustDomain,
    ) -> io::Result<(&'static str, Result<Parts, SignerError>)> {
        if let Some(data) = secrets::read(&self.client, &self.namespace, BROUGHT).await? {
            return Ok((BROUGHT, parts(data)));
        }
        if let Some(data) = secrets::read(&self.client, &self.namespace, OWN).await? {
            return Ok((OWN, parts(data)));
        }
        let data = new_root(trust_domain).map_err(io::Error::other)?;
        // Whoever made it first, ours or another replica's counts from now on.
        secrets::make(&self.client, &self.namespace, OWN, data).await?;
        let made = secrets::read(&self.client, &self.namespace, OWN).await?;
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("Secret {OWN} was removed at once"));
        Ok((OWN, parts(made.ok_or_else(gone)?)))
    }

    /// Asks the API server whose tokens are.
    pub(crate) fn reviews(&self, audience: String) -> Reviews {
        let reviewer = ApiServer { client: self.client.clone(), audience: audience.clone() };
        let (sender, issuer) = watch::channel(None);
        spawn("token issuer", follow_issuer(self.client.clone(), sender));
        Reviews::new(Box::new(reviewer), audience, issuer)
    }

    /// Keeps up roots, classes and the webhook's configuration, for as long as this replica leads.
    pub(crate) fn keep_up(&self, roots: &str, mut trusting: watch::Receiver<Trusting>) {
        let leading = self.candidacy.leading.clone();
        let (namespaces, wanted) = watch::channel(None);
        let own = self.namespace.clone();
        spawn("namespaces with roots", async move {
            loop {
                let now = trusting.borrow_and_update().clone().map(|mut all| {
                    all.insert(own.clone());
                    all
                });
                namespaces.send_replace(now);
                if trusting.changed().await.is_err() {
                    return;
                }
            }
        });
        let (client, writer) = (self.client.clone(), WRITER.to_owned());
        let pem = roots.to_owned();
        Roots { client, writer: writer.clone(), leading: leading.clone(), namespaces: wanted, pem }.keep();
        let (client, classes) = (self.client.clone(), self.classes.clone());
        let webhook = Some((WEBHOOK.to_owned(), roots.to_owned()));
        Upkeep { client, writer, leading, classes, webhook }.keep();
    }

    /// Lets another replica lead.
    pub(crate) async fn leave(self) {
        self.candidacy.withdraw().await;
    }
}

impl Reviewer for ApiServer {
    fn review(&self, token: &str) -> Answer {
        let (client, audience, token) = (self.client.clone(), self.audience.clone(), token.to_owned());
        Box::pin(async move {
            tokens::review(&client, &token, &audience).await.map_err(|error| error.to_string())
        })
    }
}

/// Keeps the issuer's keys, for as long as somebody may need them.
async fn follow_issuer(client: Client, sender: watch::Sender<Option<Arc<Issuer>>>) {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    loop {
        let found = tokens::issuer(&client).await.and_then(|(name, keys)| {
            let keys = serde_json::from_str(&keys)?;
            Ok(Issuer { name, keys })
        });
        let wait = match found {
            Ok(issuer) => {
                backoff.reset();
                sender.send_replace(Some(Arc::new(issuer)));
                KEYS
            }
            Err(error) => {
                tracing::debug!(%error, "the issuer's keys cannot be read; those that are known count");
                backoff.delay()
            }
        };
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A Secret's parts.
fn parts(mut data: Data) -> Result<Parts, SignerError> {
    let mut optional = |part: &'static str| {
        let Some(bytes) = data.remove(part) else { return Ok(None) };
        let unusable = |_| SignerError::Unusable { part, cause: "it is no text; put PEM there".to_owned() };
        String::from_utf8(bytes).map(Some).map_err(unusable)
    };
    let (certificate, key) = (optional("ca-cert.pem")?, optional("ca-key.pem")?);
    let required = |part: &'static str, text: Option<String>| {
        let missing = || SignerError::Unusable { part, cause: "it is missing; add it".to_owned() };
        text.ok_or_else(missing)
    };
    Ok(Parts {
        certificate: required("ca-cert.pem", certificate)?,
        key: required("ca-key.pem", key)?,
        chain: optional("cert-chain.pem")?,
        roots: optional("root-cert.pem")?,
    })
}

fn new_root(trust_domain: &TrustDomain) -> Result<Data, rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = keep::self_signed(&key, trust_domain, SystemTime::now())?;
    Ok(Data::from([
        ("ca-cert.pem".to_owned(), certificate.into_bytes()),
        ("ca-key.pem".to_owned(), key.serialize_pem().into_bytes()),
    ]))
}
