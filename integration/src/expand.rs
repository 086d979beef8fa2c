//! Deployments, StatefulSets and Pods into groups of equal pods, and a group's pod into a Pod object. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use crate::image::{Program, program};
use crate::manifest::{Document, Fault, Key, Place, at, text, texts};
use crate::state::GRACE;

/// Letters Kubernetes uses in generated names.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Pods that shall exist, all alike.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) owner: Key,
    /// Changes when running pods must be replaced.
    pub(crate) revision: String,
    pub(crate) replicas: usize,
    pub(crate) metadata: Value,
    pub(crate) spec: Value,
    pub(crate) containers: Vec<Container>,
    pub(crate) place: Place,
}

/// A container and what it runs.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) program: Program,
}

/// Every group the documents ask for, and what cannot be run.
pub(crate) fn groups<'a>(documents: impl Iterator<Item = &'a Document>) -> (Vec<Group>, Vec<Fault>) {
    let (mut groups, mut faults) = (Vec::new(), Vec::new());
    for document in documents {
        let outcome = match document.key.kind.as_str() {
            "Pod" => group(document, &document.value, 1),
            "Deployment" | "StatefulSet" => replicated(document),
            _ => continue,
        };
        match outcome {
            Ok(group) => groups.push(group),
            Err(message) => faults.push(Fault { place: document.place.clone(), message }),
        }
    }
    (groups, faults)
}

fn replicated(document: &Document) -> Result<Group, String> {
    let template = document
        .at(&["spec", "template"])
        .ok_or_else(|| format!("{}: field spec.template is missing", document.key))?;
    let replicas = match document.at(&["spec", "replicas"]) {
        None => 1,
        Some(count) => count
            .as_u64()
            .ok_or_else(|| format!("{}: field spec.replicas must be a number, not {count}", document.key))?,
    };
    let labels = texts(template, &["metadata", "labels"]);
    let selector = texts(&document.value, &["spec", "selector", "matchLabels"]);
    if let Some((key, value)) = selector.iter().find(|(key, value)| labels.get(*key) != Some(value)) {
        return Err(format!(
            "{}: spec.selector asks for {key}={value}, which spec.template.metadata.labels lacks",
            document.key
        ));
    }
    group(document, template, usize::try_from(replicas).unwrap_or(usize::MAX))
}

fn group(document: &Document, template: &Value, replicas: usize) -> Result<Group, String> {
    let key = &document.key;
    let spec = template
        .get("spec")
        .filter(|spec| spec.is_object())
        .ok_or_else(|| format!("{key}: field spec is missing or no map"))?;
    let containers = at(spec, &["containers"]).and_then(Value::as_array).filter(|list| !list.is_empty());
    let containers = containers.ok_or_else(|| format!("{key}: spec.containers is missing or empty"))?;
    let pod = format!("{}/{}", key.namespace, key.name);
    let containers = containers.iter().map(|value| {
        let name =
            text(value, &["name"]).ok_or_else(|| format!("{key}: a container has no name"))?.to_owned();
        Ok(Container { name, value: value.clone(), program: program(&pod, value)? })
    });
    let containers = containers.collect::<Result<Vec<_>, String>>()?;
    let metadata = template.get("metadata").cloned().unwrap_or_else(|| json!({}));
    // A lone pod's labels change in place; those of a template belong to its revision.
    let identity = if key.kind == "Pod" { spec.to_string() } else { format!("{metadata}{spec}") };
    let (owner, spec, place) = (key.clone(), spec.clone(), document.place.clone());
    Ok(Group { owner, revision: hash(&identity), replicas, metadata, spec, containers, place })
}

