//! What routes refer to: found and permitted, or why not.

use ambit_api::wire::waypoint::Backend as WireBackend;
use ambit_crds::code::Code;
use ambit_crds::gateway_api::{BackendObject, GROUP};
use ambit_crds::meta::ObjectRef;
use ambit_crds::reference_grant::{GrantFrom, GrantTo, ReferenceGrant};

use super::super::Context;
use super::super::backend::Target;
use super::super::draft::Place;
use crate::objects::Key;

/// Why a reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// The Gateway API's reason for `ResolvedRefs`.
    pub(crate) reason: &'static str,
    pub(crate) code: Code,
    pub(crate) text: String,
}

/// The Service a route of `namespace` refers to.
pub(crate) fn key(object: &BackendObject, namespace: &str) -> Key {
    Key::new(object.namespace.as_deref().unwrap_or(namespace), &object.name)
}

/// The backend a route refers to.
pub(crate) fn resolve(
    place: &Place<'_>,
    route: &ObjectRef,
    object: &BackendObject,
) -> Result<WireBackend, Unresolved> {
    let unresolved = |reason, text| Err(Unresolved { reason, code: Code::BackendNotResolved, text });
    let key = key(object, &route.namespace);
    let BackendObject { group, kind, .. } = object;
    if !object.is_service() {
        return unresolved(
            "InvalidKind",
            format!("{group}/{kind} {} is no backend; name a Service", object.name),
        );
    }
    if key.namespace != route.namespace && !is_granted(place.ctx, route, &key) {
        let text = format!(
            "no ReferenceGrant in {} lets {}s of {} refer to Service {}",
            key.namespace, route.kind, route.namespace, key.name
        );
        return unresolved("RefNotPermitted", text);
    }
    let Some(port) = object.port else {
        return unresolved("UnsupportedValue", format!("Service {} needs a port here", object.name));
    };
    let target = Target { service: &key, subset: "", port: Some(port.get()) };
    target.find(place).map_err(|why| Unresolved { reason: "BackendNotFound", code: why.code, text: why.text })
}

fn is_granted(ctx: &Context<'_>, route: &ObjectRef, key: &Key) -> bool {
    let from = GrantFrom {
        group: GROUP.to_owned(),
        kind: route.kind.name().to_owned(),
        namespace: route.namespace.clone(),
    };
    let to = GrantTo { group: String::new(), kind: "Service".to_owned(), name: Some(key.name.clone()) };
    ctx.objects.within::<ReferenceGrant>(&key.namespace).any(|(_, grant)| grant.permits(&from, &to))
}
