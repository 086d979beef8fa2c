//! Connections that are not HTTP: T and S once, then bytes both ways until one side ends or a policy forbids it (policy.md
//! rule 16).

use std::rc::Rc;
use std::sync::Arc;

use ambit_api::authz::Denied;
use ambit_api::reason::Reason;
use ambit_api::route::{Forward, TcpRule};
use ambit_discovery::view::Snapshot;
use ambit_transport::hbone::{self, Io};
use ambit_transport::relay::{Counters, Far, Tally, relay};
use rand::Rng;
use tokio::io::AsyncWriteExt;

use crate::arrive::{Arrival, Bound};
use crate::balance::Pick;
use crate::endpoint::{self, Backends, Endpoint};
use crate::judge::{self, Judged, Sent, Verdicts};
use crate::known::Known;
use crate::limits::{Kind, Slot};
use crate::observe;
use crate::outlier::Outcome;
use crate::record::{self, Kind as Recorded, Record};
use crate::refuse::Refusal;
use crate::report::ClusterName;
use crate::upstream::{DialFailed, Socket};

/// Endpoints one connection may try before it fails; none has seen a byte of the client's.
const ATTEMPTS: usize = 3;

/// Why a connection was not carried.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Dial(#[from] DialFailed),
}

/// The far side of a connection, with what it holds.
struct Opened {
    socket: Socket,
    endpoint: Endpoint,
    slot: Option<Slot>,
}

/// What was carried, as the client sees it.
struct Carried {
    received: u64,
    sent: u64,
    ended: Option<Reason>,
}

impl From<Denied> for Failed {
    fn from(denied: Denied) -> Self {
        Self::Refused(denied.into())
    }
}

impl Failed {
    fn enter(&self, record: &mut Record) {
        match self {
            Self::Refused(refusal) => record.refused(refusal),
            Self::Dial(failed) => {
                record.flags.reason = Some(failed.reason());
                record.detail = Some(failed.to_string());
            }
        }
    }
}

/// The life of one connection.
pub async fn carry(io: Io, arrival: Rc<Arrival>) {
    let (mut near, first) = io.into_parts();
    let mut record = Record::begin(Recorded::Connection, &arrival);
    let since = arrival.world.changes.follow();
    let opened = open(&arrival, &mut record).await;
    arrival.world.report.opened(&record);
    let Opened { socket, endpoint, slot } = match opened {
        Ok(opened) => opened,
        Err(failed) => {
            failed.enter(&mut record);
            near.reset();
            record.close(record::Ended::Whole);
            return;
        }
    };
    let judged = Rc::new(Judged {
        arrival: arrival.clone(),
        head: None,
        endpoint: Some(Sent { pod: endpoint.pod(), at: endpoint.at, shape: None }),
    });
    let carried = join((near, first), socket, judged.follow(&since), &arrival).await;
    record.flags.reason = carried.ended;
    record.received.begin().reach(carried.received, 0);
    record.sent = carried.sent;
    record.close(record::Ended::Whole);
    drop((endpoint, slot));
}

/// Decides about one connection and dials, another endpoint while the failure permits it.
async fn open(arrival: &Arrival, record: &mut Record) -> Result<Opened, Failed> {
    let snapshot = Arc::clone(&arrival.mesh.view.load());
    observe::target(&snapshot, arrival, None);
    judge::target(&snapshot, arrival, None)?;
    let backends = backends(&snapshot, arrival)?;
    record.cluster = backends.cluster();
    let slot = match backends.balancer() {
        Some(balancer) => {
            let most = balancer.policy().max_connections;
            Some(balancer.cluster().limits.take(Kind::Connections, most).map_err(Refusal::from)?)
        }
        None => None,
    };
    let terms = endpoint::terms(backends.policy(), &arrival.mesh.own.times);
    let mut tried = Vec::new();
    loop {
        let endpoint = backends.choose(&tried, arrival.dialled.ip())?;
        record.attempts += 1;
        record.endpoint = Some(endpoint.peer.workload().clone());
        record.upstream = Some(endpoint.at);
        if let Some(uid) = endpoint.pod() {
            observe::endpoint(&snapshot, arrival, (&uid, endpoint.at), None);
            judge::endpoint(&snapshot, arrival, (&uid, endpoint.at), None)
                .inspect_err(|_denied| endpoint.refused())?;
            tried.push(uid);
        }
        let dialler = arrival.world.upstream.dialler();
        match dialler.dial(&endpoint.peer, endpoint.at, terms.connect).await {
            Ok(socket) => return Ok(Opened { socket, endpoint, slot }),
            Err(failed) => {
                report(&backends, endpoint.pick.as_ref(), arrival);
                if !failed.reason().retryable() || tried.len() >= ATTEMPTS || backends.balancer().is_none() {
                    return Err(failed.into());
                }
            }
        }
    }
}

fn report(backends: &Backends, pick: Option<&Pick>, arrival: &Arrival) {
    if let (Some(balancer), Some(pick)) = (backends.balancer(), pick)
        && let Some(ejection) = balancer.judge(pick, Outcome::Unreachable, tokio::time::Instant::now())
    {
        let cluster = ClusterName(balancer.cluster().key(), Recorded::Connection);
        arrival.world.report.ejected(cluster, pick, ejection);
    }
}

/// Where the routes for connections lead.
fn backends(snapshot: &Arc<Snapshot>, arrival: &Arrival) -> Result<Backends, Refusal> {
    let Bound::Service(_) = &arrival.bound else {
        return Backends::dialled(snapshot, arrival);
    };
    let known = Known::of(arrival, snapshot);
    let service = known.service.as_ref().ok_or(Refusal::Unready)?;
    let (to, client) = (arrival.dialled, &known.client);
    let rule: &Arc<TcpRule> = service.tcp.find(to.ip(), to.port(), client).ok_or(Refusal::NoRoute)?;
    Backends::of(snapshot, arrival, choose(&rule.forward)?)
}

fn choose(forward: &Forward) -> Result<&ambit_api::route::Backend, Refusal> {
    if forward.total() == 0 {
        return Err(Refusal::NoBackend);
    }
    let backend = forward.choose(rand::rng().random_range(0..forward.total())).ok_or(Refusal::NoBackend)?;
    match &backend.broken {
        Some(broken) => Err(Refusal::Broken { status: broken.status, why: broken.why.clone() }),
        None => Ok(backend),
    }
}

/// Carries bytes until both sides have ended, or a policy or the end of the process cuts them.
async fn join(
    (mut near, first): (hbone::Stream, bytes::Bytes),
    far: Socket,
    verdicts: Verdicts,
    arrival: &Arrival,
) -> Carried {
    let mesh = arrival.mesh.clone();
    let idle = mesh.settings.data.times.idle;
    let counters = Counters::default();
    let until = async {
        tokio::select! {
            reason = verdicts.forbidden() => reason,
            () = mesh.drain.forced() => Reason::Draining,
        }
    };
    match far {
        Socket::Tunnel(far) => {
            let Tally { sent, received, ended } =
                hbone::join((near, first), far, &counters, until, idle).await;
            // What passed from near to far is the client's.
            Carried { received: sent, sent: received, ended: ended.reason() }
        }
        Socket::Plain(mut far) => {
            // The first bytes were looked at to find out what is spoken.
            if far.write_all(&first).await.is_err() {
                near.reset();
                return Carried { received: 0, sent: 0, ended: Some(Reason::Reset) };
            }
            near.release(first.len());
            let Tally { sent, received, ended } = relay(far, Far::Hbone(near), &counters, until, idle).await;
            Carried { received: received + first.len() as u64, sent, ended: ended.reason() }
        }
    }
}
