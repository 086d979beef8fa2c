//! What the lab tells the mesh and its own servers: generated objects, node rules, names. Only changes are written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::LabError;
use crate::manifest::{Document, Key, text, write_whole};
use crate::service::{names, rules};
use crate::state::State;
use crate::tokens::account_uid;

/// Kinds whose finished form the lab writes itself.
const FINISHED: &[&str] = &["Pod", "Service"];

impl State {
    /// Writes everything that follows from the state.
    pub(crate) fn publish(&mut self) -> Result<(), LabError> {
        let backends = self.backends();
        let next = Arc::new(names(&self.services, &backends));
        *self.names.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = next;
        let rules = rules(&self.services, &backends);
        if rules != self.rules {
            for node in self.network.nodes.values() {
                node.tool("nft", &["-f", "-"], rules.clone())?;
            }
            self.rules = rules;
        }
        self.write_files()
    }

    fn write_files(&mut self) -> Result<(), LabError> {
        let mut files = BTreeMap::new();
        let generated = self.folders.inside("generated");
        for object in self.generated() {
            let named = |path: &[&str]| text(&object, path).unwrap_or_default().to_owned();
            let key = Key::new(
                &named(&["kind"]),
                &named(&["metadata", "namespace"]),
                &named(&["metadata", "name"]),
            );
            files.insert(generated.join(key.file_name()), object.to_string());
        }
        let applied = self.folders.inside("applied");
        for (key, document) in &self.overlay {
            if document.removes() || !FINISHED.contains(&key.kind.as_str()) {
                files.insert(applied.join(key.file_name()), document.value.to_string());
            }
        }
        let gone: Vec<PathBuf> =
            self.written.keys().filter(|path| !files.contains_key(*path)).cloned().collect();
        for path in gone {
            std::fs::remove_file(&path).map_err(LabError::system(format!("removing {}", path.display())))?;
            self.written.remove(&path);
        }
        for (path, text) in files {
            if self.written.get(&path) != Some(&text) {
                write_whole(&path, &text).map_err(LabError::system(format!("writing {}", path.display())))?;
                self.written.insert(path, text);
            }
        }
        Ok(())
    }

    fn generated(&self) -> Vec<Value> {
        let mut objects = self.system.clone();
        objects.extend(self.pods.values().map(crate::pod::Pod::published));
        objects.extend(self.missing_namespaces());
        objects.extend(self.nodes());
        objects.extend(self.missing_accounts());
        let backends = self.backends();
        for service in &self.services {
            objects.extend(service.slices(&backends));
            let key = Key::new("Service", &service.namespace, &service.name);
            objects.extend(self.effective.get(&key).map(|document| finished(document, service.address)));
        }
        objects
    }

    fn missing_namespaces(&self) -> Vec<Value> {
        let names = self
            .namespaces()
            .into_iter()
            .filter(|name| !self.effective.contains_key(&Key::new("Namespace", "", name)));
        let object = |name: String| {
            let labels = json!({"kubernetes.io/metadata.name": name});
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        };
        names.map(object).collect()
    }

    fn missing_accounts(&self) -> Vec<Value> {
        let wanted = self.accounts().into_iter();
        let wanted = wanted.filter(|(namespace, name)| {
            !self.effective.contains_key(&Key::new("ServiceAccount", namespace, name))
        });
        let object = |(namespace, name): (String, String)| {
            let uid = account_uid(&namespace, &name);
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace, "uid": uid}})
        };
        wanted.map(object).collect()
    }

    /// Node objects; labels the user wrote for a node stay.
    fn nodes(&self) -> Vec<Value> {
        let object = |number: &crate::address::NodeNumber| {
            let name = number.name();
            let address = number.address();
            let mut labels = json!({
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "topology.kubernetes.io/region": "lab", "topology.kubernetes.io/zone": format!("lab-{}", number.0),
            });
            let written = self.effective.get(&Key::new("Node", "", &name));
            for (key, value) in written
                .iter()
                .flat_map(|document| document.at(&["metadata", "labels"])?.as_object())
                .flatten()
            {
                labels[key] = value.clone();
            }
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
                "status": {
                    "addresses": [
                        {"type": "InternalIP", "address": address.v4}, {"type": "InternalIP", "address": address.v6},
                        {"type": "Hostname", "address": name},
                    ],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            })
        };
        self.network.nodes.keys().map(object).collect()
    }
}

/// A Service as the API server would have completed it.
fn finished(document: &Document, address: Option<crate::address::Pair>) -> Value {
    let mut value = document.value.clone();
    let spec = &mut value["spec"];
    match address {
        Some(address) => {
            spec["clusterIP"] = json!(address.v4);
            spec["clusterIPs"] = json!(address.both());
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
        None => {
            spec["clusterIP"] = "None".into();
            spec["clusterIPs"] = json!(["None"]);
        }
    }
    value
}
