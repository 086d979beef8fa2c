//! Whether the caller may install.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Finding;
use crate::chart::{self, Wanted};
use crate::cluster::{Cluster, kinds, namespace, whose};
use crate::failure::Failure;

/// What an installation does with each of its objects.
const VERBS: [&str; 3] = ["get", "create", "patch"];

/// Asks the API server about every kind of an installation.
pub(super) fn rights(cluster: &Cluster) -> Result<Vec<Finding>, Failure> {
    let objects = chart::render(&Wanted::default().values()?)?;
    let mut missing = Vec::new();
    for (group, resource, namespace) in needed(&objects) {
        for verb in VERBS {
            let review = review((group, resource, namespace), verb);
            let answer = cluster.create(&review);
            let answer = answer.map_err(|refused| cluster.failed("what you may do", &refused))?;
            if answer["status"]["allowed"] != true {
                missing.push(format!("{verb} {resource}"));
            }
        }
    }
    Ok(vec![match missing.is_empty() {
        true => Finding::ok("you may install Ambit"),
        false => Finding::error(
            format!("you may not install Ambit: the cluster does not let you {}", missing.join(", ")),
            "install as somebody who may: --context NAME; or be bound to the ClusterRole cluster-admin meanwhile",
        ),
    }])
}

/// Group, resource and namespace of everything that an installation touches.
fn needed(objects: &[Value]) -> BTreeSet<(&'static str, &'static str, &str)> {
    let of = |object| whose(object).ok().map(|(kind, ..)| (kind.group(), kind.plural(), namespace(object)));
    let definitions = (kinds::DEFINITION.group(), kinds::DEFINITION.plural(), "");
    objects.iter().filter_map(of).chain([definitions]).collect()
}

fn review((group, resource, namespace): (&str, &str, &str), verb: &str) -> Value {
    let mut asked = json!({ "group": group, "resource": resource, "verb": verb });
    if !namespace.is_empty() {
        asked["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": kinds::ACCESS_REVIEW.api_version, "kind": kinds::ACCESS_REVIEW.kind,
        "spec": { "resourceAttributes": asked },
    })
}
