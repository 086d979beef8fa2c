//! Objects → what proxies are told. Pure functions per key with an index of who depends on what: a change computes
//! again what it touches and nothing else (design §1.9), and after any sequence of changes the result is the one
//! that a computation from scratch gives.

pub mod about;
mod attach;
mod authorization;
mod auto;
pub(crate) mod binding;
mod dirty;
pub(crate) mod gateways;
mod index;
mod levels;
mod lock;
mod members;
mod names;
mod observe;
mod owned;
mod peer;
mod policies;
mod ports;
pub(crate) mod record;
pub(crate) mod routes;
pub(crate) mod service;
mod shape;
pub(crate) mod state;
mod verdicts;
mod waypoints;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_crds::enrolment::DATAPLANE_MODE;
use ambit_crds::meta::ObjectRef;
use ambit_crds::namespace::Namespace;
use ambit_crds::status::{Condition, Details};

pub use attach::Census;
pub(crate) use gateways::is_left_over;
pub use gateways::{Classes, DOWN, PROGRAMMED};
pub use names::Names;
pub use shape::Shape;

pub use crate::objects::Change;
use crate::objects::{Before, Key, Objects};
use crate::snapshot::{Resources, Snapshot};
use crate::status::Verdict;
use crate::write_back::{Annotation, Owned};
use dirty::Dirty;
use record::Mesh;
use state::State;

/// Translates batches of changes, one snapshot each.
#[derive(Clone, Debug)]
pub struct Translator {
    state: State,
    verdicts: BTreeMap<ObjectRef, (Vec<Condition>, Details)>,
}

/// What a batch of changes came to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Everything proxies are told now.
    pub snapshot: Arc<Snapshot>,
    /// What was computed again.
    pub recomputed: Recomputed,
    /// Objects whose conditions differ from before.
    pub verdicts: Vec<Verdict>,
    /// What else is to be written.
    pub writes: Writes,
}

/// What is to be written besides conditions.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// Notes on Gateways that later translations read again (policy.md rule 17).
    pub annotations: Vec<Annotation>,
    /// Objects of ours.
    pub owned: Vec<Owned>,
}

/// How many keys of each kind were computed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// Workloads of pods.
    pub workloads: usize,
    /// Services.
    pub services: usize,
    /// Slices with endpoints that are no pods.
    pub slices: usize,
    /// Policies, each in one namespace.
    pub policies: usize,
    /// PeerAuthentications.
    pub peers: usize,
    /// Verdicts.
    pub verdicts: usize,
}

impl Recomputed {
    /// All keys that resources are made of.
    pub fn total(&self) -> usize {
        self.workloads + self.services + self.slices + self.policies + self.peers
    }
}

impl Translator {
    /// Knows nothing yet.
    pub fn new(names: Names) -> Self {
        Self { state: State::new(names, Objects::default()), verdicts: BTreeMap::new() }
    }

    /// Takes Gateways of these classes for waypoints.
    pub fn with_classes(mut self, classes: Classes) -> Self {
        self.state.classes = classes;
        self
    }

    /// Deploys waypoints of this shape.
    pub fn with_shape(mut self, shape: Shape) -> Self {
        self.state.shape = shape;
        self
    }

    /// What translation computed.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The conditions of one object.
    pub(crate) fn conditions(&self, object: &ObjectRef) -> &[Condition] {
        self.verdicts.get(object).map_or(&[], |(conditions, _)| conditions)
    }

    /// Waypoints that were ready once, are not any more, and wait for somebody to say for how long.
    pub fn absent(&self) -> BTreeSet<Key> {
        self.state.absent()
    }

    /// The namespaces whose pods need the mesh's roots: those that ask for the mesh, and those with a Gateway of ours.
    pub fn trusting(&self) -> BTreeSet<String> {
        let objects = self.state.objects.all::<Namespace>();
        let asking = objects.filter(|(_, one)| one.meta.label(DATAPLANE_MODE) == Some("ambient"));
        let accepted = self.state.gateways.iter().filter(|(_, one)| one.waypoint().is_some());
        asking
            .map(|(key, _)| key.name.clone())
            .chain(accepted.map(|(key, _)| key.namespace.clone()))
            .collect()
    }

    /// How waypoints are, all in all.
    pub fn census(&self) -> Census {
        self.state.census()
    }

    /// Applies a batch of changes.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Applied {
        let mut dirty = Dirty::default();
        for change in changes {
            let before = self.state.objects.take(&change);
            dirty.mark(&change, &before, &mut self.state);
        }
        let old = (dirty.all && self.state.mesh != Mesh::new(&self.state.objects))
            .then(|| self.start_over(&mut dirty));
        let (mut recomputed, writes) = self.state.refresh(&mut dirty);
        if let Some(old) = old {
            keep_same(&old.addresses, &mut self.state.snapshot.addresses);
            keep_same(&old.authorizations, &mut self.state.snapshot.authorizations);
        }
        dirty.close_verdicts(&self.state);
        recomputed.verdicts = dirty.verdicts.len();
        let verdicts = dirty.verdicts.into_iter().filter_map(|object| self.judge(object)).collect();
        self.state.snapshot.generation += 1;
        Applied { snapshot: Arc::new(self.state.snapshot.clone()), recomputed, verdicts, writes }
    }

    /// The conditions of every object that has any.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let all = self.verdicts.iter();
        all.map(|(object, said)| {
            let (conditions, details) = said.clone();
            Verdict { object: object.clone(), conditions, details }
        })
        .collect()
    }

    /// Judges an object; a verdict if that differs from before. One that is gone has no conditions, and that is told
    /// too: a later object of its name must not inherit them.
    fn judge(&mut self, object: ObjectRef) -> Option<Verdict> {
        let said =
            self.state.judge(&object).map(|said| (said, self.state.details(&object))).unwrap_or_default();
        let before = match said.0.is_empty() {
            true => self.verdicts.remove(&object),
            false => self.verdicts.insert(object.clone(), said.clone()),
        };
        (before.unwrap_or_default() != said).then(|| {
            let (conditions, details) = said;
            Verdict { object, conditions, details }
        })
    }

    /// Forgets what was computed and marks everything; gives back the old snapshot.
    fn start_over(&mut self, dirty: &mut Dirty) -> Snapshot {
        let objects = std::mem::take(&mut self.state.objects);
        let changes = objects.changes();
        let new = State::new(self.state.names.clone(), objects);
        let (classes, shape) = (self.state.classes, self.state.shape.clone());
        let old = std::mem::replace(&mut self.state, State { classes, shape, ..new });
        self.state.snapshot.generation = old.snapshot.generation;
        for change in &changes {
            dirty.mark(change, &Before::default(), &mut self.state);
        }
        old.snapshot
    }
}

/// Puts the old allocation back wherever nothing changed.
fn keep_same(old: &Resources, new: &mut Resources) {
    let same: Vec<_> = new
        .iter()
        .filter_map(|(name, resource)| {
            old.get(name).filter(|old| ***old == **resource).map(|old| (name.clone(), old.clone()))
        })
        .collect();
    new.extend(same);
}

#[cfg(test)]
mod tests;
