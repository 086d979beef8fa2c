//! The one door in front of both gRPC services: token → caller → node proxy. Each refusal is logged with its reason.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use ambit_api::identity::TrustDomain;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::ca::grant::{self, NodeProxy, Refused, Rules};
use crate::ca::pods::Pods;
use crate::ca::tokens::{Account, Caller, TokenError, Verifier};
use crate::xds::metrics::{ServerMetrics, Service};

/// Decides who comes in.
#[derive(Debug)]
pub struct Gate {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Accounts of node proxies.
    pub trusted: Vec<Account>,
    /// Pods and trust domain; written by the task that reads the source.
    pub facts: Arc<RwLock<Facts>>,
    /// Counts refusals.
    pub metrics: ServerMetrics,
}

/// What the source says that identity depends on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The pods.
    pub pods: Pods,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
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
    pub fn caller(&self, metadata: &MetadataMap) -> Result<Caller, TokenError> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        self.verifier.verify(header, SystemTime::now())
    }

    /// Whether the caller is a node proxy.
    pub fn node_proxy(&self, metadata: &MetadataMap) -> Result<NodeProxy, Turned> {
        let caller = self.caller(metadata)?;
        Ok(self.with_rules(|rules| grant::node_proxy(&caller, None, rules))?)
    }

    /// Runs a decision on the pods of this moment.
    pub fn with_rules<T>(&self, decide: impl FnOnce(Rules<'_>) -> T) -> T {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        decide(Rules { trusted: &self.trusted, trust_domain: &facts.trust_domain, pods: &facts.pods })
    }

    /// Logs and counts a refusal, and makes the answer to it: the same code for every reason, as Istio's clients expect.
    pub fn turn_away(&self, service: Service, why: &Turned) -> Status {
        self.metrics.refused(service, why.label());
        tracing::warn!(service = ?service, reason = why.label(), why = %why, "refused");
        Status::new(Code::Unauthenticated, why.public())
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
