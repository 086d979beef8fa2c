//! EnvoyFilter and ProxyConfig: settings of one proxy that Ambit does not run. Taken so that manifests apply, and answered.

use super::shared::{SELECTOR, TARGET_REFS, WORKLOAD_SELECTOR};
use super::{Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const ENVOY_FILTER: Definition = Definition {
    kind: Kind::EnvoyFilter,
    plural: "envoyfilters",
    short: &[],
    doc: "A patch of Envoy's configuration. Ambit runs no Envoy; its status says so.",
    spec: &[
        WORKLOAD_SELECTOR,
        TARGET_REFS,
        Field::list("configPatches", &Shape::Object(PATCH), "The patches."),
        Field::new(
            "priority",
            Shape::Whole(i32::MIN as i64, i32::MAX as i64),
            "Place among other patches; 0 if absent.",
        ),
    ],
    needs_spec: false,
    columns: &[],
};

pub(super) const PROXY_CONFIG: Definition = Definition {
    kind: Kind::ProxyConfig,
    plural: "proxyconfigs",
    short: &[],
    doc: "Settings of proxies beside pods. Ambit runs no such proxies; its status says so.",
    spec: &[
        SELECTOR,
        Field::count("concurrency", "Threads."),
        Field::labels("environmentVariables", "Environment of the proxy."),
        Field::object("image", &[Field::text("imageType", "Flavour of the image.")], "Image of the proxy."),
    ],
    needs_spec: false,
    columns: &[],
};

const PATCH: &[Field] = &[
    Field::choice(
        "applyTo",
        &[
            "INVALID",
            "LISTENER",
            "FILTER_CHAIN",
            "NETWORK_FILTER",
            "HTTP_FILTER",
            "ROUTE_CONFIGURATION",
            "VIRTUAL_HOST",
            "HTTP_ROUTE",
            "CLUSTER",
            "EXTENSION_CONFIG",
            "BOOTSTRAP",
            "LISTENER_FILTER",
        ],
        "What part of the configuration is patched.",
    ),
    Field::new("match", Shape::Opaque, "Where."),
    Field::object(
        "patch",
        &[
            Field::choice(
                "operation",
                &[
                    "INVALID",
                    "MERGE",
                    "ADD",
                    "REMOVE",
                    "INSERT_BEFORE",
                    "INSERT_AFTER",
                    "INSERT_FIRST",
                    "REPLACE",
                    "MERGE_AND_REPLACE_LIST",
                ],
                "How.",
            ),
            Field::choice(
                "filterClass",
                &["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"],
                "Place of a new filter.",
            ),
            Field::new("value", Shape::Opaque, "What is put there, in Envoy's own words."),
        ],
        "The patch.",
    ),
];
