//! IstioOperator files: what they say in values of our chart, and by path what is not taken over.

use ambit_crds::mesh_config::MeshConfigSpec;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::chart::{Profile, lay};
use crate::failure::Failure;

/// An installation file of Istio's, understood.
#[derive(Debug, Default)]
pub(super) struct Understood {
    /// The profile that it names, if we have one like it.
    pub(super) profile: Option<Profile>,
    /// What it says, as values.
    pub(super) values: Value,
    /// What is not taken over, each with its path and why.
    pub(super) left: Vec<String>,
}

/// Our part for each of theirs.
const COMPONENTS: [(&str, &str); 3] = [("pilot", "controller"), ("ztunnel", "ztunnel"), ("cni", "node")];

/// What may be said of each, under `components.X.k8s` and `values.X`, and what we call it.
const SETTINGS: [(&str, &str); 6] = [
    ("resources", "resources"),
    ("nodeSelector", "nodeSelector"),
    ("tolerations", "tolerations"),
    ("priorityClassName", "priorityClassName"),
    ("podAnnotations", "podAnnotations"),
    ("affinity", "affinity"),
];

/// Single fields, below `spec`, and their values.
const FIELDS: [(&str, &str); 16] = [
    ("components.pilot.k8s.replicaCount", "controller.replicas"),
    ("values.pilot.replicaCount", "controller.replicas"),
    ("values.pilot.autoscaleMin", "controller.replicas"),
    ("values.cni.cniBinDir", "node.cni.binDir"),
    ("values.cni.cniConfDir", "node.cni.confDir"),
    ("values.ztunnel.terminationGracePeriodSeconds", "ztunnel.terminationGracePeriodSeconds"),
    ("values.global.imagePullPolicy", "image.pullPolicy"),
    ("values.global.imagePullSecrets", "image.pullSecrets"),
    ("values.global.network", "cluster.network"),
    ("values.global.multiCluster.clusterName", "cluster.name"),
    ("values.global.proxy.clusterDomain", "cluster.domain"),
    ("values.global.hub", "image.hub"),
    ("values.global.tag", "image.tag"),
    ("hub", "image.hub"),
    ("tag", "image.tag"),
    ("values.global.trustDomain", "mesh.trustDomain"),
];

/// Whether this is one.
pub(super) fn is_one(document: &Value) -> bool {
    let group = document["apiVersion"].as_str().and_then(|version| version.split('/').next());
    document["kind"] == "IstioOperator" && group == Some("install.istio.io")
}

/// What it says.
pub(super) fn read(operator: &Value) -> Understood {
    let mut spec = operator["spec"].clone();
    let mut understood = Understood { values: json!({}), ..Understood::default() };
    understood.profile(take(&mut spec, "profile"));
    understood.images(&mut spec);
    for (from, to) in FIELDS {
        if let Some(value) = take(&mut spec, from) {
            put(&mut understood.values, to, value);
        }
    }
    for (theirs, ours) in COMPONENTS {
        for (from, to) in SETTINGS {
            for path in [format!("values.{theirs}.{from}"), format!("components.{theirs}.k8s.{from}")] {
                match take(&mut spec, &path) {
                    Some(_) if to == "affinity" && ours != "controller" => {
                        understood.leave(&path, "it runs on every node; say which with nodeSelector");
                    }
                    Some(value) => put(&mut understood.values, &format!("{ours}.{to}"), value),
                    None => {}
                }
            }
        }
        understood.enabled(&mut spec, theirs);
    }
    // It is there whether somebody asks for it or not.
    take(&mut spec, "components.base.enabled");
    for path in ["values.meshConfig", "meshConfig"] {
        if let Some(mesh) = take(&mut spec, path) {
            understood.mesh(path, mesh);
        }
    }
    let mut rest = Vec::new();
    leaves(&spec, &mut String::new(), &mut rest);
    rest.iter().for_each(|path| understood.leave(path, reason(path)));
    understood
}

