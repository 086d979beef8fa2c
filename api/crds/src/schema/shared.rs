//! Parts that several kinds have in common.

use super::{Field, Shape};

/// How a text is compared.
pub(super) const STRING_MATCH: Shape = Shape::Object(&[
    Field::text("exact", "The text is equal to this."),
    Field::text("prefix", "The text begins with this."),
    Field::text("regex", "The whole text matches this expression (RE2 syntax)."),
]);

/// A share of a hundred.
pub(super) const PERCENT: &[Field] =
    &[Field::new("value", Shape::Number(Some(100)), "Percents, from 0 to 100; fractions are allowed.")];

/// A port by number.
pub(super) const PORT_SELECTOR: &[Field] = &[Field::port("number", "Number of the port.").required()];

/// The pods of the namespace that an object is for.
pub(super) const SELECTOR: Field = Field::object(
    "selector",
    &[Field::labels("matchLabels", "Labels that a pod must have, all of them.")],
    "Pods of the namespace that this is for; without it, all of them (in the root namespace, all of the mesh).",
);

/// Proxies that an object is for, in the form of the networking group.
pub(super) const WORKLOAD_SELECTOR: Field = Field::object(
    "workloadSelector",
    &[Field::labels("labels", "Labels that a workload must have, all of them.")],
    "Workloads of the namespace that this is for; without it, all of them.",
);

/// An object that something is attached to.
const TARGET: &[Field] = &[
    Field::text("group", "API group: empty for a Service, gateway.networking.k8s.io for a Gateway."),
    Field::text("kind", "Kind, for example Service or Gateway.").required(),
    Field::text("name", "Name.").required(),
    Field::text("namespace", "Namespace; only the object's own one is possible."),
];

/// One object to attach to; the older way of writing.
pub(super) const TARGET_REF: Field =
    Field::object("targetRef", TARGET, "The object that this is attached to. Superseded by targetRefs.");

/// Objects to attach to.
pub(super) const TARGET_REFS: Field = Field::new(
    "targetRefs",
    Shape::List(&Shape::Object(TARGET), Some(16)),
    "Objects that this is attached to: Services, or Gateways that are waypoints.",
);

/// Namespaces that see an object.
pub(super) const EXPORT_TO: Field = Field::texts(
    "exportTo",
    "Namespaces that see this: `.` is its own one, `*` (also without this field) all of them.",
);

/// Limits of connections and requests.
pub(super) const CONNECTION_POOL: &[Field] = &[
    Field::object("tcp", TCP_POOL, "Limits of connections."),
    Field::object("http", HTTP_POOL, "Limits of HTTP requests."),
];

const TCP_POOL: &[Field] = &[
    Field::count("maxConnections", "Connections at one time; 0 or absent for no limit."),
    Field::duration("connectTimeout", "Until a connection must be made; 10s if absent."),
    Field::object("tcpKeepalive", TCP_KEEPALIVE, "Probes of idle connections."),
    Field::duration("maxConnectionDuration", "Lifetime of a connection; absent for no limit."),
    Field::duration("idleTimeout", "Until an idle connection is closed."),
];

const TCP_KEEPALIVE: &[Field] = &[
    Field::count("probes", "Unanswered probes until a connection counts as dead."),
    Field::duration("time", "Idle time before the first probe."),
    Field::duration("interval", "Time between two probes."),
];

const HTTP_POOL: &[Field] = &[
    Field::count("http1MaxPendingRequests", "Requests that wait for a connection; 0 or absent for no limit."),
    Field::count("http2MaxRequests", "Requests under way; 0 or absent for no limit."),
    Field::count("maxRequestsPerConnection", "Requests on one connection; 1 turns keep-alive off."),
    Field::count("maxRetries", "Retries under way; 0 or absent for no limit."),
    Field::duration("idleTimeout", "Until a connection without requests is closed; 1h if absent."),
    Field::choice(
        "h2UpgradePolicy",
        &["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"],
        "Whether HTTP/1.1 requests are sent on as HTTP/2.",
    ),
    Field::flag("useClientProtocol", "Requests are sent on in the protocol the client spoke."),
    Field::count("maxConcurrentStreams", "Streams on one HTTP/2 connection."),
    Field::object("http2KeepAlive", HTTP2_KEEPALIVE, "Pings on HTTP/2 connections."),
];

const HTTP2_KEEPALIVE: &[Field] = &[
    Field::duration("interval", "Time between two pings."),
    Field::duration("timeout", "Until a ping must be answered."),
];

/// A port that something listens on.
pub(super) const SERVER_PORT: &[Field] = &[
    Field::port("number", "Number of the port."),
    Field::text("protocol", "What is spoken: HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS."),
    Field::text("name", "Name of the port."),
    Field::port("targetPort", "Port of the endpoints, where it is another one."),
];

/// TLS of a listener.
pub(super) const SERVER_TLS: &[Field] = &[
    Field::flag("httpsRedirect", "Plain HTTP is answered with a redirect to HTTPS."),
    Field::choice(
        "mode",
        &["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"],
        "Who shows a certificate, and where TLS ends.",
    ),
    Field::text("serverCertificate", "File of the server's certificate."),
    Field::text("privateKey", "File of its key."),
    Field::text("caCertificates", "File of the authorities that clients' certificates come from."),
    Field::text("caCrl", "File of revoked certificates."),
    Field::text("credentialName", "Secret with certificate and key (and authorities for MUTUAL)."),
    Field::new(
        "credentialNames",
        Shape::List(&Shape::Text, Some(2)),
        "Secrets with certificates of different key types.",
    ),
    Field::text("caCertCredentialName", "Secret or ConfigMap with the authorities alone."),
    Field::new(
        "tlsCertificates",
        Shape::List(&Shape::Object(TLS_CERTIFICATE), Some(2)),
        "Files of certificates of different key types.",
    ),
    Field::texts("subjectAltNames", "Names that a client's certificate must have one of."),
    Field::texts(
        "verifyCertificateSpki",
        "Hashes of public keys that a client's certificate must have one of.",
    ),
    Field::texts("verifyCertificateHash", "Hashes that a client's certificate must have one of."),
    Field::choice("minProtocolVersion", TLS_VERSIONS, "Oldest version of TLS."),
    Field::choice("maxProtocolVersion", TLS_VERSIONS, "Newest version of TLS."),
    Field::texts("cipherSuites", "Cipher suites, for versions before TLS 1.3."),
    Field::flag("insecureSkipVerify", "Clients' certificates are not verified."),
];

const TLS_VERSIONS: &[&str] = &["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];

const TLS_CERTIFICATE: &[Field] = &[
    Field::text("serverCertificate", "File of the server's certificate."),
    Field::text("privateKey", "File of its key."),
    Field::text("caCertificates", "File of the authorities."),
];
