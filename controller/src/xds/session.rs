//! One stream to one proxy, as a pure state machine: (state, input, now) → effects.
//!
//! A [`Pass`] leads to a snapshot. While it runs newer snapshots wait, and only the latest of them is taken up: a slow
//! proxy gets the difference, not the history. One response is on its way at a time, which bounds what is buffered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_api::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource};
use prost_types::Any;

use super::pass::{Chunk, Known, Pass, Scope, Subscription};
use super::{Audience, Kind};
use crate::snapshot::{Moment, Resource, Snapshot};

/// A proxy that has not answered after this is overdue: nobody else waits for it any longer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Nothing is sent to a stream that does not ask for policies too: it would serve pods without them.
/// (Ztunnels, Istio's too, ask for everything at once.) It is sent away after this, so that somebody notices.
pub const POLICIES_WITHIN: Duration = Duration::from_secs(10);

/// A stream may ask for this many names one by one.
pub const MAX_NAMES: usize = 10_000;

/// What a NACK says is kept up to this length.
const MAX_MESSAGE_BYTES: usize = 1_024;

/// One stream.
#[derive(Debug)]
pub struct Session {
    audience: Audience,
    subscriptions: BTreeMap<Kind, Subscription>,
    known: BTreeMap<Kind, Known>,
    unanswered: BTreeSet<Kind>,
    opened: Option<Instant>,
    latest: Arc<Snapshot>,
    done: Option<Moment>,
    pass: Option<Pass>,
    waiting: Option<Waiting>,
    changed: Dirty,
    nonces: u64,
}

/// What happens to a stream.
#[derive(Clone, Debug)]
pub enum Input {
    /// The proxy sent a request.
    Request(Box<DeltaDiscoveryRequest>),
    /// There is a newer snapshot.
    Snapshot(Arc<Snapshot>),
    /// The time [`Session::wake_at`] asked for has come.
    Tick,
}

/// What the caller must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this.
    Send {
        /// The response.
        response: Box<DeltaDiscoveryResponse>,
        /// Its kind.
        kind: Kind,
        /// Where its pass leads.
        generation: u64,
    },
    /// The proxy refused resources of this kind; they are not sent again before they change.
    Nacked {
        /// Kind.
        kind: Kind,
        /// What the proxy says.
        message: String,
    },
    /// The proxy has answered everything up to this moment.
    Acknowledged(Moment),
    /// The proxy has not answered for [`ANSWER_WITHIN`].
    Overdue(Kind),
    /// A type we do not serve.
    UnknownType(String),
    /// End the stream: it asks for too much, or for too little.
    Refuse(&'static str),
}

/// A response without its answer.
#[derive(Debug)]
struct Waiting {
    kind: Kind,
    nonce: String,
    due: Option<Instant>,
}

/// Whether subscriptions changed since the running pass was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dirty {
    No,
    Subscriptions,
}

impl Session {
    /// A stream that has asked for nothing yet.
    pub fn new(audience: Audience, latest: Arc<Snapshot>) -> Self {
        Self {
            audience,
            subscriptions: BTreeMap::new(),
            known: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            opened: None,
            latest,
            done: None,
            pass: None,
            waiting: None,
            changed: Dirty::No,
            nonces: 0,
        }
    }

