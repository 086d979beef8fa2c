//! Asking the CA for one certificate.

use std::future::Future;
use std::time::Duration;

use ambit_api::identity::Identity;
use ambit_api::wire::auth::IstioCertificateRequest;
use ambit_transport::certificate::{self, Certificate, CertificateError, Roots};
use ambit_transport::tls::TlsError;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::channel::{self, ChannelError, Credential, Target};
use crate::rpc::auth::istio_certificate_service_client::IstioCertificateServiceClient;

/// Bound on one request, connection included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whoever issues certificates.
pub trait Issuer: Send + Sync + 'static {
    /// A certificate for `identity` with a new key, and the roots it comes with.
    fn issue(
        &self,
        identity: &Identity,
    ) -> impl Future<Output = Result<(Certificate, Roots), IssueError>> + Send;
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA cannot be reached.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The CA refused.
    #[error("the CA answered {:?}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    /// The CA did not answer in time.
    #[error("the CA did not answer within {TIMEOUT:?}")]
    TimedOut,
    /// The answer is unusable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No TLS configuration can be made from it.
    #[error(transparent)]
    Tls(TlsError),
    /// The answer is for somebody else.
    #[error("the CA sent a certificate for {0}")]
    OtherIdentity(Identity),
    /// Expired, or not valid yet by our clock.
    #[error("the CA sent a certificate that is not valid now; compare the clocks")]
    NotValidNow,
    /// The request ended without an outcome.
    #[error("the request was lost")]
    Lost,
}

/// Istio's certificate service.
pub struct CaClient {
    target: Target,
    credential: Credential,
    ttl: Duration,
    channel: Mutex<Option<Channel>>,
}

impl CaClient {
    /// `ttl`: the validity asked for (SECRET_TTL). Connects when first needed.
    pub fn new(target: Target, ttl: Duration) -> Result<Self, ChannelError> {
        let credential = Credential::new(&target)?;
        Ok(Self { target, credential, ttl, channel: Mutex::new(None) })
    }

    /// The open channel, or a new one. Waiters share the attempt, which is bounded.
    async fn channel(&self) -> Result<Channel, ChannelError> {
        let mut held = self.channel.lock().await;
        if let Some(channel) = &*held {
            return Ok(channel.clone());
        }
        let channel = channel::connect(&self.target).await?;
        Ok(held.insert(channel).clone())
    }

    async fn ask(&self, identity: &Identity) -> Result<(Certificate, Roots), IssueError> {
        let request = certificate::request(identity)?;
        let client =
            IstioCertificateServiceClient::with_interceptor(self.channel().await?, self.credential.clone());
        let answer = client
            .clone()
            .create_certificate(IstioCertificateRequest {
                csr: request.csr,
                validity_duration: self.ttl.as_secs().try_into().unwrap_or(i64::MAX),
                metadata: Some(impersonate(identity)),
            })
            .await;
        match answer {
            Ok(answer) => Ok(Certificate::from_answer(&answer.into_inner().cert_chain, request.key)?),
            Err(status) => {
                if !is_the_caller_s_fault(status.code()) {
                    // The next attempt connects anew, and reads the root certificates anew.
                    *self.channel.lock().await = None;
                }
                Err(IssueError::Refused(Box::new(status)))
            }
        }
    }
}

impl Issuer for CaClient {
    async fn issue(&self, identity: &Identity) -> Result<(Certificate, Roots), IssueError> {
        match tokio::time::timeout(TIMEOUT, self.ask(identity)).await {
            Ok(answer) => answer,
            Err(_) => {
                *self.channel.lock().await = None;
                Err(IssueError::TimedOut)
            }
        }
    }
}

fn impersonate(identity: &Identity) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(identity.uri().to_owned())) };
    Struct { fields: [("ImpersonatedIdentity".to_owned(), value)].into() }
}

/// Answers that a new connection would not change.
fn is_the_caller_s_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::ResourceExhausted
    )
}
