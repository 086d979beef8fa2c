//! GatewayClass: who looks after the Gateways of a class.

use serde::Deserialize;

use crate::meta::ObjectMeta;

/// The controller of the classes that Ambit serves, and our name in statuses of routes.
pub const CONTROLLER_NAME: &str = "ambit.mesh/controller";

/// A GatewayClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayClass {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: GatewayClassSpec,
}

/// What a GatewayClass says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// The controller.
    pub controller_name: String,
    /// Settings for all Gateways of the class.
    #[serde(default)]
    pub parameters_ref: Option<ParametersRef>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}

/// An object that holds settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParametersRef {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; absent for cluster-wide kinds.
    #[serde(default)]
    pub namespace: Option<String>,
}
