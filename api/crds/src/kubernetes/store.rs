//! What is in force, from what the watches tell: one listing to begin with, then changes only. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::arrival::{Arrival, LAST_GOOD};
use crate::fault::{Effect, Fault};
use crate::kind::Kind;
use crate::meta::ObjectRef;
use crate::object::{InvalidObject, Object};
use crate::read::{Item, Outcome};
use crate::source::SourceEvent;

/// The largest spec that is kept in an annotation; an object's annotations may have 256 KiB in all.
const MAX_KEPT: usize = 128 * 1024;

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Told {
    /// All objects of a kind, and which look was asked for before they were listed.
    Listed(Kind, Vec<Arrival>, u64),
    /// The cluster does not know this kind.
    Absent(Kind, u64),
    /// One object is new or has changed.
    Applied(Box<Arrival>),
    /// One object is gone.
    Deleted(ObjectRef),
}

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Kinds that were not listed yet.
    awaited: BTreeSet<Kind>,
    held: BTreeMap<ObjectRef, Held>,
    /// The look that each kind's last listing answers.
    looks: BTreeMap<Kind, u64>,
    answered: u64,
}

/// One object.
#[derive(Debug)]
struct Held {
    uid: String,
    state: State,
    /// The spec of the version in force.
    spec: Option<Arc<Value>>,
    /// What its owner was told.
    faults: Vec<Fault>,
}

/// What of it is in force.
#[derive(Debug)]
enum State {
    Valid(Arc<Object>),
    Closed(Arc<InvalidObject>),
    Nothing,
}

/// What follows from something that was told.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// What the reader is told, in order.
    pub(super) events: Vec<SourceEvent>,
    /// Last good specs to be kept with their objects, or no longer (`None`).
    pub(super) keep: Vec<(ObjectRef, Option<String>)>,
}

impl Store {
    /// Waits for these kinds; the first event tells that a listing begins.
    pub(super) fn new(kinds: &[Kind]) -> (Self, SourceEvent) {
        let awaited = kinds.iter().copied().collect();
        let looks = kinds.iter().map(|kind| (*kind, 0)).collect();
        (Self { awaited, looks, ..Self::default() }, SourceEvent::Init)
    }

    /// Takes up what a watch tells.
    pub(super) fn take(&mut self, told: Told) -> Outcomes {
        let mut out = Outcomes::default();
        match told {
            Told::Applied(arrival) => self.apply(*arrival, &mut out),
            Told::Deleted(object) => self.delete(&object, &mut out),
            Told::Absent(kind, look) => self.list(kind, Vec::new(), look, &mut out),
            Told::Listed(kind, arrivals, look) => self.list(kind, arrivals, look, &mut out),
        }
        out
    }

    /// Puts a listing in the place of what was known of a kind: what is the same stays untouched.
    fn list(&mut self, kind: Kind, arrivals: Vec<Arrival>, look: u64, out: &mut Outcomes) {
        let listed: BTreeSet<&ObjectRef> = arrivals.iter().map(|arrival| &arrival.object).collect();
        let known = self.held.keys().filter(|object| object.kind == kind);
        let gone: Vec<ObjectRef> = known.filter(|object| !listed.contains(object)).cloned().collect();
        // Deletions first: an address that moved must not belong to two pods.
        for object in gone {
            self.delete(&object, out);
        }
        for arrival in arrivals {
            self.apply(arrival, out);
        }
        self.looks.insert(kind, look);
        if self.awaited.remove(&kind) && self.awaited.is_empty() {
            out.events.push(SourceEvent::InitDone);
        }
        let look = self.looks.values().copied().min().unwrap_or_default();
        if self.awaited.is_empty() && look > self.answered {
            self.answered = look;
            out.events.push(SourceEvent::Rescanned(look));
        }
    }

    fn delete(&mut self, object: &ObjectRef, out: &mut Outcomes) {
        if let Some(Held { state: State::Valid(_) | State::Closed(_), .. }) = self.held.remove(object) {
            out.events.push(SourceEvent::Deleted(object.clone()));
        }
    }

    fn apply(&mut self, arrival: Arrival, out: &mut Outcomes) {
        let before = self.held.remove(&arrival.object);
        // A successor of the same name starts without a past.
        let past = before.as_ref().filter(|before| before.uid == arrival.face.uid);
        let noted = arrival.face.annotations.get(LAST_GOOD);
        let Item { outcome, note, .. } = arrival.item;
        let mut faults: Vec<Fault> = note.into_iter().collect();
        let (state, spec) = match outcome {
            Outcome::Valid(object) => {
                if noted.is_some() {
                    out.keep.push((arrival.object.clone(), None));
                }
                (State::Valid(object), arrival.spec)
            }
            Outcome::Bad(invalid) => {
                let (state, spec, effect) = good(past, arrival.kept).unwrap_or_else(|| closed(&invalid));
                faults.push(Fault { effect, ..invalid.fault });
                let kept = spec.as_ref().map(|spec| spec.to_string()).filter(|kept| kept.len() <= MAX_KEPT);
                if kept.is_some() && noted != kept.as_ref() {
                    out.keep.push((arrival.object.clone(), kept));
                }
                (state, spec)
            }
            Outcome::Unidentified(fault) => {
                faults.push(*fault);
                (State::Nothing, None)
            }
            Outcome::Tombstone(_) | Outcome::Skipped => (State::Nothing, None),
        };
        tell(&arrival.object, before.as_ref(), &state, &mut out.events);
        let told = before.map(|before| before.faults).unwrap_or_default();
        let new = faults.iter().filter(|fault| !told.contains(fault)).cloned();
        out.events.extend(new.map(SourceEvent::Reported));
        self.held.insert(arrival.object, Held { uid: arrival.face.uid, state, spec, faults });
    }
}

type Fate = (State, Option<Arc<Value>>, Effect);

/// The last good version of an object that is bad now: the one in force, else the one that its annotation keeps.
fn good(past: Option<&Held>, kept: Option<Item>) -> Option<Fate> {
    if let Some(Held { state: State::Valid(object), spec, .. }) = past {
        return Some((State::Valid(object.clone()), spec.clone(), Effect::LastGoodStays));
    }
    match kept?.outcome {
        Outcome::Valid(object) => Some((State::Valid(object), None, Effect::LastGoodStays)),
        _ => None,
    }
}

/// A policy that was never valid closes what it names; anything else is left out.
fn closed(invalid: &InvalidObject) -> Fate {
    if !matches!(invalid.object.kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication) {
        return (State::Nothing, None, Effect::Skipped);
    }
    let fault = Fault { effect: Effect::Closes, ..invalid.fault.clone() };
    let closed = InvalidObject { fault, ..invalid.clone() };
    (State::Closed(Arc::new(closed)), None, Effect::Closes)
}

/// The event that leads from what was in force of an object to what is, if they differ.
fn tell(object: &ObjectRef, before: Option<&Held>, now: &State, events: &mut Vec<SourceEvent>) {
    let event = match (before.map(|before| &before.state), now) {
        (Some(State::Valid(old)), State::Valid(new)) if old == new => return,
        (Some(State::Closed(old)), State::Closed(new)) if old == new => return,
        (_, State::Valid(new)) => SourceEvent::Applied(new.clone()),
        (_, State::Closed(new)) => SourceEvent::Invalid(new.clone()),
        (Some(State::Valid(_) | State::Closed(_)), State::Nothing) => SourceEvent::Deleted(object.clone()),
        (_, State::Nothing) => return,
    };
    events.push(event);
}
