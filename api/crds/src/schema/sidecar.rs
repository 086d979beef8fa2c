//! Sidecar: what the proxy beside a pod would see. Ambit has none: the kind is taken so that manifests apply, and answered.

use super::shared::{CONNECTION_POOL, PORT_SELECTOR, SERVER_PORT, SERVER_TLS, WORKLOAD_SELECTOR};
use super::{Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const DEFINITION: Definition = Definition {
    kind: Kind::Sidecar,
    plural: "sidecars",
    short: &[],
    doc: "What proxies beside pods see. Ambit runs no such proxies; its status says so.",
    spec: &[
        WORKLOAD_SELECTOR,
        Field::list("ingress", &Shape::Object(INGRESS), "Listeners for what comes in."),
        Field::list("egress", &Shape::Object(EGRESS), "Listeners for what goes out."),
        Field::object("inboundConnectionPool", CONNECTION_POOL, "Limits of what comes in."),
        Field::object("outboundTrafficPolicy", OUTBOUND, "What happens to unknown destinations."),
    ],
    needs_spec: false,
    columns: &[],
};

const CAPTURE: Field =
    Field::choice("captureMode", &["DEFAULT", "IPTABLES", "NONE"], "How traffic comes to the listener.");

const INGRESS: &[Field] = &[
    Field::object("port", SERVER_PORT, "Where it listens.").required(),
    Field::text("bind", "Address it listens on."),
    CAPTURE,
    Field::text("defaultEndpoint", "Where it sends what comes in."),
    Field::object("tls", SERVER_TLS, "TLS of the listener."),
    Field::object("connectionPool", CONNECTION_POOL, "Limits of the listener."),
];

const EGRESS: &[Field] = &[
    Field::object("port", SERVER_PORT, "Where it listens."),
    Field::text("bind", "Address it listens on."),
    CAPTURE,
    Field::texts("hosts", "What is visible, `namespace/name`.").required(),
];

const OUTBOUND: &[Field] = &[
    Field::choice("mode", &["REGISTRY_ONLY", "ALLOW_ANY"], "Whether unknown destinations are let through."),
    Field::object(
        "egressProxy",
        &[
            Field::text("host", "Name of the service.").required(),
            Field::text("subset", "A subset of it."),
            Field::object("port", PORT_SELECTOR, "A port of it."),
        ],
        "Where they are sent.",
    ),
];
