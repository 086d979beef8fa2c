//! Istio's Gateway: listeners at the edge.

use super::shared::{SERVER_PORT, SERVER_TLS};
use super::{Column, Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const DEFINITION: Definition = Definition {
    kind: Kind::IstioGateway,
    plural: "gateways",
    short: &["gw"],
    doc: "Listeners of an ingress in Istio's API. Gateway API has a kind of the same name.",
    spec: SPEC,
    needs_spec: true,
    columns: &[Column { name: "Hosts", path: ".spec.servers[*].hosts" }],
};

const SPEC: &[Field] = &[
    Field::labels("selector", "Labels of the pods that listen."),
    Field::list("servers", &Shape::Object(SERVER), "The listeners."),
];

const SERVER: &[Field] = &[
    Field::text("name", "Name of the listener."),
    Field::object("port", SERVER_PORT, "Where it listens.").required(),
    Field::text("bind", "Address it listens on; absent for all of them."),
    Field::texts("hosts", "Names it serves; `namespace/name` limits whose VirtualServices may take them.")
        .required(),
    Field::object("tls", SERVER_TLS, "TLS of the listener."),
    Field::text("defaultEndpoint", "Part of the API without effect."),
];
