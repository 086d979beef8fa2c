//! AuthorizationPolicy, PeerAuthentication and RequestAuthentication: who may do what.

use super::shared::{SELECTOR, TARGET_REF, TARGET_REFS};
use super::{Column, Definition, Field, Shape};
use crate::authorization_policy::{MAX_RULES, MAX_TARGETS};
use crate::kind::Kind;

pub(super) const AUTHORIZATION_POLICY: Definition = Definition {
    kind: Kind::AuthorizationPolicy,
    plural: "authorizationpolicies",
    short: &["ap"],
    doc: "Who may do what with the workloads or services it is for.",
    spec: &[
        SELECTOR,
        TARGET_REF,
        TARGET_REFS,
        Field::choice(
            "action",
            &["ALLOW", "DENY", "AUDIT", "CUSTOM"],
            "What happens to what the rules match; ALLOW if absent, and then everything else is denied.",
        ),
        Field::object(
            "provider",
            &[Field::text("name", "Name of the provider in the mesh configuration.").required()],
            "Who is asked, for the action CUSTOM.",
        ),
        Field::new(
            "rules",
            Shape::List(&Shape::Object(RULE), Some(MAX_RULES as u32)),
            "Any of these suffices. Without rules nothing matches; an empty rule matches everything.",
        ),
    ],
    needs_spec: false,
    columns: &[Column { name: "Action", path: ".spec.action" }],
};

pub(super) const PEER_AUTHENTICATION: Definition = Definition {
    kind: Kind::PeerAuthentication,
    plural: "peerauthentications",
    short: &["pa"],
    doc: "Whether plaintext is accepted.",
    spec: &[
        SELECTOR,
        Field::object("mtls", MTLS, "For all ports."),
        Field::map(
            "portLevelMtls",
            &Shape::Object(MTLS),
            "For single ports of the workload, by their number; only with a selector.",
        ),
    ],
    needs_spec: false,
    columns: &[Column { name: "Mode", path: ".spec.mtls.mode" }],
};

pub(super) const REQUEST_AUTHENTICATION: Definition = Definition {
    kind: Kind::RequestAuthentication,
    plural: "requestauthentications",
    short: &["ra"],
    doc: "Which tokens (JWT) are accepted. Whether one is needed is for an AuthorizationPolicy to say.",
    spec: &[
        SELECTOR,
        TARGET_REF,
        TARGET_REFS,
        Field::new(
            "jwtRules",
            Shape::List(&Shape::Object(JWT_RULE), Some(4096)),
            "Issuers and how their tokens come.",
        ),
    ],
    needs_spec: false,
    columns: &[Column { name: "Issuers", path: ".spec.jwtRules[*].issuer" }],
};

const _: () = assert!(MAX_TARGETS == 16, "shared::TARGET_REFS says so too");

const MTLS: &[Field] = &[Field::choice(
    "mode",
    &["UNSET", "DISABLE", "PERMISSIVE", "STRICT"],
    "STRICT refuses plaintext; PERMISSIVE (and DISABLE) takes it; UNSET, also if absent, leaves it to the next wider level.",
)];

const RULE: &[Field] = &[
    Field::list(
        "from",
        &Shape::Object(FROM),
        "Where requests come from, any of these; everywhere if absent.",
    ),
    Field::list("to", &Shape::Object(TO), "What they ask for, any of these; everything if absent."),
    Field::list("when", &Shape::Object(WHEN), "Further conditions, all of them."),
];

const FROM: &[Field] =
    &[Field::object("source", SOURCE, "All fields that are set must match, each by any of its values.")
        .required()];

const TO: &[Field] = &[Field::object(
    "operation",
    OPERATION,
    "All fields that are set must match, each by any of its values.",
)
.required()];

const SOURCE: &[Field] = &[
    Field::texts(
        "principals",
        "Identities, `trust-domain/ns/namespace/sa/account`; `abc*`, `*abc` and `*` are patterns.",
    ),
    Field::texts("notPrincipals", "None of these identities."),
    Field::texts("requestPrincipals", "Identities of tokens, `issuer/subject`."),
    Field::texts("notRequestPrincipals", "None of these identities of tokens."),
    Field::texts("namespaces", "Namespaces of clients."),
    Field::texts("notNamespaces", "None of these namespaces."),
    Field::new("serviceAccounts", ACCOUNTS, "Service accounts, `name` or `namespace/name`."),
    Field::new("notServiceAccounts", ACCOUNTS, "None of these service accounts."),
    Field::texts("ipBlocks", "Addresses or CIDRs of the peer."),
    Field::texts("notIpBlocks", "None of these addresses."),
    Field::texts(
        "remoteIpBlocks",
        "Addresses or CIDRs of the first client, from X-Forwarded-For or the PROXY protocol.",
    ),
    Field::texts("notRemoteIpBlocks", "None of these addresses of the first client."),
    Field::texts("trustDomains", "Trust domains of clients."),
    Field::texts("notTrustDomains", "None of these trust domains."),
];

const ACCOUNTS: Shape = Shape::List(&Shape::Text, Some(16));

const OPERATION: &[Field] = &[
    Field::texts("hosts", "Hosts that requests name."),
    Field::texts("notHosts", "None of these hosts."),
    Field::texts("ports", "Ports, as texts."),
    Field::texts("notPorts", "None of these ports."),
    Field::texts("methods", "Methods; gRPC is always POST."),
    Field::texts("notMethods", "None of these methods."),
    Field::texts(
        "paths",
        "Paths, patterns, or templates with `{*}` for one segment and `{**}` for the rest.",
    ),
    Field::texts("notPaths", "None of these paths."),
];

const WHEN: &[Field] = &[
    Field::text("key", "What is looked at, for example source.ip or request.headers[name].").required(),
    Field::texts("values", "Any of these."),
    Field::texts("notValues", "None of these."),
];

const JWT_RULE: &[Field] = &[
    Field::text("issuer", "Who issues the tokens, exactly as they say."),
    Field::texts("audiences", "Audiences, one of which a token must name; not looked at if absent."),
    Field::text("jwksUri", "Where the issuer's public keys are."),
    Field::text("jwks_uri", "Older spelling of jwksUri."),
    Field::text("jwks", "The issuer's public keys themselves."),
    Field::list(
        "fromHeaders",
        &Shape::Object(&[
            Field::text("name", "Name of the header.").required(),
            Field::text("prefix", "What stands before the token, for example `Bearer `."),
        ]),
        "Headers that tokens come in.",
    ),
    Field::texts("fromParams", "Parameters of the query that tokens come in."),
    Field::texts("fromCookies", "Cookies that tokens come in."),
    Field::text("outputPayloadToHeader", "Header that the claims are sent on in, in base64."),
    Field::list(
        "outputClaimToHeaders",
        &Shape::Object(&[
            Field::text("header", "Name of the header.").required(),
            Field::text("claim", "Name of the claim; dots lead into it.").required(),
        ]),
        "Headers that single claims are sent on in.",
    ),
    Field::flag("forwardOriginalToken", "The token is sent on too."),
    Field::duration("timeout", "Until the keys must be there; 5s if absent."),
    Field::texts("spaceDelimitedClaims", "Claims whose text is a list, divided by spaces."),
];
