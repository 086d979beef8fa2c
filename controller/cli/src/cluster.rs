//! The cluster that commands work on: what they ask of its API server, in one place.
//!
//! Everything goes through [`Api`], one call at a time, so that the commands' decisions are tested against a server in
//! memory. The real one needs the feature `kubernetes`.

#[cfg(test)]
pub(crate) mod fake;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod resource;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;
pub(crate) use resource::{Resource, kinds};

/// Which cluster. Without these: the current context of $KUBECONFIG or ~/.kube/config, or the cluster that this runs in.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct To {
    /// A context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// A kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// What is done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Read.
    Get,
    /// Make.
    Post,
    /// Remove, and what depends on it afterwards.
    Delete,
    /// Change the fields that the body has; null removes one.
    Merge,
    /// Server-side apply; in a conflict the server refuses.
    Apply,
    /// Server-side apply; in a conflict the fields become ours.
    ApplyForced,
}

/// Why an API server does not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{says}")]
pub(crate) struct Refused {
    /// Its status; 0 if it did not answer.
    pub(crate) code: u16,
    /// Its reason.
    pub(crate) says: String,
}

/// An API server.
pub(crate) trait Api {
    /// One call.
    fn call(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Refused>;
}

/// A cluster.
pub(crate) struct Cluster {
    api: Box<dyn Api>,
    /// The flags that name it, for commands that are suggested; empty or with a blank before it.
    pub(crate) flags: String,
}

impl To {
    /// Whether one is named.
    pub(crate) fn is_named(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }

    /// The cluster, if it answers.
    pub(crate) fn open(&self) -> Result<Cluster, Failure> {
        let context = self.context.iter().map(|name| format!(" --context {name}"));
        let file = self.kubeconfig.iter().map(|file| format!(" --kubeconfig {}", file.display()));
        Ok(Cluster { api: self.api()?, flags: context.chain(file).collect() })
    }

    #[cfg(feature = "kubernetes")]
    fn api(&self) -> Result<Box<dyn Api>, Failure> {
        kubernetes::Server::open(self).map(|server| Box::new(server) as Box<dyn Api>)
    }

    #[cfg(not(feature = "kubernetes"))]
    fn api(&self) -> Result<Box<dyn Api>, Failure> {
        Err(Failure::new(
            "this ambit was built for folders and labs alone",
            "build it for clusters: cargo xtask ambit (or --features kubernetes)",
        ))
    }
}

impl Cluster {
    /// A cluster behind an API server of a test.
    #[cfg(test)]
    pub(crate) fn of(api: impl Api + 'static) -> Self {
        Self { api: Box::new(api), flags: String::new() }
    }

    /// An object, if it exists.
    pub(crate) fn get(&self, kind: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, Refused> {
        match self.api.call(Verb::Get, &kind.path(namespace, name), None) {
            Ok(object) => Ok(Some(object)),
            Err(refused) if refused.code == 404 => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// The object that a manifest describes, if it exists.
    pub(crate) fn held(&self, manifest: &Value) -> Result<Option<Value>, Refused> {
        let (kind, namespace, name) = whose(manifest)?;
        self.get(kind, namespace, name)
    }

    /// Objects of a kind: of one namespace, or of all where none is named; none where the kind is not served.
    /// `labels` is a selector.
    pub(crate) fn list(&self, kind: &Resource, namespace: &str, labels: &str) -> Result<Vec<Value>, Refused> {
        let query = match labels {
            "" => String::new(),
            labels => format!("?labelSelector={}", escaped(labels)),
        };
        match self.api.call(Verb::Get, &format!("{}{query}", kind.path(namespace, "")), None) {
            Ok(mut list) => {
                let mut items = match list["items"].take() {
                    Value::Array(items) => items,
                    _ => Vec::new(),
                };
                // A list says once what all its items are.
                for item in &mut items {
                    item["apiVersion"] = kind.api_version.into();
                    item["kind"] = kind.kind.into();
                }
                Ok(items)
            }
            Err(refused) if refused.code == 404 => Ok(Vec::new()),
            Err(refused) => Err(refused),
        }
    }

    /// Makes an object or changes it; what it looks like then.
    pub(crate) fn apply(&self, manifest: &Value, verb: Verb) -> Result<Value, Refused> {
        let (kind, namespace, name) = whose(manifest)?;
        self.api.call(verb, &kind.path(namespace, name), Some(manifest))
    }

    /// Makes an object; what it looks like then. Questions are objects, too.
    pub(crate) fn create(&self, manifest: &Value) -> Result<Value, Refused> {
        let (kind, namespace, _) = whose(manifest)?;
        self.api.call(Verb::Post, &kind.path(namespace, ""), Some(manifest))
    }

    /// Changes some fields of an object.
    pub(crate) fn merge(&self, object: &Value, fields: &Value) -> Result<Value, Refused> {
        let (kind, namespace, name) = whose(object)?;
        self.api.call(Verb::Merge, &kind.path(namespace, name), Some(fields))
    }

    /// Removes exactly this object, as it was read; whether it was still there.
    pub(crate) fn delete(&self, object: &Value) -> Result<bool, Refused> {
        let (kind, namespace, name) = whose(object)?;
        let mut options =
            json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            options["preconditions"] = json!({ "uid": uid });
        }
        match self.api.call(Verb::Delete, &kind.path(namespace, name), Some(&options)) {
            Ok(_) => Ok(true),
            Err(refused) if refused.code == 404 => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// What stands at a path.
    pub(crate) fn read(&self, path: &str) -> Result<Value, Refused> {
        self.api.call(Verb::Get, path, None)
    }

    /// A question that the API server did not answer, with the command that shows why.
    pub(crate) fn failed(&self, what: &str, refused: &Refused) -> Failure {
        let mend = match refused.code {
            0 => format!("see whether it answers: kubectl{} version", self.flags),
            401 => "renew the credentials of the kubeconfig".to_owned(),
            403 => format!("ask for the right, or for somebody who has it: ambit check --pre{}", self.flags),
            _ => format!("see what is wrong: ambit check{}", self.flags),
        };
        Failure::new(format!("{what}: {refused}"), mend)
    }
}

/// Kind, namespace and name of an object.
pub(crate) fn whose(object: &Value) -> Result<(&'static Resource, &str, &str), Refused> {
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let resource = Resource::find(&api_version, &kind).ok_or_else(|| Refused {
        code: 0,
        says: format!("{kind} of {api_version} is no kind that ambit works with"),
    })?;
    let metadata = &object["metadata"];
    Ok((resource, metadata["namespace"].as_str().unwrap_or_default(), name(object)))
}

/// An object's name.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// An object's namespace; empty for one of the cluster.
pub(crate) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// A label of an object.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// An annotation of an object.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// An object as people name it: `deployment ambit-system/ambit-controller`.
pub(crate) fn told(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    match namespace(object) {
        "" => format!("{kind} {}", name(object)),
        namespace => format!("{kind} {namespace}/{}", name(object)),
    }
}

/// A text as a part of a query.
fn escaped(text: &str) -> String {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./".contains(byte);
    let each = text.bytes().map(|byte| match safe(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}
