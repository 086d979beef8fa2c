//! Telemetry: what is logged, traced and counted.

use super::shared::{SELECTOR, TARGET_REF, TARGET_REFS};
use super::{Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const DEFINITION: Definition = Definition {
    kind: Kind::Telemetry,
    plural: "telemetries",
    short: &["telemetry"],
    doc: "What is logged, traced and counted, and where it is sent.",
    spec: &[
        SELECTOR,
        TARGET_REF,
        TARGET_REFS,
        Field::list("tracing", &Shape::Object(TRACING), "Traces."),
        Field::list("metrics", &Shape::Object(METRICS), "Metrics."),
        Field::list("accessLogging", &Shape::Object(LOGGING), "Access logs."),
    ],
    needs_spec: false,
    columns: &[],
};

const MODE: Field = Field::choice(
    "mode",
    &["CLIENT_AND_SERVER", "CLIENT", "SERVER"],
    "On which side of the traffic; a waypoint is a server.",
);

const PROVIDERS: Field = Field::list(
    "providers",
    &Shape::Object(&[Field::text("name", "Name in the mesh configuration.").required()]),
    "Where it is sent; the mesh's default if absent.",
);

const TRACING: &[Field] = &[
    Field::object("match", &[MODE], "What this is for; everything if absent."),
    PROVIDERS,
    Field::new(
        "randomSamplingPercentage",
        Shape::Number(Some(100)),
        "How many of the requests, in percents.",
    ),
    Field::flag("disableSpanReporting", "No spans are reported."),
    Field::map("customTags", &Shape::Object(CUSTOM_TAG), "Further tags of spans."),
    Field::flag("useRequestIdForTraceSampling", "The request's id decides whether it is sampled."),
    Field::flag("enableIstioTags", "Spans have Istio's own tags."),
    Field::flag("disableContextPropagation", "Trace headers are not sent on."),
];

const CUSTOM_TAG: &[Field] = &[
    Field::object("literal", &[Field::text("value", "The value.").required()], "Always the same value."),
    Field::object(
        "environment",
        &[
            Field::text("name", "Name of the variable.").required(),
            Field::text("defaultValue", "Where it is not set."),
        ],
        "The value of an environment variable.",
    ),
    Field::object(
        "header",
        &[
            Field::text("name", "Name of the header.").required(),
            Field::text("defaultValue", "Where it is absent."),
        ],
        "The value of a request header.",
    ),
    Field::object("formatter", &[Field::text("value", "The format.").required()], "A formatted text."),
];

const METRICS: &[Field] = &[
    PROVIDERS,
    Field::list("overrides", &Shape::Object(OVERRIDE), "Changes of single metrics."),
    Field::duration("reportingInterval", "Time between two reports, for providers that are reported to."),
];

const OVERRIDE: &[Field] = &[
    Field::object(
        "match",
        &[
            Field::choice(
                "metric",
                &[
                    "ALL_METRICS",
                    "REQUEST_COUNT",
                    "REQUEST_DURATION",
                    "REQUEST_SIZE",
                    "RESPONSE_SIZE",
                    "TCP_OPENED_CONNECTIONS",
                    "TCP_CLOSED_CONNECTIONS",
                    "TCP_SENT_BYTES",
                    "TCP_RECEIVED_BYTES",
                    "GRPC_REQUEST_MESSAGES",
                    "GRPC_RESPONSE_MESSAGES",
                ],
                "One of Istio's metrics.",
            ),
            Field::text("customMetric", "Any other metric, by name."),
            MODE,
        ],
        "Which metrics.",
    ),
    Field::flag("disabled", "They are not reported."),
    Field::map(
        "tagOverrides",
        &Shape::Object(&[
            Field::choice("operation", &["UPSERT", "REMOVE"], "Set (also if absent) or remove."),
            Field::text("value", "The value, as an expression (CEL)."),
        ]),
        "Changes of their labels.",
    ),
];

const LOGGING: &[Field] = &[
    Field::object("match", &[MODE], "What this is for; everything if absent."),
    PROVIDERS,
    Field::flag("disabled", "Nothing is logged."),
    Field::object(
        "filter",
        &[Field::text("expression", "Expression (CEL) that must be true for what is logged.")],
        "What is logged of it.",
    ),
];
