//! A cluster's objects as a folder of manifests: what the mesh reads of them, for programs that read folders.

use std::path::Path;

use serde_json::Value;

use super::{Cluster, SYSTEM};
use crate::error::LabError;

/// What the mesh reads, as `kubectl api-resources` names it.
const RESOURCES: [&str; 15] = [
    "namespaces",
    "nodes",
    "serviceaccounts",
    "pods",
    "services",
    "endpointslices.discovery.k8s.io",
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "virtualservices.networking.istio.io",
    "destinationrules.networking.istio.io",
    "gatewayclasses.gateway.networking.k8s.io",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
    "referencegrants.gateway.networking.k8s.io",
];

/// The one ConfigMap of it: the mesh's settings.
const MESH: &str = "metadata.name=ambit";

impl Cluster {
    /// Writes every object that the mesh reads into a folder, one file for each kind.
    pub fn export(&self, folder: &Path) -> Result<(), LabError> {
        let failed = || LabError::system(format!("writing {}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed())?;
        let served = self.must(&["api-resources", "--verbs=list", "-o", "name"])?;
        // Definitions may not be installed.
        for resource in RESOURCES.into_iter().filter(|resource| served.lines().any(|line| line == *resource))
        {
            let listed = self.get(&["--all-namespaces", resource])?;
            let text = documents(&listed)?;
            std::fs::write(folder.join(format!("{resource}.yaml")), text).map_err(failed())?;
        }
        let settings = self.get(&["-n", SYSTEM, "configmaps", "--field-selector", MESH])?;
        std::fs::write(folder.join("mesh.yaml"), documents(&settings)?).map_err(failed())
    }
}

/// The items of a list as documents; JSON is YAML.
fn documents(listed: &Value) -> Result<String, LabError> {
    let items = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = items.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
    Ok(texts.map_err(|error| LabError::Manifest(error.to_string()))?.join("\n---\n"))
}
