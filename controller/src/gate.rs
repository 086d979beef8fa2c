//! The one door in front of both gRPC services: token → caller → proxy. Each refusal is logged with its reason.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use ambit_api::identity::TrustDomain;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::ca::grant::{self, Made, Proxy, Refused, Rules, Waypoints};
use crate::ca::pods::Pods;
use crate::ca::reviews::Reviews;
use crate::ca::tokens::{Account, Caller, TokenError, Verifier};
use crate::xds::metrics::{ServerMetrics, Service};

/// The clock may jump: who is in is looked at again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Decides who comes in.
#[derive(Debug)]
pub struct Gate {
    /// Verifies tokens.
    pub vouching: Vouching,
    /// Accounts of node proxies.
    pub trusted: Vec<Account>,
    /// Pods, waypoints and trust domain; written by the task that reads the source.
    pub facts: Arc<RwLock<Facts>>,
    /// Counts refusals.
    pub metrics: ServerMetrics,
}

/// Who says whose a token is.
#[derive(Debug)]
pub enum Vouching {
    /// The issuer's keys.
    Keys(Verifier),
    /// The API server.
    Reviews(Reviews),
}

/// What the source says that identity depends on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The pods.
    pub pods: Pods,
    /// The accepted waypoints.
    pub waypoints: Waypoints,
    /// The service accounts that were made for Gateways.
    pub made: Made,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Told of every change.
    pub changed: watch::Sender<()>,
}

/// Why somebody is turned away.
#[derive(Debug, thiserror::Error)]
pub enum Turned {
    /// By the token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// By what the caller is.
    #[error(transparent)]
    Grant(#[from] Refused),
}

impl Gate {
    /// Who calls, by its token alone.
    pub async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, TokenError> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        match &self.vouching {
            Vouching::Keys(verifier) => verifier.verify(header, SystemTime::now()),
            Vouching::Reviews(reviews) => reviews.verify(header, SystemTime::now()).await,
        }
    }

    /// Which proxy calls.
    pub async fn proxy(&self, metadata: &MetadataMap) -> Result<Proxy, Turned> {
        let caller = self.caller(metadata).await?;
        Ok(self.with_rules(|rules| grant::proxy(&caller, None, rules))?)
    }

    /// Resolves when a caller that was let in would not be any more: its token has ended, its pod, or its Gateway.
    pub async fn revoked(&self, caller: &Caller) -> Turned {
        let mut changes = self.changes();
        loop {
            let now = SystemTime::now();
            let Ok(left) = caller.expires.duration_since(now) else {
                return TokenError::Expired(now.duration_since(caller.expires).unwrap_or_default()).into();
            };
            if let Err(why) = self.with_rules(|rules| grant::proxy(caller, None, rules)) {
                return why.into();
            }
            // The clock may jump. A change that comes while we look is seen by the next wait.
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), changes.changed()).await;
        }
    }

    /// Decides again with each change until the answer is yes or `within` has passed: what a caller asks about may be on its way
    /// to us.
    pub async fn decide_within<T>(
        &self,
        within: Duration,
        decide: impl Fn(Rules<'_>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut changes = self.changes();
        let ends = tokio::time::Instant::now() + within;
        loop {
            let decided = self.with_rules(&decide);
            if decided.is_ok() || tokio::time::timeout_at(ends, changes.changed()).await.is_err() {
                return decided;
            }
        }
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).changed.subscribe()
    }

    /// Runs a decision on the pods of this moment.
    pub fn with_rules<T>(&self, decide: impl FnOnce(Rules<'_>) -> T) -> T {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let Facts { pods, waypoints, made, trust_domain, .. } = &*facts;
        decide(Rules { trusted: &self.trusted, waypoints, made, trust_domain, pods })
    }

    /// Logs and counts a refusal, and makes the answer to it: the same code for every reason, as Istio's clients expect; and
    /// another one when there is none, so that they ask again.
    pub fn turn_away(&self, service: Service, why: &Turned) -> Status {
        self.metrics.refused(service, why.label());
        let code = match why {
            Turned::Token(TokenError::Unavailable(_)) => Code::Unavailable,
            _ => Code::Unauthenticated,
        };
        tracing::warn!(service = ?service, reason = why.label(), why = %why, "refused");
        Status::new(code, why.public())
    }
}

