//! The API server asks here before it takes an object: over HTTPS, with a certificate of our own CA. When we are away it takes
//! objects unasked, and what is wrong with them is said in their statuses.

mod review;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambit_crds::object::Object;
use ambit_process::spawn::spawn;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::analyze::{self, Finding};
use crate::ca::authority::Authority;
use crate::listen::{self, Secured, ServingError, Speaks};
use crate::translate::Translator;

/// Where questions are asked.
const PATH: &str = "/validate";

/// Bytes of a question: an object and the one it replaces, each of which may have 3 MiB.
const MAX_QUESTION: usize = 8 << 20;

/// Connections at one time; an API server keeps a few.
const CONNECTIONS: usize = 64;

/// For the head of a question, and between questions.
const HEAD: Duration = Duration::from_secs(30);

/// Looks at all objects together that may be under way, each with a copy of what is known.
const LOOKS: usize = 2;

/// A question waits so long for a look, and goes without one then: the API server waits for three seconds.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

/// A look may take so long.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_500);

/// What translation knows, shared with the task that changes it.
pub type Shared = Arc<Mutex<Translator>>;

/// Answers the API server.
#[derive(Clone)]
pub struct Webhook {
    translator: Shared,
    looks: Arc<Semaphore>,
}

/// Why nobody is answered.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The port.
    #[error("cannot listen on {address} for the API server's questions: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
}

impl Webhook {
    /// Judges objects by what is known at the time.
    pub fn new(translator: Shared) -> Self {
        Self { translator, looks: Arc::new(Semaphore::new(LOOKS)) }
    }

    /// Listens, and answers until the process ends.
    ///
    /// # Errors
    /// When the address cannot be listened on, or there is no certificate.
    pub async fn serve(
        self,
        address: SocketAddr,
        authority: Arc<Authority>,
        names: Vec<String>,
    ) -> Result<(), WebhookError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|cause| WebhookError::Listen { address, cause })?;
        let config = listen::serving(authority, names, Speaks::Http1)?;
        let mut incoming = listen::accept(listener, config, CONNECTIONS);
        tracing::info!(%address, "answering the API server's questions about objects");
        spawn("webhook", async move {
            while let Some(accepted) = incoming.recv().await {
                // A failed accept was told of where it failed.
                if let Ok(stream) = accepted {
                    spawn("webhook connection", self.clone().converse(stream));
                }
            }
        });
        Ok(())
    }

    async fn converse(self, stream: Secured) {
        let answer = service_fn(|request: Request<Incoming>| {
            let webhook = self.clone();
            async move { Ok::<_, Infallible>(webhook.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the API server ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let plain =
            |status, text: &'static str| response(status, "text/plain", Bytes::from_static(text.as_bytes()));
        if request.uri().path() != PATH || request.method() != Method::POST {
            return plain(StatusCode::NOT_FOUND, "AdmissionReviews are answered at POST /validate\n");
        }
        let Ok(body) = Limited::new(request.into_body(), MAX_QUESTION).collect().await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the AdmissionReview is too large\n");
        };
        let Some(question) = review::Question::read(&body.to_bytes()) else {
            return plain(StatusCode::BAD_REQUEST, "this is no AdmissionReview of admission.k8s.io/v1\n");
        };
        let findings = match question.object() {
            Some(object) => self.look(object.clone()).await,
            None => Vec::new(),
        };
        let answer = question.answer(&findings);
        response(StatusCode::OK, "application/json", Bytes::from(answer.to_string()))
    }

    /// What is to be said of an object among all others; nothing, where that would take too long.
    async fn look(&self, object: Arc<Object>) -> Vec<Finding> {
        let place = tokio::time::timeout(LOOK_WITHIN, self.looks.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Vec::new() };
        let translator = self.translator.clone();
        let look = tokio::task::spawn_blocking(move || {
            let _place = place;
            let known = translator.lock().unwrap_or_else(PoisonError::into_inner).clone();
            analyze::applied(known, &object)
        });
        match tokio::time::timeout(ANSWER_WITHIN, look).await {
            Ok(Ok(findings)) => findings,
            Ok(Err(error)) => {
                tracing::error!(%error, "an object could not be judged");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
