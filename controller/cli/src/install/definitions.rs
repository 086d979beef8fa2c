//! Definitions of kinds: Istio's, which are part of Ambit, and the Gateway API's, which a cluster shares with others.

use std::fs;
use std::path::Path;

use ambit_crds::schema::{DEFINITIONS, manifest};
use serde_json::Value;

use super::apply::{Outcome, Report, apply};
use crate::chart;
use crate::cluster::{Cluster, Verb, kinds, label, name, told};
use crate::failure::Failure;

/// The Gateway API's definitions as they were published, with their notice; empty if this was built without them.
const GATEWAY_API: &str = include_str!(concat!(env!("OUT_DIR"), "/gateway-api.yaml"));

/// One that every version of the Gateway API has.
const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";

/// Where people find them.
const PUBLISHED: &str =
    "https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/standard-install.yaml";

/// The definitions that are part of Ambit.
pub(crate) fn ours() -> Vec<Value> {
    DEFINITIONS.iter().map(|definition| manifest(definition)).collect()
}

/// Whether this was built with the Gateway API's.
pub(crate) fn can_bring_gateway_api() -> bool {
    !GATEWAY_API.is_empty()
}

/// The Gateway API's: from a file, or those that were built in; none if none were.
pub(super) fn gateway_api(file: Option<&Path>) -> Result<Option<Vec<Value>>, Failure> {
    let text = match file {
        None => GATEWAY_API.to_owned(),
        Some(file) => fs::read_to_string(file).map_err(|error| {
            let says = format!("{} cannot be read: {error}", file.display());
            Failure::new(says, format!("fetch it: curl -L -o {} {PUBLISHED}", file.display()))
        })?,
    };
    let documents = chart::documents(&text).map_err(|says| {
        Failure::new(format!("definitions of the Gateway API: {says}"), format!("take those of {PUBLISHED}"))
    })?;
    let definitions: Vec<Value> =
        documents.into_iter().filter(|one| one["kind"] == kinds::DEFINITION.kind).collect();
    match (definitions.is_empty(), file) {
        (false, _) => Ok(Some(definitions)),
        (true, None) => Ok(None),
        (true, Some(file)) => Err(Failure::new(
            format!("{} holds no CustomResourceDefinition", file.display()),
            format!("take {PUBLISHED}"),
        )),
    }
}

/// Brings what is missing. Others' definitions are never changed, and none is ever removed.
pub(super) fn bring(
    cluster: &Cluster,
    gateway_api: Option<&[Value]>,
    report: &mut Report,
) -> Result<(), Failure> {
    if gateway_api.is_none() {
        is_there(cluster)?;
    }
    for definition in ours() {
        let outcome = match held(cluster, &definition)? {
            Some(held) if label(&held, "app.kubernetes.io/part-of") != Some("ambit") => Outcome::LeftAlone,
            // Its fields are Ambit's version's; who has edited them has edited what objects mean.
            _ => apply(cluster, &definition, Verb::ApplyForced)?,
        };
        report.add(&definition, outcome)?;
    }
    for definition in gateway_api.unwrap_or_default() {
        let outcome = match held(cluster, definition)? {
            Some(_) => Outcome::LeftAlone,
            None => apply(cluster, definition, Verb::Apply)?,
        };
        report.add(definition, outcome)?;
    }
    Ok(())
}

fn held(cluster: &Cluster, definition: &Value) -> Result<Option<Value>, Failure> {
    let held = cluster.get(&kinds::DEFINITION, "", name(definition));
    held.map_err(|refused| cluster.failed(&told(definition), &refused))
}

/// Without them there are no waypoints.
fn is_there(cluster: &Cluster) -> Result<(), Failure> {
    let held = cluster.get(&kinds::DEFINITION, "", GATEWAYS);
    match held.map_err(|refused| cluster.failed(GATEWAYS, &refused))? {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            "the cluster has no Gateway API, and this ambit was built without its definitions",
            format!(
                "build it with them (cargo xtask ambit), or fetch them and name the file with --gateway-api: {PUBLISHED}"
            ),
        )),
    }
}
