//! Sends copies of requests on: one attempt each, chosen and judged like any other, answered to nobody (policy.md rules 4
//! and 5).

use std::rc::Rc;
use std::time::Duration;

use ambit_api::route::Mirror;
use ambit_process::overload::Work;
use ambit_process::spawn::spawn_local;
use tracing::{debug, info};

use crate::attempt::protocol;
use crate::balance::cluster::ClusterKey;
use crate::body::Outgoing;
use crate::endpoint::{self, Backends};
use crate::exchange::Exchange;
use crate::filter::mirror::{self, BODY_BOUND};
use crate::limits;
use crate::message::{self, Outline};
use crate::record::Kind;
use crate::refuse::Refusal;
use crate::report::ClusterName;
use crate::report::rare::Copied;
use crate::retry::replay::{Tee, Whole};
use crate::upstream::{SendFailed, Target};

/// How long a copy may take, body and answer.
const LONGEST: Duration = Duration::from_secs(60);

/// Sends one copy on its way once the whole body has passed; `tee` is `None` for a request without one.
pub fn send(exchange: &Rc<Exchange>, to: &Mirror, outline: &Outline, tee: Option<Tee>) {
    let Some(copy) = mirror::copy(outline) else { return };
    let (exchange, to) = (exchange.clone(), to.clone());
    spawn_local("mirror", async move {
        let cluster = cluster(&exchange, &to);
        let mirrored = async {
            let whole = match tee {
                None => Whole::default(),
                // Too large to keep, or never whole: nothing to send.
                Some(tee) => match tee.whole().await {
                    Ok(whole) => whole,
                    Err(_incomplete) => return Ok(Copied::Incomplete),
                },
            };
            attempt(&exchange, &cluster, copy, whole).await.map(|()| Copied::Answered)
        };
        let copied = match tokio::time::timeout(LONGEST, mirrored).await {
            Ok(Ok(copied)) => copied,
            // Nobody gets an answer that would say so.
            Ok(Err(Refusal::Denied(denied))) => {
                info!(client = %exchange.arrival.client, service = %to.service, denied = denied.explain(), "copy denied");
                Copied::Denied
            }
            Ok(Err(failed)) => {
                debug!(service = %to.service, error = %failed, "copy not sent");
                Copied::Failed
            }
            Err(_elapsed) => {
                debug!(service = %to.service, "copy not answered in time");
                Copied::Failed
            }
        };
        exchange.arrival.world.report.rare.mirrored(ClusterName(&cluster, Kind::Request), copied);
    });
}

/// Where copies go.
fn cluster(exchange: &Exchange, to: &Mirror) -> ClusterKey {
    let port = to.port.map_or(exchange.arrival.dialled.port(), std::num::NonZeroU16::get);
    ClusterKey { service: to.service.clone(), port, subset: to.subset.clone() }
}

async fn attempt(exchange: &Exchange, to: &ClusterKey, copy: Outline, whole: Whole) -> Result<(), Refusal> {
    let (snapshot, arrival) = (&exchange.snapshot, &exchange.arrival);
    let backends = Backends::service(snapshot, arrival, &to.service, (to.subset.as_ref(), to.port))?;
    let _charge = arrival.mesh.admit(Work::Upload).ok_or(Refusal::Overloaded)?;
    let endpoint = backends.choose(&[], arrival.dialled.ip())?;
    if let Some(uid) = endpoint.pod() {
        exchange.authorize((&uid, endpoint.at), &copy).inspect_err(|_denied| endpoint.refused())?;
    }
    let _slot = match backends.balancer() {
        Some(balancer) => {
            let most = balancer.policy().max_requests;
            Some(balancer.cluster().limits.take(limits::Kind::Requests, most)?)
        }
        None => None,
    };
    let target = Target {
        peer: endpoint.peer.clone(),
        at: endpoint.at,
        protocol: protocol(exchange, &backends),
        cluster: backends.balancer().map(|balancer| balancer.cluster().clone()),
        terms: endpoint::terms(backends.policy(), &arrival.mesh.own.times),
    };
    let request =
        message::request(copy, target.protocol, Outgoing::copy(whole)).ok_or(Refusal::Unspeakable)?;
    let line = arrival.world.upstream.reach(&target).await?;
    let (answer, lease) =
        line.send(request).await.map_err(|failed: SendFailed| Refusal::Reset(failed.to_string()))?;
    if mirror::drain(answer.into_body(), BODY_BOUND).await {
        lease.end();
    }
    Ok(())
}
