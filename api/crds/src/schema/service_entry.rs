//! ServiceEntry, WorkloadEntry and WorkloadGroup: what the mesh should know of hosts and workloads outside Kubernetes.

use super::shared::{EXPORT_TO, WORKLOAD_SELECTOR};
use super::{COUNT, Column, Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const SERVICE_ENTRY: Definition = Definition {
    kind: Kind::ServiceEntry,
    plural: "serviceentries",
    short: &["se"],
    doc: "A host that is no Service of Kubernetes.",
    spec: &[
        Field::new(
            "hosts",
            Shape::List(&Shape::Text, Some(256)),
            "Names of the host; the first label may be a wildcard.",
        )
        .required(),
        Field::new(
            "addresses",
            Shape::List(&Shape::Text, Some(256)),
            "Addresses or CIDRs that clients dial.",
        ),
        Field::new("ports", Shape::List(&Shape::Object(PORT), Some(256)), "Ports of the host."),
        Field::choice("location", &["MESH_EXTERNAL", "MESH_INTERNAL"], "Whether it belongs to the mesh."),
        Field::choice(
            "resolution",
            &["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"],
            "Where its endpoints come from: what was dialled (NONE, also if absent), endpoints, or DNS.",
        ),
        Field::new(
            "endpoints",
            Shape::List(&Shape::Object(ENDPOINT), Some(4096)),
            "Its endpoints; instead of workloadSelector.",
        ),
        WORKLOAD_SELECTOR,
        EXPORT_TO,
        Field::texts("subjectAltNames", "Names that its certificate must have one of."),
    ],
    needs_spec: true,
    columns: &[
        Column { name: "Hosts", path: ".spec.hosts" },
        Column { name: "Location", path: ".spec.location" },
        Column { name: "Resolution", path: ".spec.resolution" },
    ],
};

pub(super) const WORKLOAD_ENTRY: Definition = Definition {
    kind: Kind::WorkloadEntry,
    plural: "workloadentries",
    short: &["we"],
    doc: "A workload that is no pod, for example a virtual machine.",
    spec: ENDPOINT,
    needs_spec: true,
    columns: &[Column { name: "Address", path: ".spec.address" }],
};

pub(super) const WORKLOAD_GROUP: Definition = Definition {
    kind: Kind::WorkloadGroup,
    plural: "workloadgroups",
    short: &["wg"],
    doc: "What WorkloadEntries of one group have in common.",
    spec: &[
        Field::object(
            "metadata",
            &[
                Field::labels("labels", "Labels of the entries."),
                Field::labels("annotations", "Annotations of the entries."),
            ],
            "What the entries are labelled with.",
        ),
        Field::object("template", ENDPOINT, "What the entries say.").required(),
        Field::object("probe", PROBE, "How their health is asked for."),
    ],
    needs_spec: true,
    columns: &[],
};

const PORT: &[Field] = &[
    Field::port("number", "Number of the port.").required(),
    Field::text("protocol", "What is spoken: HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS; TCP if absent."),
    Field::text("name", "Name of the port.").required(),
    Field::port("targetPort", "Port of the endpoints, where it is another one."),
];

const ENDPOINT: &[Field] = &[
    Field::text("address", "IP address, or a host name where endpoints come from DNS."),
    Field::map("ports", &COUNT, "Numbers by the port's name, where they differ."),
    Field::labels("labels", "Labels, for subsets and selectors."),
    Field::text("network", "Network it is in; empty for the cluster's own."),
    Field::text("locality", "`region/zone/subzone`."),
    Field::count("weight", "Share of the sum of all weights."),
    Field::text("serviceAccount", "Service account it identifies itself as."),
];

const PROBE: &[Field] = &[
    Field::count("initialDelaySeconds", "Before the first check."),
    Field::count("timeoutSeconds", "For one check."),
    Field::count("periodSeconds", "Between two checks."),
    Field::count("successThreshold", "Successes in a row until it is healthy."),
    Field::count("failureThreshold", "Failures in a row until it is not."),
    Field::object(
        "httpGet",
        &[
            Field::text("path", "Path."),
            Field::port("port", "Port.").required(),
            Field::text("host", "Host."),
            Field::text("scheme", "HTTP or HTTPS."),
            Field::list(
                "httpHeaders",
                &Shape::Object(&[Field::text("name", "Name."), Field::text("value", "Value.")]),
                "Headers of the request.",
            ),
        ],
        "By an HTTP request.",
    ),
    Field::object(
        "tcpSocket",
        &[Field::text("host", "Host."), Field::port("port", "Port.").required()],
        "By a connection.",
    ),
    Field::object("exec", &[Field::texts("command", "Program and arguments.").required()], "By a program."),
    Field::object(
        "grpc",
        &[Field::port("port", "Port."), Field::text("service", "Service that is asked about.")],
        "By gRPC's health check.",
    ),
];
