//! DestinationRule: subsets of a service and how its endpoints are used.

use super::shared::{CONNECTION_POOL, EXPORT_TO, PORT_SELECTOR};
use super::{COUNT, Column, Definition, Field, Shape};
use crate::kind::Kind;

pub(super) const DEFINITION: Definition = Definition {
    kind: Kind::DestinationRule,
    plural: "destinationrules",
    short: &["dr"],
    doc: "Subsets of a service, and how connections to its endpoints are made.",
    spec: SPEC,
    needs_spec: true,
    columns: &[Column { name: "Host", path: ".spec.host" }],
};

const SPEC: &[Field] = &[
    Field::text("host", "Name of the service, or a wildcard such as *.example.com.").required(),
    Field::object("trafficPolicy", TRAFFIC_POLICY, "For the whole service."),
    Field::list("subsets", &Shape::Object(SUBSET), "Parts of the service that routes may name."),
    EXPORT_TO,
    Field::object(
        "workloadSelector",
        &[Field::labels("matchLabels", "Labels that a client must have, all of them.")],
        "Clients of the namespace that this is for. A waypoint is nobody's client and leaves such a rule out.",
    ),
];

const SUBSET: &[Field] = &[
    Field::text("name", "What routes call it.").required(),
    Field::labels("labels", "Labels of its endpoints, all of them."),
    Field::object("trafficPolicy", TRAFFIC_POLICY, "Blocks that stand in place of the service's."),
];

const TRAFFIC_POLICY: &[Field] = &[
    LOAD_BALANCER,
    POOL,
    OUTLIERS,
    TLS,
    Field::new(
        "portLevelSettings",
        Shape::List(&Shape::Object(PORT_SETTINGS), Some(4096)),
        "Policies of single ports; they inherit nothing.",
    ),
    Field::object("tunnel", TUNNEL, "Connections go through an HTTP proxy."),
    Field::object(
        "proxyProtocol",
        &[Field::choice("version", &["V1", "V2"], "V1 (also if absent) is text, V2 is binary.")],
        "A header of the PROXY protocol goes before the bytes.",
    ),
    Field::object("retryBudget", RETRY_BUDGET, "How many retries may be under way at one time."),
];

const PORT_SETTINGS: &[Field] =
    &[Field::object("port", PORT_SELECTOR, "Port of the service."), LOAD_BALANCER, POOL, OUTLIERS, TLS];

const POOL: Field = Field::object("connectionPool", CONNECTION_POOL, "Limits of connections and requests.");

const LOAD_BALANCER: Field = Field::object(
    "loadBalancer",
    &[
        Field::choice(
            "simple",
            &["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"],
            "A choice without regard to the request; LEAST_REQUEST if absent, LEAST_CONN is its older name.",
        ),
        Field::object(
            "consistentHash",
            CONSISTENT_HASH,
            "Requests with the same key go to the same endpoint.",
        ),
        Field::object("localityLbSetting", LOCALITY, "By region and zone first."),
        Field::object("zoneAwareLbSetting", ZONE_AWARE, "By zone first."),
        Field::duration("warmupDurationSecs", "Superseded by warmup."),
        Field::object("warmup", WARMUP, "New endpoints get fewer requests at first."),
    ],
    "How an endpoint is chosen.",
);

const CONSISTENT_HASH: &[Field] = &[
    Field::text("httpHeaderName", "The key is this header."),
    Field::object("httpCookie", HTTP_COOKIE, "The key is a cookie."),
    Field::flag("useSourceIp", "The key is the client's address."),
    Field::text("httpQueryParameterName", "The key is this parameter of the query."),
    Field::object(
        "ringHash",
        &[Field::size("minimumRingSize", "Places of the ring, at least; 1024 if absent.")],
        "Endpoints are looked up in a ring.",
    ),
    Field::object(
        "maglev",
        &[Field::size("tableSize", "Places of the table; 65537 if absent.")],
        "Endpoints are looked up in a Maglev table.",
    ),
    Field::size("minimumRingSize", "Superseded by ringHash.minimumRingSize."),
];

const HTTP_COOKIE: &[Field] = &[
    Field::text("name", "Name of the cookie."),
    Field::text("path", "Its path."),
    Field::duration("ttl", "Its lifetime, 0 for a session; where it is set, an absent cookie is made."),
    Field::list(
        "attributes",
        &Shape::Object(&[Field::text("name", "Name."), Field::text("value", "Value.")]),
        "Further attributes of a cookie that is made.",
    ),
];

