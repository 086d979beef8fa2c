//! VirtualService: routing rules.

use super::shared::{EXPORT_TO, PERCENT, PORT_SELECTOR, STRING_MATCH};
use super::{Column, Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const DEFINITION: Definition = Definition {
    kind: Kind::VirtualService,
    plural: "virtualservices",
    short: &["vs"],
    doc: "Rules by which requests and connections to a service are routed.",
    spec: SPEC,
    needs_spec: true,
    columns: &[
        Column { name: "Gateways", path: ".spec.gateways" },
        Column { name: "Hosts", path: ".spec.hosts" },
    ],
};

const SPEC: &[Field] = &[
    Field::texts(
        "hosts",
        "Names that requests are sent to. A short name is one of the namespace; empty only where other VirtualServices \
         delegate to this one.",
    ),
    Field::texts(
        "gateways",
        "Gateways this is for; `mesh`, also without this field, for traffic inside the mesh.",
    ),
    Field::list("http", &Shape::Object(HTTP), "Rules for HTTP and gRPC; the first that matches counts."),
    Field::list(
        "tls",
        &Shape::Object(TLS),
        "Rules for TLS that is passed on as it is; the first that matches counts.",
    ),
    Field::list(
        "tcp",
        &Shape::Object(TCP),
        "Rules for all other connections; the first that matches counts.",
    ),
    EXPORT_TO,
];

const HTTP: &[Field] = &[
    Field::text("name", "Name of the rule in logs."),
    Field::list(
        "match",
        &Shape::Object(HTTP_MATCH),
        "Any of these suffices; without it the rule matches everything.",
    ),
    Field::list("route", &Shape::Object(HTTP_DESTINATION), "Where requests go, by weight."),
    Field::object("redirect", REDIRECT, "Answers with another address instead of sending the request on."),
    Field::object("directResponse", DIRECT_RESPONSE, "Answers at once instead of sending the request on."),
    Field::object("delegate", DELEGATE, "Takes the rules of another VirtualService."),
    Field::object("rewrite", REWRITE, "Changes path or host before the request is sent on."),
    Field::duration("timeout", "For the whole request with its retries; 0 or absent for none."),
    Field::object("retries", RETRIES, "When and how often a request is tried again."),
    Field::object("fault", FAULT, "Delays or errors put in on purpose."),
    Field::object("mirror", DESTINATION, "Gets a copy of the requests; its answers are dropped."),
    Field::object("mirrorPercentage", PERCENT, "How many of the requests are copied; all of them if absent."),
    Field::count(
        "mirrorPercent",
        "Whole percents of requests that are copied. Superseded by mirrorPercentage.",
    ),
    Field::count("mirror_percent", "Older spelling of mirrorPercent."),
    Field::list("mirrors", &Shape::Object(MIRROR), "Several who get copies of the requests."),
    Field::object("corsPolicy", CORS, "Cross-origin requests."),
    Field::object("headers", HEADERS, "Changes of headers."),
];

const HTTP_MATCH: &[Field] = &[
    Field::text("name", "Name of the match in logs."),
    Field::text("statPrefix", "Name of the match in statistics."),
    Field::new("uri", STRING_MATCH, "Path, without the query."),
    Field::flag("ignoreUriCase", "Letter case of exact paths and prefixes does not count."),
    Field::new("scheme", STRING_MATCH, "Scheme."),
    Field::new("method", STRING_MATCH, "Method."),
    Field::new("authority", STRING_MATCH, "Host that the request names."),
    Field::map("headers", &STRING_MATCH, "Headers that must match; an empty match asks for presence."),
    Field::map("withoutHeaders", &STRING_MATCH, "Headers that must not match."),
    Field::map("queryParams", &STRING_MATCH, "Parameters of the query that must match."),
    Field::port("port", "Port of the service that was called."),
    Field::labels("sourceLabels", "Labels of the client's pod."),
    Field::text("sourceNamespace", "Namespace of the client's pod."),
    Field::texts("gateways", "In place of the whole object's gateways."),
];

const HTTP_DESTINATION: &[Field] = &[
    Field::object("destination", DESTINATION, "Where to.").required(),
    Field::count("weight", "Share of the sum of all weights."),
    Field::object("headers", HEADERS, "Changes of headers for this destination alone."),
];

const WEIGHTED: &[Field] = &[
    Field::object("destination", DESTINATION, "Where to.").required(),
    Field::count("weight", "Share of the sum of all weights."),
];

const DESTINATION: &[Field] = &[
    Field::text("host", "Name of the service, written as in hosts.").required(),
    Field::text("subset", "A subset that a DestinationRule defines; absent for the whole service."),
    Field::object("port", PORT_SELECTOR, "Port of the service; needed where it has several."),
];

const MIRROR: &[Field] = &[
    Field::object("destination", DESTINATION, "Where to.").required(),
    Field::object("percentage", PERCENT, "How many of the requests; all of them if absent."),
];

const REDIRECT: &[Field] = &[
    Field::text("uri", "The new path; absent for the request's own."),
    Field::text("prefixRewrite", "In place of the matched prefix of the path."),
    Field::text("authority", "The new host; absent for the request's own."),
    Field::text("scheme", "http or https; absent for the request's own."),
    Field::port("port", "The new port."),
    Field::choice(
        "derivePort",
        &["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"],
        "Where the port comes from if none is written.",
    ),
    Field::count("redirectCode", "301, 302, 303, 307 or 308; 301 if absent."),
];

const DIRECT_RESPONSE: &[Field] = &[
    Field::count("status", "Status of the answer.").required(),
    Field::object(
        "body",
        &[Field::text("string", "The body as a text."), Field::text("bytes", "The body in base64.")],
        "Body of the answer.",
    ),
];

const DELEGATE: &[Field] = &[
    Field::text("name", "Name of the other VirtualService."),
    Field::text("namespace", "Its namespace; absent for the own one."),
];

const REWRITE: &[Field] = &[
    Field::text("uri", "In place of the matched prefix, or of the whole path where no prefix was matched."),
    Field::text("authority", "The new host."),
    Field::object(
        "uriRegexRewrite",
        &[
            Field::text("match", "Expression (RE2 syntax) that is looked for in the path."),
            Field::text("rewrite", "What is put in its place; `\\1` stands for the first group."),
        ],
        "Replaces every place of the path that an expression matches.",
    ),
];

const RETRIES: &[Field] = &[
    Field::count("attempts", "How often; 0 for never."),
    Field::duration("perTryTimeout", "For one attempt; the rule's timeout if absent."),
    Field::text("retryOn", "After what: conditions and statuses, joined by commas."),
    Field::flag("retryRemoteLocalities", "Other localities are tried too."),
    Field::flag("retryIgnorePreviousHosts", "Endpoints that were tried are left out; true if absent."),
    Field::duration("backoff", "Base of the pauses between attempts; 25ms if absent."),
];

const FAULT: &[Field] = &[
    Field::object(
        "delay",
        &[
            Field::duration("fixedDelay", "How long a request waits."),
            Field::duration("exponentialDelay", "Part of the API without effect."),
            Field::object("percentage", PERCENT, "How many of the requests; none if absent."),
            Field::count("percent", "Whole percents. Superseded by percentage."),
        ],
        "Requests wait.",
    ),
    Field::object(
        "abort",
        &[
            Field::count("httpStatus", "Status that is answered."),
            Field::text("grpcStatus", "Name of the gRPC status that is answered."),
            Field::text("http2Error", "Part of the API without effect."),
            Field::object("percentage", PERCENT, "How many of the requests; none if absent."),
        ],
        "Requests are answered with an error.",
    ),
];

const CORS: &[Field] = &[
    Field::texts("allowOrigin", "Origins, literally. Superseded by allowOrigins."),
    Field::list("allowOrigins", &STRING_MATCH, "Origins that may send requests."),
    Field::texts("allowMethods", "Methods that are allowed."),
    Field::texts("allowHeaders", "Headers that requests may have."),
    Field::texts("exposeHeaders", "Headers of answers that scripts may read."),
    Field::duration("maxAge", "How long a client may remember the answer to a preflight."),
    Field::flag("allowCredentials", "Whether credentials may be sent."),
    Field::choice(
        "unmatchedPreflights",
        &["UNSPECIFIED", "FORWARD", "IGNORE"],
        "Whether preflights of other origins reach the service (FORWARD, also if absent).",
    ),
];

const HEADERS: &[Field] = &[
    Field::object("request", HEADER_OPERATIONS, "Of requests."),
    Field::object("response", HEADER_OPERATIONS, "Of answers."),
];

const HEADER_OPERATIONS: &[Field] = &[
    Field::labels("set", "Headers that get this value in place of any other."),
    Field::labels("add", "Values that are appended."),
    Field::texts("remove", "Headers that are taken away."),
];

const TLS: &[Field] = &[
    Field::list("match", &Shape::Object(TLS_MATCH), "Any of these must match."),
    Field::list("route", &Shape::Object(WEIGHTED), "Where connections go, by weight."),
];

const TLS_MATCH: &[Field] = &[
    Field::texts("sniHosts", "Server names of the handshake; each must be covered by hosts."),
    Field::texts("destinationSubnets", "Addresses or CIDRs that were dialled."),
    Field::port("port", "Port that was dialled."),
    Field::labels("sourceLabels", "Labels of the client's pod."),
    Field::text("sourceNamespace", "Namespace of the client's pod."),
    Field::texts("gateways", "In place of the whole object's gateways."),
];

const TCP: &[Field] = &[
    Field::list(
        "match",
        &Shape::Object(TCP_MATCH),
        "Any of these suffices; without it the rule matches everything.",
    ),
    Field::list("route", &Shape::Object(WEIGHTED), "Where connections go, by weight."),
];

const TCP_MATCH: &[Field] = &[
    Field::texts("destinationSubnets", "Addresses or CIDRs that were dialled."),
    Field::port("port", "Port that was dialled."),
    Field::text("sourceSubnet", "Part of the API without effect."),
    Field::labels("sourceLabels", "Labels of the client's pod."),
    Field::text("sourceNamespace", "Namespace of the client's pod."),
    Field::texts("gateways", "In place of the whole object's gateways."),
];
