//! HTTP towards the client: HTTP/1.1 and HTTP/2 with prior knowledge, within limits, ended in order.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ambit_api::normalise::BadRequest;
use ambit_discovery::resolve::waypoint::Standing;
use ambit_process::spawn::spawn_local;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use crate::arrive::Arrival;
use crate::body::Answer;
use crate::framing::guard::{Guard, Switch};
use crate::record::{Ended, Kind, Record};
use crate::refuse::Refusal;
use crate::sniff::Spoken;
use crate::{detach, exchange};

/// Bytes that are read beyond the longest head, so that it is known to be too long.
const HEAD_OVERRUN: usize = 4096;

/// Streams a client may reset before we have looked at them.
const PENDING_RESETS: usize = 20;

/// Stream errors of a client after which it is told to calm down.
const ERROR_RESETS: usize = 1024;

/// Time between pings of a quiet HTTP/2 connection, and for their answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// A request that asks for another protocol.
struct Asked {
    switch: Arc<Switch>,
    on: Option<OnUpgrade>,
}

/// Runs what HTTP/2 connections start on their own worker.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        spawn_local("http2", future);
    }
}

/// Serves one connection until it ends: when the client is done, was idle for too long, or the process drains (or stands
/// before what was dialled no longer) and the requests under way are over.
pub async fn serve<I>(io: I, spoken: Spoken, arrival: Rc<Arrival>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = match spoken {
        Spoken::Http2 => Box::pin(second(TokioIo::new(io), arrival)).await,
        Spoken::Http1 | Spoken::Opaque => Box::pin(first(io, arrival)).await,
    };
    if let Err(cause) = ended {
        debug!(%cause, "connection ended");
    }
}

async fn first<I>(io: I, arrival: Rc<Arrival>) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mesh = arrival.mesh.clone();
    let data = &mesh.settings.data;
    let guard = Guard::new(io, data.max_head);
    let switch = guard.switch();
    let service = {
        let (arrival, switch) = (arrival.clone(), switch.clone());
        service_fn(move |request: Request<Incoming>| {
            // Until such a request is answered nobody knows what the bytes after it are.
            let on = request.extensions().get::<OnUpgrade>();
            let asks = on.is_some() || request.headers().contains_key(header::UPGRADE);
            let asked = asks.then(|| Asked { switch: switch.clone(), on: on.cloned() });
            handle(request, arrival.clone(), asked)
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It runs from the end of the last answer, so it bounds idle connections too.
        .header_read_timeout(data.times.idle)
        .max_header_size(data.max_head)
        // What is too long for it would be answered before it is known to be too long a head.
        .max_buf_size(mesh.overload.sizes().http1_buffer.max(data.max_head + HEAD_OVERRUN))
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let leave = async {
        tokio::select! {
            () = mesh.drain.signalled() => {}
            // Until then each answer asks the client to leave: closed between two requests, one would meet the end.
            () = detach::until(&arrival.standing, &[Standing::Gone]) => {}
        }
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = leave => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection => ended,
                () = mesh.drain.forced() => Ok(()),
            }
        }
    };
    ended.inspect_err(|cause| {
        if cause.is_parse() {
            unreadable(cause, switch.bad(), &arrival);
        }
    })
}

impl Asked {
    fn answered(self, switched: bool) {
        self.switch.answered(switched);
        let Some(on) = self.on.filter(|_| !switched) else { return };
        // hyper hands over a connection that was once asked to switch, when it ends, as if it had switched.
        spawn_local("not switched", async move {
            if let Ok(io) = on.await {
                let _gone = TokioIo::new(io).shutdown().await;
            }
        });
    }
}

/// hyper has answered what it could not read, and nobody else has heard of it.
fn unreadable(cause: &hyper::Error, bad: Option<BadRequest>, arrival: &Rc<Arrival>) {
    let status = match cause.is_parse_too_large() {
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    };
    let refusal = match bad {
        Some(bad) => Refusal::Bad(bad),
        None => Refusal::Unreadable(cause.to_string()),
    };
    let mut record = Record::begin(Kind::Request, arrival);
    record.refused(&refusal);
    record.answer(status, &HeaderMap::new());
    record.close(Ended::Whole);
}

async fn second<I>(io: TokioIo<I>, arrival: Rc<Arrival>) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mesh = arrival.mesh.clone();
    let data = &mesh.settings.data;
    let (sizes, served) = (mesh.overload.sizes(), arrival.clone());
    let service = service_fn(move |request| handle(request, served.clone(), None));
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(data.max_head).unwrap_or(u32::MAX))
        .max_concurrent_streams(data.max_streams)
        .initial_stream_window_size(sizes.stream_window)
        .initial_connection_window_size(sizes.http2_window)
        .max_send_buf_size(sizes.send_buffer)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = mesh.drain.signalled() => connection.as_mut().graceful_shutdown(),
        // No request is lost by it: the client is told which of its own were taken.
        () = detach::until(&arrival.standing, &[Standing::Leaving, Standing::Gone]) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        ended = connection => ended,
        () = mesh.drain.forced() => Ok(()),
    }
}

async fn handle(
    request: Request<Incoming>,
    arrival: Rc<Arrival>,
    asked: Option<Asked>,
) -> Result<Response<Answer>, Infallible> {
    let version = request.version();
    let connection = arrival.clone();
    let mut answer = exchange::exchange(request, arrival).await;
    // What a connection may carry is between the two of its ends; hyper adds what ours with the client needs.
    *answer.version_mut() = version;
    let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(asked) = asked {
        asked.answered(switches);
    }
    if (connection.mesh.is_leaving() || *connection.standing.borrow() != Standing::Before)
        && version < Version::HTTP_2
        && !switches
    {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}
