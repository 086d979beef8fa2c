//! One record per connection: filled by the stages, closed by one call; it becomes metrics and one access-log line.
//!
//! Metrics are kept in one shard per worker and merged when they are read (see [`metrics`]), so that counting never
//! waits for another worker.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ambit_api::authz::{self, Attributes, PolicySet};
use ambit_api::identity::Identity;
use ambit_api::labels::{Dialled, Labels, Party, Reporter, Security};
use ambit_api::reason::Reason;
use ambit_api::service::Service;
use ambit_api::workload::{NetworkAddress, Workload};
use ambit_discovery::resolve::Hop;
use ambit_discovery::view::Snapshot;
use ambit_transport::addr::{ClientAddr, OriginalDst};
use ambit_transport::relay::{Counters, Tally};

use crate::capture::Captured;
use crate::pods::Pod;

mod access;
mod metrics;

pub use metrics::{Live, LiveConnection, Near, Report, Shard};

/// Which way a connection crosses the pod's border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The pod opened it.
    Outbound,
    /// It came to the pod.
    Inbound,
}

/// What is known of one connection so far.
pub struct Record {
    direction: Direction,
    near: Near,
    pod: Arc<Pod>,
    begun: Instant,
    client: SocketAddr,
    dialled: SocketAddr,
    target: Option<SocketAddr>,
    tunnel: Option<SocketAddr>,
    source: Option<Arc<Workload>>,
    source_identity: Option<Identity>,
    destination: Option<Arc<Workload>>,
    destination_identity: Option<Identity>,
    service: Option<Arc<Service>>,
    live: Option<Live>,
}

impl Record {
    /// Of a connection that was redirected to us, or a tunnel.
    pub fn captured(direction: Direction, captured: &Captured) -> Self {
        Self::new(direction, Near::Client, &captured.pod, captured.client, captured.dialled)
    }

    /// Of one stream of an inbound tunnel, whose peer proved an identity.
    pub fn inbound(pod: &Arc<Pod>, client: ClientAddr, local: OriginalDst, peer: &Identity) -> Self {
        let mut record = Self::new(Direction::Inbound, Near::Application, pod, client, local);
        record.source_identity = Some(peer.clone());
        record.destination_identity = Some(pod.identity.clone());
        record.tunnel = Some(local.get());
        record
    }

    fn new(
        direction: Direction,
        near: Near,
        pod: &Arc<Pod>,
        client: ClientAddr,
        dialled: OriginalDst,
    ) -> Self {
        Self {
            direction,
            near,
            pod: pod.clone(),
            begun: Instant::now(),
            client: client.get(),
            dialled: dialled.get(),
            target: None,
            tunnel: None,
            source: None,
            source_identity: None,
            destination: None,
            destination_identity: None,
            service: None,
            live: None,
        }
    }

    /// The local pod as source.
    pub fn source(&mut self, workload: &Arc<Workload>) {
        self.source = Some(workload.clone());
    }

    /// The local pod as destination.
    pub fn destination(&mut self, workload: &Arc<Workload>) {
        self.destination = Some(workload.clone());
    }

    /// The client's workload, looked up by address. An identity proven by a certificate outranks the address: a
    /// workload of another identity is not the one that called.
    pub fn peer_workload(&mut self, snapshot: &Snapshot, client: ClientAddr) {
        let Some(destination) = &self.destination else {
            return;
        };
        let address = NetworkAddress::new(destination.network.clone(), client.ip());
        self.source = snapshot
            .workloads
            .by_address(&address)
            .filter(|workload| match &self.source_identity {
                Some(proven) => workload.identity().as_ref() == Some(proven),
                None => true,
            })
            .cloned();
    }

    /// The application's address.
    pub fn target(&mut self, application: SocketAddr) {
        self.target = Some(application);
    }

    /// The way that was chosen (again, after a failed attempt).
    pub fn chose(&mut self, hop: &Hop) {
        self.destination = hop.workload().cloned();
        self.service = hop.service().cloned();
        match hop {
            Hop::Tunnel(tunnel) => {
                self.tunnel = Some(tunnel.server);
                self.target = Some(tunnel.authority);
                self.source_identity = Some(self.pod.identity.clone());
                self.destination_identity = tunnel.expected.first().cloned();
            }
            Hop::Plain(plain) => {
                self.tunnel = None;
                self.target = Some(plain.server);
                self.source_identity = None;
                self.destination_identity = None;
            }
        }
    }

    /// What dry-run policies say about this connection.
    pub fn dry_run(&self, report: &Report, policies: &PolicySet, attributes: &Attributes) {
        for outcome in authz::dry_run(policies, attributes) {
            report.tried(&outcome);
            access::dry_run(self, &outcome);
        }
    }

    /// Both sides are connected. The counters are to be filled by the relay.
    pub fn opened(&mut self, shard: &Shard) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        let connection = LiveConnection {
            pod: self.pod.uid.clone(),
            direction: self.direction,
            near: self.near,
            client: self.client,
            dialled: self.dialled,
            target: self.target,
            secured: self.secured(),
            begun: self.begun,
            counters: counters.clone(),
        };
        self.live = Some(shard.open(self.labels(None), connection));
        access::opened(self);
        counters
    }

    /// The connection ended after it was open.
    pub fn closed(mut self, shard: &Shard, tally: &Tally) {
        let (request, response) = self.near.order(tally.sent, tally.received);
        let reason = tally.ended.reason();
        if let Some(live) = self.live.take() {
            shard.close(live, reason);
        }
        access::closed(&self, request, response, reason);
    }

    /// The connection was never open.
    pub fn failed(self, shard: &Shard, reason: Reason, why: &dyn Display) {
        shard.fail(self.labels(Some(reason)));
        access::failed(&self, reason, why);
    }

    fn secured(&self) -> bool {
        self.source_identity.is_some() && self.destination_identity.is_some()
    }

    fn labels(&self, ended: Option<Reason>) -> Labels {
        Labels {
            reporter: match self.direction {
                Direction::Outbound => Reporter::Source,
                Direction::Inbound => Reporter::Destination,
            },
            source: party(self.source.as_deref(), self.source_identity.as_ref()),
            destination: party(self.destination.as_deref(), self.destination_identity.as_ref()),
            service: self.service.as_deref().map(|service| Arc::new(Dialled::new(service))),
            security: if self.secured() { Security::MutualTls } else { Security::Unknown },
            ended,
        }
    }
}

fn party(workload: Option<&Workload>, identity: Option<&Identity>) -> Arc<Party> {
    Arc::new(match workload {
        Some(workload) => Party::new(workload, identity),
        None => Party::unknown(identity),
    })
}
