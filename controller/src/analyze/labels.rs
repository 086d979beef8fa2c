//! Labels and annotations of the mesh: misspelt ones, ones in the wrong place, and values that mean nothing.

use ambit_crds::code::Code;
use ambit_crds::document::suggest;
use ambit_crds::meta::Map;
use ambit_crds::object::Object;

use super::Report;

/// Labels that mean something here.
const LABELS: [&str; 7] = [
    "istio.io/dataplane-mode",
    "istio.io/use-waypoint",
    "istio.io/use-waypoint-namespace",
    "istio.io/use-waypoint-canary",
    "istio.io/use-waypoint-canary-namespace",
    "istio.io/ingress-use-waypoint",
    "istio.io/waypoint-for",
];
/// Annotations that mean something here.
const ANNOTATIONS: [&str; 3] =
    ["istio.io/use-waypoint-canary-weight", "istio.io/dry-run", "ambit.mesh/waypoint-only"];
/// Read in either place.
const EITHER: [&str; 1] = ["ambit.mesh/waypoint"];
/// Somebody else's, or written by us: near to one of the above, and not meant to be it.
const OTHERS: [&str; 4] = ["istio.io/rev", "istio.io/tag", "istio.io/config", "ambit.mesh/deleted"];
/// Prefixes of keys of the mesh.
const PREFIXES: [&str; 2] = ["istio.io/", "ambit.mesh/"];
/// Keys with a closed set of values.
const VALUES: [(&str, &[&str]); 6] = [
    ("istio.io/dataplane-mode", &["ambient", "none"]),
    ("istio.io/waypoint-for", &["service", "workload", "all", "none"]),
    ("istio.io/ingress-use-waypoint", &["true", "false"]),
    ("istio.io/dry-run", &["true", "false"]),
    ("ambit.mesh/waypoint", &["auto"]),
    ("ambit.mesh/waypoint-only", &["true", "false"]),
];

/// Where a key stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Label,
    Annotation,
}

/// Checks an object's own, and those of its template.
pub(super) fn check(object: &Object, report: &mut Report) {
    let meta = object.meta();
    let (Object::Deployment(set) | Object::StatefulSet(set)) = object else {
        return both("metadata", &meta.labels, &meta.annotations, report);
    };
    let template = &set.spec.template.metadata;
    both("spec.template.metadata", &template.labels, &template.annotations, report);
    for key in meta.labels.keys().filter(|key| LABELS.contains(&key.as_str())) {
        if !template.labels.contains_key(key) {
            let message = format!("it counts on pods, and the pods of this {} do not have it", object.kind());
            let mend = "move it to spec.template.metadata.labels";
            report.warning(Code::LabelName, &format!("metadata.labels.{key}"), message, mend);
        }
    }
}

fn both(field: &str, labels: &Map, annotations: &Map, report: &mut Report) {
    for (place, name, map) in
        [(Place::Label, "labels", labels), (Place::Annotation, "annotations", annotations)]
    {
        for (key, value) in map {
            one(place, &format!("{field}.{name}.{key}"), (key, value), report);
        }
    }
}

fn one(place: Place, field: &str, (key, value): (&str, &str), report: &mut Report) {
    if let Some((_, values)) = VALUES.iter().find(|(known, _)| *known == key)
        && !values.contains(&value)
    {
        let near = suggest(value, values.iter().copied());
        let mend = near.map_or(format!("write {}", values.join(" or ")), |near| format!("write {near}"));
        report.warning(Code::LabelValue, field, format!("{value:?} means nothing here"), mend);
    }
    let wrong_place = match place {
        Place::Label => ANNOTATIONS.contains(&key).then_some("annotation"),
        Place::Annotation => LABELS.contains(&key).then_some("label"),
    };
    if let Some(right) = wrong_place {
        let message = format!("it counts only as {}", with_article(right));
        report.warning(Code::LabelName, field, message, format!("move it to {right}s"));
        return;
    }
    let known = || LABELS.into_iter().chain(ANNOTATIONS).chain(EITHER);
    let is_ours = PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    if !is_ours || known().chain(OTHERS).any(|known| known == key) {
        return;
    }
    if let Some(near) = suggest(key, known()) {
        let message = "nothing reads this key".to_owned();
        report.warning(Code::LabelName, field, message, format!("did you mean {near}?"));
    }
}

fn with_article(word: &str) -> String {
    format!("{} {word}", if word.starts_with('a') { "an" } else { "a" })
}