const LOCALITY: &[Field] = &[
    Field::list(
        "distribute",
        &Shape::Object(&[
            Field::text("from", "Locality of the client, `region/zone`; `*` at its end for any."),
            Field::map("to", &COUNT, "Percents by locality; their sum is 100."),
        ]),
        "Shares by locality.",
    ),
    FAILOVER,
    FAILOVER_PRIORITY,
    Field::flag("enabled", "On or off."),
];

const FAILOVER: Field = Field::list(
    "failover",
    &Shape::Object(&[
        Field::text("from", "Region that fails."),
        Field::text("to", "Region that stands in for it."),
    ]),
    "Where requests go when a region fails.",
);

const FAILOVER_PRIORITY: Field = Field::texts(
    "failoverPriority",
    "Labels in the order of their weight: endpoints that share more of the first ones with the client come first.",
);

const ZONE_AWARE: &[Field] = &[
    Field::flag("enabled", "On or off."),
    FAILOVER,
    FAILOVER_PRIORITY,
    Field::size("minClusterSize", "With fewer endpoints zones do not count."),
];

const WARMUP: &[Field] = &[
    Field::duration("duration", "Until an endpoint has its full share.").required(),
    Field::new(
        "minimumPercent",
        Shape::Number(Some(100)),
        "Percents of its share at the beginning; 10 if absent.",
    ),
    Field::new(
        "aggression",
        Shape::Number(None),
        "How the share grows: 1 (also if absent) evenly, more is sooner.",
    ),
];

const OUTLIERS: Field = Field::object(
    "outlierDetection",
    &[
        Field::count("consecutiveErrors", "Superseded; counts as consecutiveGatewayErrors."),
        Field::flag("splitExternalLocalOriginErrors", "Failures to connect count apart from answers."),
        Field::count("consecutiveLocalOriginFailures", "Failures to connect in a row; 5 if absent."),
        Field::count("consecutiveGatewayErrors", "Answers 502, 503 or 504 in a row; off if absent."),
        Field::count("consecutive5xxErrors", "Answers 5xx in a row; 5 if absent, 0 is off."),
        Field::duration("interval", "Time between two sweeps; 10s if absent."),
        Field::duration("baseEjectionTime", "Times the number of ejections so far; 30s if absent."),
        Field::new("maxEjectionPercent", Shape::Whole(0, 100), "Of the endpoints at one time; 10 if absent."),
        Field::new(
            "minHealthPercent",
            Shape::Whole(0, 100),
            "With fewer healthy endpoints ejections do not count.",
        ),
        Field::list(
            "outlierDetectionHttpErrorCodes",
            &Shape::Whole(100, 599),
            "Statuses that count as errors in place of 5xx.",
        ),
    ],
    "When an endpoint that fails is left alone for a while.",
);

const TLS: Field = Field::object(
    "tls",
    &[
        Field::choice(
            "mode",
            &["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"],
            "Who shows a certificate. DISABLE and ISTIO_MUTUAL are the mesh's own mutual TLS between pods of the mesh.",
        ),
        Field::text("clientCertificate", "File of the own certificate."),
        Field::text("privateKey", "File of its key."),
        Field::text("caCertificates", "File of the authorities; the system's if absent."),
        Field::text("credentialName", "Secret that holds all of these."),
        Field::texts("subjectAltNames", "Names that the server's certificate must have one of."),
        Field::text("sni", "Server name of the handshake."),
        Field::flag("insecureSkipVerify", "The server's certificate is not verified."),
        Field::text("caCrl", "File of revoked certificates."),
    ],
    "TLS towards the endpoints.",
);

const TUNNEL: &[Field] = &[
    Field::text("protocol", "CONNECT (also if absent) or POST."),
    Field::text("targetHost", "Where the proxy is to connect.").required(),
    Field::port("targetPort", "And to which port.").required(),
];

const RETRY_BUDGET: &[Field] = &[
    Field::new("percent", Shape::Number(Some(100)), "Of the requests under way; 20 if absent."),
    Field::duration("budgetInterval", "Time over which requests under way are counted."),
    Field::count("minRetryConcurrency", "At least so many are allowed; 3 if absent."),
];
