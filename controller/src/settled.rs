//! Manifests as a cluster would have them once everything has settled, translated: for those who look at objects without
//! running them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use ambit_crds::complete::complete;
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::{InvalidObject, Object};
use ambit_crds::read;

use crate::snapshot::Snapshot;
use crate::translate::{Change, Names, Translator};

/// Translations until nothing new is wanted: a Gateway that a namespace asks for, then what it is deployed as.
const ROUNDS: usize = 4;

/// What came of it.
#[derive(Debug)]
pub struct Settled {
    /// Every object, those that were made up included.
    pub objects: BTreeMap<ObjectRef, Arc<Object>>,
    /// What was made of them.
    pub translator: Translator,
    /// Everything proxies would be told.
    pub snapshot: Arc<Snapshot>,
}

/// Translates until what we deploy is deployed and up. Pods of Deployments and StatefulSets exist, every pod runs, and what asks
/// for the mesh is captured.
pub fn settle(
    objects: impl IntoIterator<Item = Arc<Object>>,
    invalid: impl IntoIterator<Item = Arc<InvalidObject>>,
) -> Settled {
    let mut translator = Translator::new(Names::default());
    let mut objects: BTreeMap<ObjectRef, Arc<Object>> =
        objects.into_iter().map(|object| (object.reference(), object)).collect();
    let mut changes: Vec<Change> = objects.values().cloned().map(Change::Applied).collect();
    changes.extend(invalid.into_iter().map(Change::Invalid));
    let mut snapshot = Arc::default();
    for _ in 0..ROUNDS {
        let listed: Vec<_> = objects.values().cloned().collect();
        changes.extend(complete(&listed).into_iter().map(|object| {
            objects.insert(object.reference(), object.clone());
            Change::Applied(object)
        }));
        if changes.is_empty() {
            break;
        }
        let applied = translator.apply(std::mem::take(&mut changes));
        snapshot = applied.snapshot;
        let wanted = applied.writes.owned.iter().filter_map(|owned| owned.manifest.as_ref());
        for object in wanted.flat_map(|manifest| read::objects(&manifest.to_string())) {
            // One that is there already is the running one, with addresses and all.
            if let Entry::Vacant(place) = objects.entry(object.reference()) {
                place.insert(object.clone());
                changes.push(Change::Applied(object));
            }
        }
    }
    Settled { objects, translator, snapshot }
}