/// What a mesh configuration says that has no effect.
///
/// # Errors
/// When it says what is no field of it, or not of that type.
pub(super) fn mesh(mesh: &Value) -> Result<Vec<String>, Failure> {
    let spec: MeshConfigSpec = serde_json::from_value(mesh.clone()).map_err(|error| {
        let mend = "correct or remove it: mesh takes the fields of Istio's MeshConfig";
        Failure::new(format!("mesh: {error}"), mend)
    })?;
    Ok(spec
        .unused()
        .into_iter()
        .map(|field| format!("mesh.{field} is known, but nothing obeys it yet"))
        .collect())
}

impl Understood {
    fn leave(&mut self, path: &str, why: &str) {
        self.left.push(format!("spec.{path} is not taken over: {why}"));
    }

    fn profile(&mut self, named: Option<Value>) {
        let Some(named) = named else { return };
        let name = named.as_str().unwrap_or_default();
        // Ambient is all there is.
        self.profile =
            if name == "ambient" { Some(Profile::Default) } else { Profile::from_str(name, false).ok() };
        if self.profile.is_none() {
            self.leave("profile", &format!("there is no profile {name}; the flag --profile counts"));
        }
    }

    /// Istio's own images are no images of ours, and their versions none of ours.
    fn images(&mut self, spec: &mut Value) {
        for (hub, tag) in [("hub", "tag"), ("values.global.hub", "values.global.tag")] {
            let named = at(spec, hub).and_then(Value::as_str).map(str::to_owned);
            let is_istios =
                named.as_deref().is_none_or(|hub| hub.split('/').any(|part| part.starts_with("istio")));
            if !is_istios {
                continue;
            }
            for path in [hub, tag] {
                if take(spec, path).is_some() {
                    self.leave(
                        path,
                        "it names Istio's images; name Ambit's with --set image.hub=HUB,image.tag=TAG",
                    );
                }
            }
        }
    }

    fn enabled(&mut self, spec: &mut Value, component: &str) {
        let path = format!("components.{component}.enabled");
        if take(spec, &path) == Some(Value::Bool(false)) {
            self.leave(&path, "the mesh does not work without it");
        }
    }

    /// Field by field: one that is wrong does not take the others with it.
    fn mesh(&mut self, path: &str, mesh: Value) {
        let Value::Object(fields) = mesh else { return self.leave(path, "it is no map") };
        for (name, value) in fields {
            let one = json!({ (&name): value });
            match serde_json::from_value::<MeshConfigSpec>(one.clone()) {
                Ok(_) => lay(json!({ "mesh": one }), &mut self.values),
                Err(error) => self.leave(&format!("{path}.{name}"), &error.to_string()),
            }
        }
    }
}

/// Why something is left.
fn reason(path: &str) -> &'static str {
    let begins = |prefix: &str| path.starts_with(prefix);
    if begins("components.ingressGateways")
        || begins("components.egressGateways")
        || begins("values.gateways")
    {
        "apply a Gateway with gatewayClassName ambit in its place; it is deployed for you"
    } else if begins("revision") {
        "there is one revision of Ambit in a cluster"
    } else if begins("values.sidecarInjectorWebhook")
        || begins("values.global.proxy")
        || begins("values.istio_cni")
    {
        "there are no sidecars"
    } else {
        "Ambit has no such setting"
    }
}

/// The value at a path, which is then no longer there.
fn take(spec: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = spec;
    for name in parent.split('.').filter(|name| !name.is_empty()) {
        place = place.as_object_mut()?.get_mut(name)?;
    }
    place.as_object_mut()?.remove(last)
}

fn at<'a>(spec: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(spec, |place, name| place.get(name))
}

fn put(values: &mut Value, path: &str, value: Value) {
    let nested = path.rsplit('.').fold(value, |inside, name| {
        let mut fields = Map::new();
        fields.insert(name.to_owned(), inside);
        Value::Object(fields)
    });
    lay(nested, values);
}

/// Paths of everything that says something.
fn leaves(value: &Value, path: &mut String, found: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, one) in fields {
                let before = path.len();
                if before > 0 {
                    path.push('.');
                }
                path.push_str(name);
                leaves(one, path, found);
                path.truncate(before);
            }
        }
        _ => found.push(path.clone()),
    }
}
