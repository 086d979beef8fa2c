//! The client's side of delta xDS as a pure state machine: (state, input) → effects.
//!
//! Connected → Send(subscribe, with what we know) ; Received → Apply ; Applied → Send(ACK or NACK), and once Settled.

use std::collections::{BTreeMap, HashSet};

use ambit_api::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use ambit_api::wire::rpc_status::Status;
use prost::Message;

use super::{Changes, Kind, Named, Node, Push, Rejection};

/// gRPC's INVALID_ARGUMENT, the code of a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// A NACK names its bad resources until its text would grow beyond this.
const MAX_NACK_BYTES: usize = 4 << 10;

/// What we hold, across reconnects.
#[derive(Debug)]
pub struct Session {
    node: Node,
    known: BTreeMap<Kind, BTreeMap<String, String>>,
    answered: HashSet<Kind>,
    settled: bool,
    applying: Option<Batch>,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A new stream is open.
    Connected,
    /// The controller sent a response.
    Received(Box<DeltaDiscoveryResponse>),
    /// The push was applied, but for these.
    Applied(Vec<Rejection>),
}

/// What the caller must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this request.
    Send(Box<DeltaDiscoveryRequest>),
    /// Apply this, then come back with [`Input::Applied`].
    Apply(Push),
    /// These resources were refused (for the log).
    Refused(Vec<Rejection>),
    /// Every kind has arrived once: what waits for configuration may go on. Emitted once in a session's life.
    Settled,
}

/// A response between its arrival and its answer.
#[derive(Debug)]
struct Batch {
    kind: Kind,
    nonce: String,
    versions: Vec<(String, String)>,
    removed: Vec<String>,
    undecodable: Vec<Rejection>,
}

impl Session {
    /// A session that knows nothing.
    pub fn new(node: Node) -> Self {
        Self { node, known: BTreeMap::new(), answered: HashSet::new(), settled: false, applying: None }
    }

    /// How many resources of a kind are held in their newest version.
    pub fn known(&self, kind: Kind) -> usize {
        self.known.get(&kind).map_or(0, |known| known.values().filter(|version| !version.is_empty()).count())
    }

    /// One step.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Connected => self.subscribe(),
            Input::Received(response) => self.received(*response),
            Input::Applied(rejected) => self.applied(rejected),
        }
    }

    /// A wildcard subscription is the first request of its type with no names.
    fn subscribe(&mut self) -> Vec<Effect> {
        self.applying = None;
        let kinds = self.node.role.kinds().iter().copied();
        kinds
            .map(|kind| {
                Effect::Send(Box::new(DeltaDiscoveryRequest {
                    node: Some(self.node.to_wire()),
                    type_url: kind.type_url().to_owned(),
                    initial_resource_versions: self.known.get(&kind).cloned().unwrap_or_default(),
                    ..Default::default()
                }))
            })
            .collect()
    }

    fn received(&mut self, response: DeltaDiscoveryResponse) -> Vec<Effect> {
        let subscribed = |kind: &Kind| self.node.role.kinds().contains(kind);
        let Some(kind) = Kind::from_type_url(&response.type_url).filter(subscribed) else {
            let reason =
                Rejection { name: response.type_url.clone(), reason: "type is not subscribed".to_owned() };
            return vec![Effect::Send(Box::new(answer(response.type_url, response.nonce, &[reason])))];
        };
        let mut batch = Batch {
            kind,
            nonce: response.nonce,
            versions: Vec::with_capacity(response.resources.len()),
            removed: response.removed_resources.clone(),
            undecodable: Vec::new(),
        };
        let push = batch.push(response.resources, response.removed_resources);
        self.applying = Some(batch);
        vec![Effect::Apply(push)]
    }

    /// What was refused is remembered without a version: a controller that we reconnect to sends it again, or says that it
    /// is gone, so that neither its last good version nor what it closes outlives it.
    fn applied(&mut self, mut rejected: Vec<Rejection>) -> Vec<Effect> {
        let Some(batch) = self.applying.take() else {
            return Vec::new();
        };
        let known = self.known.entry(batch.kind).or_default();
        known.extend(batch.versions);
        rejected.extend(batch.undecodable);
        for name in &batch.removed {
            known.remove(name);
        }
        let named = rejected.iter().filter(|bad| !bad.name.is_empty());
        known.extend(named.map(|bad| (bad.name.clone(), String::new())));
        let request = answer(batch.kind.type_url().to_owned(), batch.nonce, &rejected);
        let mut effects = vec![Effect::Send(Box::new(request))];
        if !rejected.is_empty() {
            effects.push(Effect::Refused(rejected));
        }
        self.answered.insert(batch.kind);
        if !self.settled && self.answered.len() == self.node.role.kinds().len() {
            self.settled = true;
            effects.push(Effect::Settled);
        }
        effects
    }
}

