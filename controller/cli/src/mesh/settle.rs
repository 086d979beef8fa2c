//! Objects to what is known of them: translated as the controller does, as they are or once everything has settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use ambit_crds::{Loaded, Severity};
use controller::settled::{Settled, settle};
use controller::snapshot::Snapshot;
use controller::translate::{Change, Names, Translator};

use super::Mesh;
use super::world::World;

/// Manifests, as a cluster would have them once what we deploy is deployed and up.
pub(crate) fn settled(loaded: Loaded) -> Mesh {
    let remark = errors(&loaded);
    let Settled { objects, translator, snapshot } = settle(loaded.objects, loaded.invalid);
    mesh(objects, translator, &snapshot, remark)
}

/// Objects of a running mesh as they are, and what its controller tells proxies.
pub(super) fn as_is(loaded: Loaded, told: &Snapshot) -> Mesh {
    let remark = errors(&loaded);
    let mut translator = Translator::new(Names::default());
    let (objects, changes) = taken(loaded);
    translator.apply(changes);
    mesh(objects, translator, told, remark)
}

fn mesh(
    objects: BTreeMap<ObjectRef, Arc<Object>>,
    translator: Translator,
    told: &Snapshot,
    remark: Option<String>,
) -> Mesh {
    let mut world = World::of(told);
    world.remarks.splice(0..0, remark);
    let verdicts = translator.verdicts().into_iter();
    let conditions = verdicts.map(|verdict| (verdict.object, verdict.conditions)).collect();
    Mesh { objects, translator, conditions, world }
}

fn taken(loaded: Loaded) -> (BTreeMap<ObjectRef, Arc<Object>>, Vec<Change>) {
    let objects: BTreeMap<ObjectRef, Arc<Object>> =
        loaded.objects.into_iter().map(|object| (object.reference(), object)).collect();
    let changes = objects.values().cloned().map(Change::Applied);
    let changes = changes.chain(loaded.invalid.into_iter().map(Change::Invalid)).collect();
    (objects, changes)
}

fn errors(loaded: &Loaded) -> Option<String> {
    let wrong = loaded.faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    (wrong > 0).then(|| format!("{wrong} errors in the manifests; `ambit analyze` tells them"))
}
