//! After any sequence of changes the result is the one that a computation from scratch gives; and a small change
//! stays small.

use ambit_crds::object::Object;
use ambit_crds::pod::{Pod, PodCondition};
use ambit_crds::service::{Service, ServicePort};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use random::{random_change, random_peer, random_policy};

use super::*;

mod random;
mod readiness;

fn assert_equals_scratch(translator: &Translator, applied: &Applied, story: &str) {
    let mut scratch = Translator::new(Names::default());
    let mut changes = translator.state.objects.changes();
    changes.reverse();
    let expected = scratch.apply(changes).snapshot;
    for (ours, theirs) in [
        (&applied.snapshot.authorizations, &expected.authorizations),
        (&applied.snapshot.addresses, &expected.addresses),
    ] {
        let differing: Vec<_> = ours.diff(theirs).map(|item| format!("{item:?}")).collect();
        assert!(differing.is_empty(), "differs from scratch: {} {story}", differing.join("\n"));
    }
    assert_eq!(applied.snapshot.waypoints, expected.waypoints, "{story}");
    assert_eq!(translator.state.owned, scratch.state.owned, "{story}");
    let (ours, theirs) = (translator.verdicts(), scratch.verdicts());
    let only = |one: &[Verdict], other: &[Verdict]| {
        one.iter()
            .filter(|verdict| !other.contains(verdict))
            .map(|one| format!("{one:?}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(only(&ours, &theirs), only(&theirs, &ours), "{story}");
}

fn check(seed: u64, changes: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut translator = Translator::new(Names::default());
    let mut before = Arc::new(Snapshot::default());
    let mut conditions: BTreeMap<ObjectRef, Vec<Condition>> = BTreeMap::new();
    for step in 0..changes {
        let batch: Vec<Change> =
            (0..if rng.random_bool(0.1) { 5 } else { 1 }).map(|_| random_change(&mut rng)).collect();
        let story = format!("seed {seed} step {step}: {batch:#?}");
        let applied = translator.apply(batch);
        assert_equals_scratch(&translator, &applied, &story);
        let both = [
            (&before.addresses, &applied.snapshot.addresses),
            (&before.authorizations, &applied.snapshot.authorizations),
        ];
        for (old, new) in both {
            for (name, resource) in old.iter().filter_map(|(name, one)| Some((name, (one, new.get(name)?)))) {
                assert_eq!(resource.0 == resource.1, Arc::ptr_eq(resource.0, resource.1), "{name} {story}");
            }
        }
        before = applied.snapshot;
        // What is told piece by piece adds up to what is true.
        conditions.extend(applied.verdicts.into_iter().map(|one| (one.object, one.conditions)));
        conditions.retain(|_, all| !all.is_empty());
        let told: BTreeMap<_, _> =
            translator.verdicts().into_iter().map(|one| (one.object, one.conditions)).collect();
        assert_eq!(told, conditions, "{story}");
    }
}

#[test]
fn every_change_gives_what_scratch_gives() {
    let fresh = rand::rng().random();
    println!("fresh seed {fresh}");
    [1, 2, fresh].into_iter().for_each(|seed| check(seed, 500));
}

fn web_pod(index: usize) -> Pod {
    let mut pod = Pod::default();
    (pod.meta.namespace, pod.meta.name) = ("a".into(), format!("web-{index}"));
    pod.meta.labels.insert("app".into(), "web".into());
    pod.meta.annotations.insert("ambient.istio.io/redirection".into(), "enabled".into());
    pod.status.pod_ip = format!("10.{}.{}.{}", index / 65536, index / 256 % 256, index % 256);
    pod.status.conditions.push(PodCondition { kind: "Ready".into(), status: "True".into() });
    pod
}

#[test]
fn one_pod_of_five_thousand_is_one_resource() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut translator = Translator::new(Names::default());
    let mut service = Service::default();
    (service.meta.namespace, service.meta.name) = ("a".into(), "web".into());
    service.spec.selector.insert("app".into(), "web".into());
    service.spec.ports.push(ServicePort { port: 80, ..ServicePort::default() });
    let mut all = vec![Object::Service(Box::new(service))];
    all.extend((0..5000).map(|index| Object::Pod(Box::new(web_pod(index)))));
    all.extend((0..20).map(|_| random_policy(&mut rng, "istio-system")));
    all.extend((0..20).map(|_| random_policy(&mut rng, "a")));
    all.extend((0..5).map(|_| random_peer(&mut rng, "a")));
    let first = translator.apply(all.into_iter().map(|object| Change::Applied(Arc::new(object))));
    assert!(first.recomputed.workloads >= 5000);
    let mut pod = web_pod(77);
    pod.status.conditions.clear();
    let second = translator.apply([Change::Applied(Arc::new(Object::Pod(Box::new(pod))))]);
    assert!(second.recomputed.total() <= 5, "{:?}", second.recomputed);
    assert_eq!(second.recomputed.workloads, 1);
    let differing =
        |old: &Resources, new: &Resources| old.diff(new).map(|item| format!("{item:?}")).collect::<Vec<_>>();
    assert_eq!(
        differing(&first.snapshot.authorizations, &second.snapshot.authorizations),
        Vec::<String>::new()
    );
    let changed = differing(&first.snapshot.addresses, &second.snapshot.addresses);
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].contains("Pod/a/web-77"), "{changed:?}");
    assert_eq!(second.verdicts, []);
}
