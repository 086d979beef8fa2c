//! Golden pairs: `testdata/NAME-in.yaml` (manifests) → `NAME.txt` (every Service's rules at a waypoint of its own namespace
//! or the one its label `istio.io/use-waypoint-namespace` names, the destinations, the verdicts). `AMBIT_BLESS=1` writes
//! the second from the first.

mod shown;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ambit_crds::meta::selects;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;
use ambit_crds::{Severity, load_once};

use super::*;
use crate::objects::Change;

static FOLDER: AtomicU32 = AtomicU32::new(0);

fn inputs() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/translate/routes/testdata");
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with("-in.yaml"));
    inputs.sort();
    assert!(inputs.len() >= 30, "only {} pairs", inputs.len());
    inputs
}

fn loaded(input: &Path) -> Objects {
    let number = FOLDER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("ambit-routes-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(input, folder.join("in.yaml")).unwrap();
    let loaded = load_once(std::slice::from_ref(&folder));
    fs::remove_dir_all(&folder).unwrap();
    // A slip in an input must not pass for a case.
    let errors: Vec<_> = loaded.faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{}: {errors:?}", input.display());
    let mut objects = Objects::default();
    for object in loaded.objects {
        objects.take(&Change::Applied(object));
    }
    objects
}

/// The Gateway that a Service's own labels name.
fn waypoint(objects: &Objects, service: &Key) -> Option<Key> {
    let meta = &objects.get::<Service>(service)?.meta;
    let namespace = meta.label("istio.io/use-waypoint-namespace").unwrap_or(&service.namespace);
    Some(Key::new(namespace, meta.label("istio.io/use-waypoint")?))
}

fn members(objects: &Objects) -> BTreeMap<Key, BTreeSet<Key>> {
    let mut members: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    for (key, service) in objects.all::<Service>() {
        let pods = objects.within::<Pod>(&key.namespace);
        let own = pods.filter(|(_, pod)| selects(&service.spec.selector, &pod.meta.labels));
        members.entry(key.clone()).or_default().extend(own.map(|(pod, _)| pod.clone()));
    }
    members
}

fn rendered(objects: &Objects) -> String {
    let (names, mesh) = (Names::default(), Mesh::new(objects));
    let ctx = Context { objects, names: &names, mesh: &mesh };
    let mut out = String::new();
    for (key, _) in objects.all::<Service>() {
        let waypoint = waypoint(objects, key);
        let namespace = waypoint.as_ref().map_or(&key.namespace, |waypoint| &waypoint.namespace);
        let routed = service(&ctx, key, namespace);
        writeln!(out, "Service {}/{} at a waypoint of {namespace}", key.namespace, key.name).unwrap();
        routed.http.iter().for_each(|rule| shown::http(rule, &mut out));
        // Most pairs are about requests.
        if routed.tcp != [default_tcp(&ctx, key)] {
            routed.tcp.iter().for_each(|rule| shown::tcp(rule, &mut out));
        }
        for one in &routed.destinations {
            let (destination, labels) = destination(&ctx, one, namespace);
            if destination.policy.is_some() || !destination.subsets.is_empty() {
                shown::destination(&destination, &mut out);
                assert_eq!(
                    labels,
                    destination.subsets.iter().flat_map(|one| one.labels.keys().cloned()).collect()
                );
            }
        }
        if !routed.client_labels.is_empty() {
            writeln!(out, "  client labels {:?}", routed.client_labels).unwrap();
        }
        let sources: Vec<String> = routed.sources.iter().map(ToString::to_string).collect();
        writeln!(out, "  from {}", sources.join(", ")).unwrap();
    }
    let members = members(objects);
    let facts = Facts {
        waypoint: &|service| waypoint(objects, service),
        accepted: &|_gateway| true,
        members: &members,
    };
    for change in objects.changes() {
        for one in verdict(&ctx, &change.object(), &facts) {
            writeln!(
                out,
                "{}: {}={:?} {}: {}",
                change.object(),
                one.kind,
                one.status,
                one.reason,
                one.message
            )
            .unwrap();
        }
    }
    out
}

/// What every Service is told at waypoints of these namespaces.
fn told(objects: &Objects, viewers: &BTreeSet<String>) -> BTreeMap<Key, Vec<(Routed, Destination)>> {
    let (names, mesh) = (Names::default(), Mesh::new(objects));
    let ctx = Context { objects, names: &names, mesh: &mesh };
    let told = objects.all::<Service>().map(|(key, _)| {
        let each = |viewer: &String| (service(&ctx, key, viewer), destination(&ctx, key, viewer).0);
        (key.clone(), viewers.iter().map(each).collect())
    });
    told.collect()
}

/// Every object of every pair is taken away and put back: what differs then must have been foreseen.
#[test]
fn a_change_affects_no_service_but_those_it_names() {
    let (mut differing, mut untouched) = (0, 0);
    for input in inputs() {
        let whole = loaded(&input);
        let viewers = whole.changes().into_iter().map(|one| one.object().namespace).collect();
        for change in whole.changes() {
            let Change::Applied(object) = &change else { continue };
            if object.kind() == ambit_crds::kind::Kind::ConfigMap {
                // The mesh's settings make everything stale.
                continue;
            }
            let mut without = whole.clone();
            without.take(&Change::Deleted(object.reference()));
            let (before, after) = (told(&whole, &viewers), told(&without, &viewers));
            let (names, mesh) = (Names::default(), Mesh::new(&whole));
            let gone = Context { objects: &without, names: &names, mesh: &mesh };
            let back = Context { objects: &whole, names: &names, mesh: &mesh };
            let affected = [affected(&gone, Some(object), None), affected(&back, None, Some(object))];
            for key in before.keys() {
                if after.get(key).is_some_and(|after| *after == before[key]) {
                    untouched += usize::from(!affected[0].contains(key));
                    continue;
                }
                differing += 1;
                for affected in &affected {
                    let place = format!("{}: {} changes {key:?}", input.display(), object.reference());
                    assert!(affected.contains(key), "{place}");
                }
            }
        }
    }
    assert!(differing > 50 && untouched > 50, "{differing} differ, {untouched} are left alone");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch, not a program's setting")]
fn manifests_give_what_stands_beside_them() {
    let bless = std::env::var("AMBIT_BLESS").is_ok();
    let mut wrong = Vec::new();
    for input in inputs() {
        let output = PathBuf::from(input.to_string_lossy().replace("-in.yaml", ".txt"));
        let actual = rendered(&loaded(&input));
        if bless {
            fs::write(&output, &actual).unwrap();
        } else if fs::read_to_string(&output).unwrap_or_default() != actual {
            wrong.push(format!("{}: now it is\n{actual}", output.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nif this is right, write it with AMBIT_BLESS=1", wrong.join("\n"));
}