impl Batch {
    fn push(&mut self, resources: Vec<Resource>, removed: Vec<String>) -> Push {
        match self.kind {
            Kind::Address => Push::Address { upserts: self.decode(resources), removed },
            Kind::Authorization => {
                let Changes { upserts, unreadable, removed } = self.changes(resources, removed);
                Push::Authorization { upserts, unreadable, removed }
            }
            Kind::Policy => Push::Policy(self.changes(resources, removed)),
            Kind::Workload => Push::Workload(self.changes(resources, removed)),
            Kind::Destination => Push::Destination(self.changes(resources, removed)),
            Kind::Service => Push::Service(self.changes(resources, removed)),
            Kind::Gateway => Push::Gateway(self.changes(resources, removed)),
        }
    }

    fn changes<T: Message + Default>(
        &mut self,
        resources: Vec<Resource>,
        removed: Vec<String>,
    ) -> Changes<T> {
        let upserts = self.decode(resources);
        let unreadable = self.undecodable.iter().map(|bad| bad.name.clone()).collect();
        Changes { upserts, unreadable, removed }
    }

    fn decode<T: Message + Default>(&mut self, resources: Vec<Resource>) -> Vec<Named<T>> {
        let mut decoded = Vec::with_capacity(resources.len());
        for resource in resources {
            match decode_one(self.kind, &resource) {
                Ok(body) => {
                    decoded.push(Named { name: resource.name.clone(), body });
                    self.versions.push((resource.name, resource.version));
                }
                Err(reason) => self.undecodable.push(Rejection { name: resource.name, reason }),
            }
        }
        decoded
    }
}

fn decode_one<T: Message + Default>(kind: Kind, resource: &Resource) -> Result<T, String> {
    let any = resource.resource.as_ref().ok_or("the resource is empty")?;
    if any.type_url != kind.type_url() {
        return Err(format!("its type is {:?}, not {}", any.type_url, kind.type_url()));
    }
    if resource.name.is_empty() {
        return Err("it has no name".to_owned());
    }
    T::decode(any.value.as_slice()).map_err(|cause| cause.to_string())
}

/// ACK, or NACK when something was refused.
fn answer(type_url: String, nonce: String, rejected: &[Rejection]) -> DeltaDiscoveryRequest {
    let error_detail = (!rejected.is_empty()).then(|| Status {
        code: INVALID_ARGUMENT,
        message: describe(rejected),
        details: Vec::new(),
    });
    DeltaDiscoveryRequest { type_url, response_nonce: nonce, error_detail, ..Default::default() }
}

/// `name: reason; name: reason`, cut with a count of the rest.
fn describe(rejected: &[Rejection]) -> String {
    let mut text = String::new();
    for (index, bad) in rejected.iter().enumerate() {
        let part = format!("{}: {}", bad.name, bad.reason);
        if !text.is_empty() && text.len() + part.len() > MAX_NACK_BYTES {
            text.push_str(&format!("; and {} more", rejected.len() - index));
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&part);
    }
    text
}

#[cfg(test)]
mod tests;
