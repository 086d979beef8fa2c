//! Istio's certificate service on the wire: door → grant → sign.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use ambit_api::wire::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::authority::{Authority, SignError};
use super::grant::{self, Granted, Proxy, Refused, Rules};
use crate::gate::{Gate, Turned};
use crate::rpc::auth::istio_certificate_service_server::IstioCertificateService;
use crate::xds::metrics::Service;

/// How long a request waits for its pod to be seen here.
const POD_WITHIN: Duration = Duration::from_secs(1);

/// Requests that may wait so at once.
const WAITERS: usize = 64;

/// The service.
#[derive(Clone)]
pub struct Certificates {
    gate: Arc<Gate>,
    authority: Arc<Authority>,
    waiting: Arc<Semaphore>,
}

impl Certificates {
    /// Signs with `authority` for whom `gate` lets in.
    pub fn new(gate: Arc<Gate>, authority: Arc<Authority>) -> Self {
        Self { gate, authority, waiting: Arc::new(Semaphore::new(WAITERS)) }
    }

    /// A node may hear of its pod before we do: such a request waits a moment, as long as not too many do.
    async fn granted(&self, proxy: &Proxy, asked: Option<&Identity>) -> Result<Granted, Refused> {
        let decide = |rules: Rules<'_>| grant::certificate(proxy, asked, rules);
        match self.gate.with_rules(decide) {
            Err(why @ Refused::NotOnNode { .. }) => match self.waiting.try_acquire() {
                Ok(_place) => self.gate.decide_within(POD_WITHIN, decide).await,
                Err(_) => Err(why),
            },
            decided => decided,
        }
    }

    fn unsigned(&self, why: &SignError) -> Status {
        self.gate.metrics.refused(Service::Certificates, why.label());
        tracing::warn!(service = ?Service::Certificates, reason = why.label(), %why, "refused");
        match why {
            SignError::RootExpired | SignError::Failed(_) => {
                Status::internal("the certificate could not be signed")
            }
            _ => Status::invalid_argument(why.to_string()),
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let refuse = |why: Turned| self.gate.turn_away(Service::Certificates, &why);
        let proxy = self.gate.proxy(request.metadata()).await.map_err(refuse)?;
        let asked = asked(request.get_ref());
        let granted = self.granted(&proxy, asked.as_ref()).await.map_err(|why| refuse(why.into()))?;
        let ttl = u64::try_from(request.get_ref().validity_duration).ok().map(Duration::from_secs);
        let cert_chain = self
            .authority
            .sign(&request.get_ref().csr, &granted, ttl, SystemTime::now())
            .map_err(|why| self.unsigned(&why))?;
        self.gate.metrics.issued();
        tracing::info!(identity = %granted.identity(), node = proxy.node(), proxy = proxy.pod(), "certificate issued");
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// The identity to impersonate. One that does not parse counts as none: it can be nobody's.
fn asked(request: &IstioCertificateRequest) -> Option<Identity> {
    match request.metadata.as_ref()?.fields.get("ImpersonatedIdentity")?.kind.as_ref()? {
        Kind::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}
