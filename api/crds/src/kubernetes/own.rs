//! Objects of our own: made, changed and removed, and never taken from somebody else.

use std::collections::BTreeMap;
use std::io;

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::MANAGED;
use super::writer::failed;
use crate::meta::ObjectRef;

/// On objects that we make and that no Gateway owns.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "ambit-controller");
/// On everything of Ambit's.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "ambit");

/// The labels of objects that we make and that no Gateway owns.
pub(super) fn labels() -> BTreeMap<String, String> {
    [MANAGED_BY, PART_OF].into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Writes an object of ours, or removes it; what it looks like then.
pub(super) async fn set(
    api: &Api<DynamicObject>,
    object: &ObjectRef,
    manifest: Option<&Value>,
    writer: &str,
) -> io::Result<Option<DynamicObject>> {
    let held = api.get_opt(&object.name).await.map_err(|error| failed(object, error))?;
    match (held, manifest) {
        (None, None) => Ok(None),
        (Some(held), None) => remove(api, object, &held).await.map(|()| None),
        (None, Some(manifest)) => make(api, object, manifest, writer).await.map(Some),
        (Some(held), Some(manifest)) => {
            if !is_ours(&held, manifest) {
                return Err(foreign(object));
            }
            change(api, object, (&held, manifest), writer).await.map(Some)
        }
    }
}

/// Applied like any change, so that the server knows which fields are ours; but whoever made one of this name at the same
/// moment keeps it.
async fn make(
    api: &Api<DynamicObject>,
    object: &ObjectRef,
    manifest: &Value,
    writer: &str,
) -> io::Result<DynamicObject> {
    let parameters = PatchParams::apply(writer);
    let made = match api.patch(&object.name, &parameters, &Patch::Apply(manifest)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => return Err(foreign(object)),
        made => made.map_err(|error| failed(object, error))?,
    };
    let managers = made.metadata.managed_fields.iter().flatten();
    if managers.filter_map(|one| one.manager.as_deref()).all(|manager| manager == writer) {
        return Ok(made);
    }
    // It was there after all: what we put into it is taken back.
    let mut nothing = json!({ "apiVersion": manifest["apiVersion"], "kind": manifest["kind"] });
    nothing["metadata"] =
        json!({ "name": object.name, "namespace": object.namespace, "uid": made.metadata.uid });
    let undone = api.patch(&object.name, &parameters, &Patch::Apply(nothing)).await;
    undone.map_err(|error| failed(object, error))?;
    Err(foreign(object))
}

/// Server-side apply: fields that others set, and we do not, stay as they are.
async fn change(
    api: &Api<DynamicObject>,
    object: &ObjectRef,
    (held, manifest): (&DynamicObject, &Value),
    writer: &str,
) -> io::Result<DynamicObject> {
    let mut body = manifest.clone();
    // The UID makes the server refuse a successor of the same name that may be somebody else's.
    body["metadata"]["uid"] = held.metadata.uid.clone().unwrap_or_default().into();
    let parameters = PatchParams::apply(writer).force();
    let applied = api.patch(&object.name, &parameters, &Patch::Apply(body)).await;
    applied.map_err(|error| failed(object, error))
}

async fn remove(api: &Api<DynamicObject>, object: &ObjectRef, held: &DynamicObject) -> io::Result<()> {
    if held.metadata.labels.as_ref().is_none_or(|labels| !labels.contains_key(MANAGED)) {
        return Err(foreign(object));
    }
    let preconditions = Preconditions {
        uid: held.metadata.uid.clone(),
        resource_version: held.metadata.resource_version.clone(),
    };
    let parameters = DeleteParams {
        preconditions: Some(preconditions),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match api.delete(&object.name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(failed(object, error)),
    }
}

/// Made by us for the same owner: the label may be forged, the owner's UID is the API server's.
fn is_ours(held: &DynamicObject, manifest: &Value) -> bool {
    let label = held.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED)).map(String::as_str);
    let wanted = manifest["metadata"]["labels"][MANAGED].as_str();
    let owners = held.metadata.owner_references.iter().flatten();
    let owner = owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str()).next();
    let wanted_owner = manifest["metadata"]["ownerReferences"][0]["uid"].as_str();
    label == wanted && owner == wanted_owner
}

fn foreign(object: &ObjectRef) -> io::Error {
    let text = format!(
        "{object} exists and is not Ambit's, so it is left alone; rename the Gateway, or remove that object"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}