impl Group {
    /// Names for `missing` more pods beside those that exist.
    pub(crate) fn names(&self, missing: usize, have: &[String], random: &mut impl Rng) -> Vec<String> {
        let mut names = Vec::new();
        let mut ordinal = 0;
        while names.len() < missing {
            let name = match self.owner.kind.as_str() {
                "Pod" => self.owner.name.clone(),
                "StatefulSet" => format!("{}-{ordinal}", self.owner.name),
                _ => {
                    let suffix: String =
                        (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
                    format!("{}-{}-{suffix}", self.owner.name, self.revision)
                }
            };
            ordinal += 1;
            if self.owner.kind == "Pod" || !(have.contains(&name) || names.contains(&name)) {
                names.push(name);
            }
        }
        names
    }

    /// The Pod object as its owner's controller would create it, without status.
    pub(crate) fn pod(&self, name: &str, uid: &str, node: &str) -> Value {
        let owner = &self.owner;
        let mut metadata = self.metadata.clone();
        metadata["name"] = name.into();
        metadata["namespace"] = owner.namespace.clone().into();
        metadata["uid"] = uid.into();
        match owner.kind.as_str() {
            "Deployment" => {
                metadata["labels"]["pod-template-hash"] = self.revision.clone().into();
                metadata["ownerReferences"] =
                    reference("ReplicaSet", &format!("{}-{}", owner.name, self.revision));
            }
            "StatefulSet" => {
                metadata["labels"]["statefulset.kubernetes.io/pod-name"] = name.into();
                metadata["ownerReferences"] = reference("StatefulSet", &owner.name);
            }
            _ => {}
        }
        let mut spec = self.spec.clone();
        spec["nodeName"] = node.into();
        if spec.get("serviceAccountName").is_none() {
            spec["serviceAccountName"] = "default".into();
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    /// How long its programs may take to end: waypoints as long as in a cluster, since they hand their traffic over.
    pub(crate) fn grace(&self) -> Duration {
        if self.containers.iter().all(|container| container.program != Program::Waypoint) {
            return GRACE;
        }
        let asked = at(&self.spec, &["terminationGracePeriodSeconds"]).and_then(Value::as_u64);
        Duration::from_secs(asked.unwrap_or(30)).max(GRACE)
    }

    /// The node the group asks for by name.
    pub(crate) fn asked_node(&self) -> Option<&str> {
        text(&self.spec, &["nodeName"])
            .or_else(|| text(&self.spec, &["nodeSelector", "kubernetes.io/hostname"]))
    }
}

fn reference(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": hash(name), "controller": true}])
}

/// A short name for a text, in Kubernetes' letters.
pub(crate) fn hash(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let mut rest = hasher.finish();
    let letters = LETTERS.len() as u64;
    let mut name = String::new();
    for _ in 0..9 {
        name.push(char::from(LETTERS[(rest % letters) as usize]));
        rest /= letters;
    }
    name
}

/// A random UID.
pub(crate) fn uid(random: &mut impl Rng) -> String {
    let bits: u128 = random.random();
    let hex = format!("{:032x}", (bits & !(0xf << 76) | (0x4 << 76)) & !(0x3 << 62) | (0x2 << 62));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::{groups, uid};
    use crate::manifest::parse;
    use rand::SeedableRng;
    use std::path::Path;

    #[test]
    fn deployments_and_stateful_sets_become_pods() {
        let text = "
kind: Deployment
metadata: {name: web-v1, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: hashicorp/http-echo}]}
---
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 3
  template: {spec: {containers: [{name: c, image: ambit/echo}]}}
";
        let (documents, _) = parse(Path::new("x"), text);
        let (groups, faults) = groups(documents.iter());
        assert_eq!(faults, []);
        let mut random = rand::rngs::SmallRng::seed_from_u64(7);
        let names = groups[0].names(2, &[], &mut random);
        assert!(
            names.iter().all(|name| name.starts_with(&format!("web-v1-{}-", groups[0].revision))),
            "{names:?}"
        );
        assert_eq!(groups[1].names(2, &["db-1".to_owned()], &mut random), ["db-0", "db-2"]);
        let pod = groups[0].pod(&names[0], &uid(&mut random), "node-1");
        assert_eq!(pod["metadata"]["labels"]["pod-template-hash"], groups[0].revision.as_str());
        assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["metadata"]["uid"].as_str().map(str::len), Some(36));
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        let cases = [
            ("spec: {template: {spec: {containers: []}}}", "spec.containers"),
            ("spec: {replicas: two, template: {}}", "spec.replicas"),
            ("spec: {}", "spec.template"),
            ("spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}}}", "a=b"),
            ("spec: {template: {spec: {containers: [{name: c, image: nginx}]}}}", "nginx"),
        ];
        for (spec, expected) in cases {
            let (documents, _) =
                parse(Path::new("x"), &format!("kind: Deployment\nmetadata: {{name: d}}\n{spec}\n"));
            let (_, faults) = groups(documents.iter());
            assert!(faults[0].message.contains(expected), "{spec}: {faults:?}");
        }
    }
}
