//! Istio's certificate service on the wire: door → grant → sign.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_api::identity::Identity;
use ambit_api::wire::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tonic::{Request, Response, Status};

use super::authority::{Authority, SignError};
use super::grant;
use crate::gate::{Gate, Turned};
use crate::rpc::auth::istio_certificate_service_server::IstioCertificateService;
use crate::xds::metrics::Service;

/// The service.
#[derive(Clone)]
pub struct Certificates {
    gate: Arc<Gate>,
    authority: Arc<Authority>,
}

impl Certificates {
    /// Signs with `authority` for whom `gate` lets in.
    pub fn new(gate: Arc<Gate>, authority: Arc<Authority>) -> Self {
        Self { gate, authority }
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
        let proxy = self.gate.node_proxy(request.metadata()).map_err(refuse)?;
        let asked = asked(request.get_ref());
        let granted = self.gate.with_rules(|rules| grant::certificate(&proxy, asked.as_ref(), rules));
        let granted = granted.map_err(|why| refuse(why.into()))?;
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
