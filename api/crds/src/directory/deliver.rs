//! Only what changed: compares what is in force now with what was delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::merge::{Merged, Winner};
use super::overlay::{Overlay, Overlays};
use crate::fault::Fault;
use crate::meta::{ObjectRef, Order};
use crate::object::{InvalidObject, Object};
use crate::source::SourceEvent;

/// What the reader of the channel has been told.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    sent: BTreeMap<ObjectRef, Sent>,
    faults: BTreeSet<Fault>,
}

/// What is to be told now.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The events, in order.
    pub(super) events: Vec<SourceEvent>,
    /// Objects that are gone, with their UIDs.
    pub(super) gone: Vec<(ObjectRef, String)>,
}

#[derive(Clone, Debug)]
enum Sent {
    Valid { base: Arc<Object>, creation: Order, overlay: Option<Arc<Overlay>>, object: Arc<Object> },
    Invalid(Arc<InvalidObject>),
}

impl Delivered {
    /// The changes that lead from what was delivered to what is in force.
    pub(super) fn update(&mut self, merged: Merged, overlays: &Overlays) -> Changes {
        let mut events = Vec::new();
        let mut before = std::mem::take(&mut self.sent);
        for (key, winner) in merged.winners {
            let old = before.remove(&key);
            let sent = match winner {
                Winner::Invalid(invalid) => {
                    let same = matches!(&old, Some(Sent::Invalid(then)) if *then == invalid);
                    if !same {
                        events.push(SourceEvent::Invalid(invalid.clone()));
                    }
                    Sent::Invalid(invalid)
                }
                Winner::Valid(base, creation) => {
                    let overlay = overlays.of(&key, &base.meta().uid).cloned();
                    valid(old, Sent::unfinished(base, creation, overlay), &mut events)
                }
            };
            self.sent.insert(key, sent);
        }
        // Deletions first: an address that moved must not belong to two pods.
        let mut all: Vec<SourceEvent> = before.keys().cloned().map(SourceEvent::Deleted).collect();
        all.append(&mut events);
        let gone = before.into_iter().filter_map(|(key, sent)| match sent {
            Sent::Valid { object, .. } => Some((key, object.meta().uid.clone())),
            Sent::Invalid(_) => None,
        });
        let faults: BTreeSet<Fault> = merged.faults.into_iter().collect();
        all.extend(faults.difference(&self.faults).cloned().map(SourceEvent::Reported));
        self.faults = faults;
        Changes { events: all, gone: gone.collect() }
    }
}

impl Sent {
    fn unfinished(base: Arc<Object>, creation: Order, overlay: Option<Arc<Overlay>>) -> Self {
        Self::Valid { object: base.clone(), base, creation, overlay }
    }
}

/// Finishes a valid object, or keeps the one that was sent when nothing about it changed.
fn valid(old: Option<Sent>, new: Sent, events: &mut Vec<SourceEvent>) -> Sent {
    let Sent::Valid { base, creation, overlay, .. } = new else {
        return new;
    };
    if let Some(Sent::Valid { base: then, creation: created, overlay: over, .. }) = &old
        && Arc::ptr_eq(then, &base)
        && *created == creation
        && *over == overlay
        && let Some(old) = old
    {
        return old;
    }
    let mut object = base.clone();
    if overlay.is_some() || base.meta().creation != creation {
        let changed = Arc::make_mut(&mut object).meta_mut();
        changed.creation = creation.clone();
        if let Some(overlay) = &overlay {
            overlay.apply(&mut changed.annotations);
        }
    }
    let same = matches!(&old, Some(Sent::Valid { object: then, .. }) if *then == object);
    if !same {
        events.push(SourceEvent::Applied(object.clone()));
    }
    Sent::Valid { base, creation, overlay, object }
}