impl Turned {
    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Token(why) => why.label(),
            Self::Grant(why) => why.label(),
        }
    }

    fn public(&self) -> &'static str {
        match self {
            Self::Token(why) => why.public(),
            Self::Grant(why) => why.public(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::pin::pin;

    use super::*;
    use crate::ca::pods::{Phase, PodFact};
    use crate::ca::tokens::{BoundPod, Expected};

    fn gate() -> Gate {
        let expected = Expected { issuer: "us".to_owned(), audience: "istio-ca".to_owned() };
        Gate {
            vouching: Vouching::Keys(Verifier::new(PathBuf::from("unused"), expected)),
            trusted: vec!["mesh/ztunnel".parse().unwrap()],
            facts: Arc::default(),
            metrics: ServerMetrics::default(),
        }
    }

    fn change(gate: &Gate, change: impl FnOnce(&mut Pods)) {
        let mut facts = gate.facts.write().unwrap();
        change(&mut facts.pods);
        facts.changed.send_replace(());
    }

    fn pod(name: &str, account: &str) -> PodFact {
        PodFact {
            namespace: "mesh".to_owned(),
            name: name.to_owned(),
            uid: format!("u-{name}"),
            service_account: account.to_owned(),
            node: "n1".to_owned(),
            waypoint: None,
            phase: Phase::Live,
        }
    }

    async fn pending<T>(future: &mut (impl Future<Output = T> + Unpin)) {
        tokio::select! {
            biased;
            _ = future => panic!("decided already"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn a_decision_waits_for_what_it_is_about() {
        let gate = gate();
        let there = |rules: Rules<'_>| match rules.pods.running("n1", "mesh", "late") {
            0 => Err(Refused::NothingAsked),
            count => Ok(count),
        };
        let mut decision = pin!(gate.decide_within(Duration::from_secs(600), there));
        pending(&mut decision).await;
        change(&gate, |pods| pods.insert(pod("other", "other")));
        pending(&mut decision).await;
        change(&gate, |pods| pods.insert(pod("late-1", "late")));
        assert_eq!(decision.await, Ok(1));
        change(&gate, |pods| pods.remove("mesh", "late-1"));
        assert_eq!(gate.decide_within(Duration::from_millis(5), there).await, Err(Refused::NothingAsked));
    }

    #[tokio::test]
    async fn who_is_in_stays_until_pod_or_token_end() {
        let gate = gate();
        let mut caller = Caller {
            account: gate.trusted[0].clone(),
            pod: BoundPod { name: "z".to_owned(), uid: "u-z".to_owned() },
            node: None,
            expires: SystemTime::now() + Duration::from_secs(600),
        };
        change(&gate, |pods| pods.insert(pod("z", "ztunnel")));
        {
            let mut revoked = pin!(gate.revoked(&caller));
            pending(&mut revoked).await;
            change(&gate, |pods| pods.insert(pod("other", "other")));
            pending(&mut revoked).await;
            change(&gate, |pods| pods.remove("mesh", "z"));
            assert_eq!(revoked.await.label(), "pod_gone");
        }
        change(&gate, |pods| pods.insert(pod("z", "ztunnel")));
        // A waypoint is out with its Gateway.
        let account: Account = "mesh/wp".parse().unwrap();
        let bound = BoundPod { name: "wp-1".to_owned(), uid: "u-wp-1".to_owned() };
        let waypoint = Caller { account: account.clone(), pod: bound, ..caller.clone() };
        gate.facts.write().unwrap().made.insert(account.clone());
        gate.facts.write().unwrap().waypoints.insert(account, "mesh/wp".into());
        change(&gate, |pods| pods.insert(PodFact { waypoint: Some("wp".to_owned()), ..pod("wp-1", "wp") }));
        {
            let mut revoked = pin!(gate.revoked(&waypoint));
            pending(&mut revoked).await;
            gate.facts.write().unwrap().waypoints.clear();
            change(&gate, |_| ());
            assert_eq!(revoked.await.label(), "application_token");
        }
        caller.expires = SystemTime::now() + Duration::from_millis(5);
        assert_eq!(gate.revoked(&caller).await.label(), "token_expired");
    }
}
