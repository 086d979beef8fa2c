//! Changing a running lab: applying, deleting, editing, labelling and scaling objects.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Lab;
use super::pods::PodHandle;
use crate::error::LabError;
use crate::manifest::{DELETED, Document, Fault, Key, Place, parse, texts};
use crate::process::lock;
use crate::state::{State, relabel};

impl Lab {
    /// Applies objects live; faults concern single documents, the others are applied.
    pub fn apply(&self, yaml: &str) -> Result<Vec<Fault>, LabError> {
        let (documents, mut faults) = parse(Path::new("applied"), yaml);
        self.change(|state| {
            for mut document in documents {
                if !state.namespaces().contains(&document.key.namespace) && !document.key.namespace.is_empty()
                {
                    // The API server would want the namespace first; the lab makes it.
                    tracing::debug!(namespace = document.key.namespace, "namespace appears");
                }
                document.place.file = state.folders.inside("applied").join(document.key.file_name());
                state.overlay.insert(document.key.clone(), document);
            }
            Ok(())
        })?;
        faults.extend(self.faults());
        Ok(faults)
    }

    /// Deletes objects live.
    pub fn delete(&self, keys: &[Key]) -> Result<(), LabError> {
        self.change(|state| {
            for key in keys {
                let Some(document) = state.effective.get(key) else { return Err(LabError::Unknown(key.to_string())) };
                if state.owned(document) {
                    let file = &document.place.file;
                    std::fs::remove_file(file).map_err(LabError::system(format!("removing {}", file.display())))?;
                    continue;
                }
                let place = document.place.clone();
                let mut value = serde_json::json!({"kind": key.kind, "metadata": {"name": key.name, "annotations": {DELETED: "true"}}});
                value["apiVersion"] = document.value.get("apiVersion").cloned().unwrap_or_default();
                if !key.namespace.is_empty() {
                    value["metadata"]["namespace"] = key.namespace.clone().into();
                }
                state.overlay.insert(key.clone(), Document { key: key.clone(), value, place });
            }
            Ok(())
        })
    }

    /// Changes one object by a function; a namespace that is only implied comes into being, and a pod that
    /// belongs to a Deployment changes alone.
    pub fn edit(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Value) -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        self.change(|state| {
            let owned = state.pods.values_mut().find(|pod| {
                key.kind == "Pod" && pod.owner.kind != "Pod" && pod.namespace() == key.namespace && pod.name() == key.name
            });
            if let Some(pod) = owned {
                return change(&mut pod.object);
            }
            let implied = || {
                let value = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": key.name}});
                Document { key: key.clone(), value, place: Place { file: "implied".into(), line: 1 } }
            };
            let mut document = match state.effective.get(key) {
                Some(document) => document.clone(),
                None if key.kind == "Namespace" && state.namespaces().contains(&key.name) => implied(),
                None => return Err(LabError::Unknown(key.to_string())),
            };
            change(&mut document.value)?;
            if state.owned(&document) {
                // One object, which the controller and its users change alike.
                let file = &document.place.file;
                return crate::manifest::write_whole(file, &document.value.to_string())
                    .map_err(LabError::system(format!("writing {}", file.display())));
            }
            state.overlay.insert(key.clone(), document);
            Ok(())
        })
    }

    /// Sets labels (`key=value`) or removes them (`key-`).
    pub fn label(&self, kind: &str, name: &str, changes: &[&str]) -> Result<(), LabError> {
        self.edit(&key_of(kind, name), |object| relabel(object, changes))
    }

    /// Changes a Deployment's or StatefulSet's number of pods.
    pub fn scale(&self, kind: &str, name: &str, replicas: usize) -> Result<(), LabError> {
        self.edit(&key_of(kind, name), |object| {
            object["spec"]["replicas"] = replicas.into();
            Ok(())
        })
    }

    /// Reads the manifests again after their files changed.
    pub fn reload(&self) -> Result<(), LabError> {
        self.change(|_state| Ok(()))
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Result<(), LabError>) -> Result<(), LabError> {
        let mut state = lock(&self.shared.state);
        change(&mut state)?;
        state.reconcile()?;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Deletes a pod as its owner's controller would see it: its endpoints go first, then its programs are asked to end,
    /// and what owns it makes another one.
    pub fn delete_pod(&self, pod: &PodHandle) -> Result<(), LabError> {
        self.change(|state| {
            let gone = state.pods.remove(&pod.uid).ok_or_else(|| LabError::Unknown(pod.key().to_string()))?;
            state.publish()?;
            state.take_down(vec![gone]);
            Ok(())
        })
    }

    /// Labels of namespaces that are written down.
    pub(crate) fn namespace_labels(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let state = lock(&self.shared.state);
        let written = state.effective.values().filter(|document| document.key.kind == "Namespace");
        written
            .map(|document| (document.key.name.clone(), texts(&document.value, &["metadata", "labels"])))
            .collect()
    }
}

/// Key from kubectl's words: a kind (also `ns`, `pod`, `deploy`, …) and `ns/name` or `name`.
pub fn key_of(kind: &str, name: &str) -> Key {
    let kind = match kind.to_lowercase().as_str() {
        "namespace" | "namespaces" | "ns" => "Namespace",
        "pod" | "pods" | "po" => "Pod",
        "service" | "services" | "svc" => "Service",
        "deployment" | "deployments" | "deploy" => "Deployment",
        "statefulset" | "statefulsets" | "sts" => "StatefulSet",
        "node" | "nodes" => "Node",
        "serviceaccount" | "sa" => "ServiceAccount",
        "authorizationpolicy" => "AuthorizationPolicy",
        "peerauthentication" => "PeerAuthentication",
        _ => kind,
    };
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    Key::new(kind, namespace, name)
}