    /// One step.
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Snapshot(snapshot) => self.latest = snapshot,
            Input::Tick => self.overdue(now, &mut effects),
            Input::Request(request) => self.request(*request, now, &mut effects),
        }
        self.advance(now, &mut effects);
        effects
    }

    /// When to come back with [`Input::Tick`].
    pub fn wake_at(&self) -> Option<Instant> {
        let answer = self.waiting.as_ref().and_then(|waiting| waiting.due);
        let held_back =
            self.opened.map(|opened| opened + POLICIES_WITHIN).filter(|_| self.policies_missing());
        answer.into_iter().chain(held_back).min()
    }

    fn request(&mut self, request: DeltaDiscoveryRequest, now: Instant, effects: &mut Vec<Effect>) {
        let kind = Kind::from_type_url(&request.type_url);
        let Some(kind) = kind.filter(|kind| self.audience.may_ask(*kind)) else {
            effects.push(Effect::UnknownType(clip(request.type_url)));
            return;
        };
        self.opened.get_or_insert(now);
        self.subscribe(kind, &request, effects);
        self.answer(kind, request, effects);
    }

    /// The first request of a kind with no names subscribes to everything, as does `*`.
    fn subscribe(&mut self, kind: Kind, request: &DeltaDiscoveryRequest, effects: &mut Vec<Effect>) {
        if !self.subscriptions.contains_key(&kind) {
            self.unanswered.insert(kind);
            self.changed = Dirty::Subscriptions;
            let subscription = self.subscriptions.entry(kind).or_default();
            if request.resource_names_subscribe.is_empty() {
                subscription.scope = Scope::Wildcard;
            }
            if !request.initial_resource_versions.is_empty() {
                self.known.insert(kind, Known::Claimed(request.initial_resource_versions.clone()));
            }
        }
        let subscription = self.subscriptions.entry(kind).or_default();
        for name in &request.resource_names_subscribe {
            self.changed = Dirty::Subscriptions;
            if name == "*" {
                subscription.scope = Scope::Wildcard;
            } else {
                subscription.names.insert(name.clone());
                subscription.fresh.insert(name.clone());
            }
        }
        for name in &request.resource_names_unsubscribe {
            self.changed = Dirty::Subscriptions;
            if name == "*" {
                subscription.scope = Scope::Named;
            }
            subscription.names.remove(name);
            subscription.fresh.remove(name);
        }
        if subscription.names.len() > MAX_NAMES {
            effects
                .push(Effect::Refuse("too many names are subscribed to one by one; subscribe to everything"));
        }
    }

    /// ACK or NACK of the response on its way; any other nonce is an answer to something older.
    fn answer(&mut self, kind: Kind, request: DeltaDiscoveryRequest, effects: &mut Vec<Effect>) {
        let ours = self.waiting.as_ref().is_some_and(|waiting| {
            waiting.kind == kind
                && !request.response_nonce.is_empty()
                && waiting.nonce == request.response_nonce
        });
        if !ours {
            return;
        }
        self.waiting = None;
        if let Some(error) = request.error_detail {
            effects.push(Effect::Nacked { kind, message: clip(error.message) });
        }
    }

    fn overdue(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(waiting) = &mut self.waiting
            && waiting.due.is_some_and(|due| due <= now)
        {
            waiting.due = None;
            effects.push(Effect::Overdue(waiting.kind));
        }
        if self.policies_missing() && self.opened.is_some_and(|opened| now >= opened + POLICIES_WITHIN) {
            effects.push(Effect::Refuse("resources are sent to those only who subscribe to policies too"));
        }
    }

    fn policies_missing(&self) -> bool {
        let guards = self.audience.guards();
        !self.subscriptions.is_empty() && guards.iter().any(|guard| !self.subscriptions.contains_key(guard))
    }

    /// Sends the next response if nothing is on its way, and plans the next pass when this one is done.
    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while self.waiting.is_none() {
            let Some(pass) = &mut self.pass else {
                if !self.plan() {
                    return;
                }
                continue;
            };
            let moment = pass.snapshot.moment();
            if let Some(chunk) = pass.take_next() {
                self.unanswered.remove(&chunk.kind);
                let response = self.respond(chunk, moment.generation, now);
                effects.push(response);
            } else if let Some(pass) = self.pass.take() {
                self.known.extend(pass.finish());
                self.done = Some(moment);
                effects.push(Effect::Acknowledged(moment));
            }
        }
    }

    /// Begins a pass if there is something to tell.
    fn plan(&mut self) -> bool {
        let news = self.done != Some(self.latest.moment()) || self.changed == Dirty::Subscriptions;
        if !news || self.subscriptions.is_empty() || self.policies_missing() {
            return false;
        }
        // A Gateway that is gone takes its stream with it. Until then its waypoint keeps what it holds.
        if !self.audience.is_in(&self.latest) {
            return false;
        }
        self.changed = Dirty::No;
        let Self { audience, latest, subscriptions, known, unanswered, .. } = self;
        self.pass = Some(Pass::plan(audience, latest.clone(), subscriptions, known, unanswered));
        for subscription in self.subscriptions.values_mut() {
            subscription.fresh.clear();
        }
        true
    }

    fn respond(&mut self, chunk: Chunk, generation: u64, now: Instant) -> Effect {
        self.nonces += 1;
        let nonce = format!("{generation}-{}", self.nonces);
        self.waiting =
            Some(Waiting { kind: chunk.kind, nonce: nonce.clone(), due: Some(now + ANSWER_WITHIN) });
        let response = DeltaDiscoveryResponse {
            system_version_info: generation.to_string(),
            resources: chunk.resources.iter().map(|resource| on_the_wire(chunk.kind, resource)).collect(),
            type_url: chunk.kind.type_url().to_owned(),
            nonce,
            removed_resources: chunk.removed,
        };
        Effect::Send { response: Box::new(response), kind: chunk.kind, generation }
    }
}

fn on_the_wire(kind: Kind, resource: &Resource) -> WireResource {
    WireResource {
        version: resource.version.to_string(),
        resource: Some(Any { type_url: kind.type_url().to_owned(), value: resource.body.to_vec() }),
        name: resource.name.to_string(),
        aliases: resource.aliases.clone(),
        ..Default::default()
    }
}

fn clip(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests;
