//! What becomes of calls under policies, rule by rule.

use crate::shop::Row;

const fn row(what: &'static str, objects: &'static [&'static str], calls: &'static [&'static str]) -> Row {
    Row { what, objects, calls }
}

/// T and S are each decided alone, in the order CUSTOM, DENY, ALLOW, and both must allow (rule 3).
pub(crate) const BOTH: &[Row] = &[
    row(
        "T lets alice in and S lets bob in: nobody",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/alice]}}]}]",
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/bob]}}]}]",
        ],
        &[
            "alice GET web/ = S shop/s rule=0 attribute=serviceAccounts",
            "bob GET web/ = T shop/t rule=0 attribute=serviceAccounts",
            "bob GET third/ = lock shop/t rule=0 attribute=serviceAccounts",
        ],
    ),
    row(
        "both let alice in",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/alice]}}]}]",
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/alice]}}]}]",
        ],
        &["alice GET web/ = 200", "bob GET web/ = T shop/t"],
    ),
    row(
        "DENY before ALLOW, in T",
        &[
            "shop/allow: T(web), action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]",
            "shop/deny: T(web), action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/bob]}}], to: [{operation: {methods: [POST]}}]}]",
        ],
        &[
            "alice POST web/ = 200",
            "bob GET web/ = 200",
            "bob POST web/ = T shop/deny rule=0",
            "carol GET web/ = T shop/allow attribute=namespaces",
        ],
    ),
    row(
        "DENY before ALLOW, in S",
        &[
            "shop/allow: S(web), action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]",
            "shop/deny: S(web), action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/bob]}}], to: [{operation: {methods: [POST]}}]}]",
        ],
        &[
            "alice POST web/ = 200",
            "bob GET web/ = 200",
            "bob POST web/ = S shop/deny rule=0",
            "carol GET web/ = S shop/allow attribute=namespaces",
        ],
    ),
    row(
        "CUSTOM, which nobody can be asked, refuses what it matches before any ALLOW",
        &[
            "shop/custom: T(web), action: CUSTOM, provider: {name: nobody}, rules: [{to: [{operation: {paths: [/asked*]}}]}]",
            "shop/allow: T(web), action: ALLOW, rules: [{}]",
        ],
        &["alice GET web/asked/for = T shop/custom rule=0", "alice GET web/other = 200"],
    ),
    row(
        "policies of the Gateway belong to T",
        &[
            "shop/gw: T(Gateway waypoint), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
            "istio-system/class: T(GatewayClass ambit-waypoint), action: DENY, rules: [{to: [{operation: {paths: [/root]}}]}]",
        ],
        &[
            "alice GET web/admin = T shop/gw rule=0",
            "alice GET side/admin = T shop/gw rule=0",
            "alice GET web/root = T istio-system/class rule=0",
            "alice GET web/ = 200",
            "alice GET past/admin = 200",
        ],
    ),
    row(
        "AUDIT and dry run refuse nobody",
        &[
            "shop/audit: T(web), action: AUDIT, rules: [{}]",
            "shop/dry-t: dry-run, T(web), action: DENY, rules: [{}]",
            "shop/dry-s: dry-run, S(web), action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]",
        ],
        &["alice GET web/ = 200", "bob GET web-1:5678/ = 200", "dave GET web/ = 200"],
    ),
];

/// Every attribute, at the waypoint, in T and in S.
pub(crate) const ATTRIBUTES: &[Row] = &[
    row(
        "methods",
        &["shop/t: T(web), action: ALLOW, rules: [{to: [{operation: {methods: [GET, 'P*']}}]}]"],
        &[
            "alice GET web/ = 200",
            "alice POST web/ = 200",
            "alice PUT web/ = 200",
            "alice DELETE web/ = T shop/t rule=0 attribute=methods",
        ],
    ),
    row(
        "paths: exact, prefix, suffix, templates",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{to: [{operation: {paths: [/exact, '/begin/*', '*/end', '/one/{*}/x', '/any/{**}/y'], notPaths: [/begin/no]}}]}]",
        ],
        &[
            "alice GET web/exact = 200",
            "alice GET web/exact?query = 200",
            "alice GET web/exactly = T shop/t attribute=paths",
            "alice GET web/begin/yes = 200",
            "alice GET web/begin/no = T shop/t attribute=notPaths",
            "alice GET web/the/end = 200",
            "alice GET web/one/a/x = 200",
            "alice GET web/one/a/b/x = T shop/t attribute=paths",
            "alice GET web/any/a/b/y = 200",
        ],
    ),
    row(
        "paths are compared after normalisation",
        &["shop/s: S(web), action: DENY, rules: [{to: [{operation: {paths: ['/admin*']}}]}]"],
        &[
            "alice GET web/admin = S shop/s rule=0",
            "alice GET web/x/../admin = S shop/s rule=0",
            "alice GET web/./admin/ = S shop/s rule=0",
            "alice GET web/%61dmin = S shop/s rule=0",
            "alice GET web/x = 200",
        ],
    ),
    row(
        "hosts, without regard to case and port",
        &["shop/t: T(web), action: ALLOW, rules: [{to: [{operation: {hosts: [web.shop, '*.example']}}]}]"],
        &[
            "alice GET web/ = 200",
            "alice GET web/ host:WEB.shop:80 = 200",
            "alice GET web/ host:a.example = 200",
            "alice GET web/ host:example = T shop/t attribute=hosts",
        ],
    ),
    row(
        "headers",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{when: [{key: 'request.headers[x-one]', values: ['v1*']}, {key: 'request.headers[x-two]', notValues: [nay]}]}]",
        ],
        &[
            "alice GET web/ x-one:v12 = 200",
            "alice GET web/ x-one:v12 x-two:aye = 200",
            "alice GET web/ x-one:v12 x-two:nay = T shop/t attribute=request.headers[x-two] notValues",
            "alice GET web/ = T shop/t attribute=request.headers[x-one]",
        ],
    ),
    row(
        "the address is the caller's, whatever headers say",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {ipBlocks: ['{alice}/32', '{carol}']}}]}]",
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {notIpBlocks: ['{carol}']}}]}]",
        ],
        &[
            "alice GET web/ = 200",
            "bob GET web/ = T shop/t attribute=ipBlocks",
            "carol GET web/ = S shop/s attribute=notIpBlocks",
        ],
    ),
    row(
        "the identity is the certificate's",
        &[
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {principals: ['*/sa/alice'], notNamespaces: [other]}}]}]",
        ],
        &[
            "alice GET web/ = 200",
            "bob GET web/ = S shop/s attribute=principals",
            "bob GET web/ x-forwarded-client-cert:By=x;URI=spiffe://cluster.local/ns/shop/sa/alice = S shop/s attribute=principals",
        ],
    ),
    row(
        "T of gRPC",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}], to: [{operation: {paths: [/ambit.Echo/Stream]}}]}]",
        ],
        &["alice GRPC web/ = echo", "bob GRPC web/ = T shop/t attribute=serviceAccounts"],
    ),
];

/// What T and S see of a request and where it goes (rule 5).
pub(crate) const STAGES: &[Row] = &[
    row(
        "a rewrite into a path that S forbids",
        &[
            "VirtualService shop/web: hosts: [web], http: [{match: [{uri: {prefix: /way}}], rewrite: {uri: /admin}, route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]",
            "shop/s: S(web), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
        ],
        &["alice GET web/way = S shop/s rule=0", "alice GET web/else = 200"],
    ),
    row(
        "a rewrite into a path that T forbids is none of T's business",
        &[
            "VirtualService shop/web: hosts: [web], http: [{match: [{uri: {prefix: /way}}], rewrite: {uri: /admin}, route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]",
            "shop/t: T(web), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
        ],
        &["alice GET web/way = 200", "alice GET web/admin = T shop/t rule=0"],
    ),
    row(
        "a rewrite out of a path that T forbids",
        &[
            "VirtualService shop/web: hosts: [web], http: [{match: [{uri: {prefix: /admin}}], rewrite: {uri: /fine}, route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]",
            "shop/t: T(web), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
            "shop/s: S(web), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
        ],
        &["alice GET web/admin = T shop/t rule=0", "alice GET web/ = 200"],
    ),
    row(
        "S sees headers as the pod gets them, T as they came",
        &[
            "VirtualService shop/web: hosts: [web], http: [{match: [{uri: {prefix: /mark}}], headers: {request: {set: {x-one: aye}}}, route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]",
            "shop/s: S(web), action: ALLOW, rules: [{when: [{key: 'request.headers[x-one]', values: [aye]}]}]",
        ],
        &["alice GET web/mark = 200", "alice GET web/ = S shop/s attribute=request.headers[x-one]"],
    ),
    row(
        "T has the port that was dialled",
        &["shop/t: T(web), action: ALLOW, rules: [{to: [{operation: {ports: ['80']}}]}]"],
        &["alice GET web/ = 200"],
    ),
    row(
        "and not the pod's",
        &["shop/t: T(web), action: ALLOW, rules: [{to: [{operation: {ports: ['5678']}}]}]"],
        &["alice GET web/ = T shop/t attribute=ports"],
    ),
    row(
        "redirects and direct answers reach no pod",
        &[
            "VirtualService shop/web: hosts: [web], http: [{match: [{uri: {prefix: /moved}}], redirect: {uri: /there}}, {match: [{uri: {prefix: /said}}], directResponse: {status: 418}}, {route: [{destination: {host: web}}]}]",
            "shop/s: S(web), action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]",
            "shop/t: T(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [bob]}}]}]",
        ],
        &[
            "alice GET web/moved = 301",
            "alice GET web/said = 418",
            "alice GET web/ = S shop/s rule=0",
            "bob GET web/said = T shop/t rule=0",
        ],
    ),
    row(
        "pods of one Service with different labels",
        &[
            "VirtualService shop/web: hosts: [web], http: [{match: [{headers: {x-to: {exact: v2}}}], route: [{destination: {host: web, subset: v2}}]}, {route: [{destination: {host: web, subset: v1}}]}]",
            "shop/s: S(version=v2), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]",
        ],
        &[
            "alice POST web/ = 200",
            "alice POST web/ x-to:v2 = S shop/s rule=0",
            "alice GET web/ x-to:v2 = 200",
            "bob GET web-1:5678/ = 200",
            "bob GET web-2:5678/ = l4 shop/s",
        ],
    ),
];

/// A port that several Services lead to (rules 6 and 10).
pub(crate) const LOCKS: &[Row] = &[
    row(
        "a policy for a Service closes its port to all but the waypoint",
        &["shop/t: T(web), action: ALLOW, rules: [{}]"],
        &[
            "alice GET web/ = 200",
            "carol GET web/ = 200",
            // Another node, the same node, another port, without the mesh, by a Service without a waypoint.
            "alice GET web-1:5678/ = l4 shop/lock~5678",
            "bob GET web-1:5678/ = l4 shop/lock~5678",
            "alice GET web-1:8081/ = 200",
            "dave GET web-1:5678/ = l4 shop/lock~5678",
            "erin GET web-1:5678/ = l4 shop/lock~5678",
            "dave GET web-1:8081/ = 200",
            "dave GET web/ = l4 shop/lock~5678",
            "alice GET past/ = l4 shop/lock~5678",
            "alice GET bare/ = 200",
        ],
    ),
    row(
        "two Services lock one port: both let in who comes by either",
        &[
            "shop/t-web: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice, bob]}}]}]",
            "shop/t-side: T(side), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [bob]}}, {source: {namespaces: [other]}}]}]",
        ],
        &[
            "bob GET web/ = 200",
            "bob GET side/ = 200",
            "bob GET third/ = 200",
            "alice GET web/ = lock shop/t-side",
            "alice GET side/ = T shop/t-side",
            "alice GET third/ = lock shop/t-side",
            "carol GET side/ = lock shop/t-web",
            "carol GET web/ = T shop/t-web",
            "carol GET third/ = lock shop/t-web",
            "alice GET past/ = l4 shop/lock~5678",
        ],
    ),
    row(
        "a lock is judged as if its own port had been dialled",
        &["shop/t: T(web), action: DENY, rules: [{to: [{operation: {ports: ['80'], paths: [/admin]}}]}]"],
        &[
            "alice GET third/admin = lock shop/t rule=0",
            "alice GET third/ = 200",
            "alice GET web/admin = T shop/t",
        ],
    ),
    row(
        "a route of another Service leads to a locked port",
        &[
            "VirtualService shop/third: hosts: [third], http: [{route: [{destination: {host: web}}]}]",
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [bob]}}]}]",
        ],
        &["alice GET third/ = lock shop/t", "bob GET third/ = 200"],
    ),
];

/// Who the source is (rule 7).
pub(crate) const SOURCES: &[Row] = &[
    row(
        "selector ALLOW names the waypoint, targetRefs ALLOW names the client",
        &[
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]",
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/alice]}}]}]",
        ],
        &[
            "alice GET web/ = 200",
            "bob GET web/ = T shop/t attribute=principals",
            "carol GET web/ = T shop/t attribute=principals",
            "alice GET web-1:5678/ = l4",
            "alice GET web-1:8081/ = l4 shop/s",
            "dave GET web-1:8081/ = l4 shop/s",
        ],
    ),
    row(
        "only my waypoint may call me",
        &[
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]",
        ],
        &[
            "alice GET web/ = 200",
            "carol GET web/ = 200",
            "alice GET web-1:5678/ = l4 shop/s",
            "bob GET web-1:5678/ = l4 shop/s",
            "alice GET past/ = l4 shop/s",
            "dave GET web/ = l4 shop/s",
        ],
    ),
    row(
        "the same by serviceAccounts",
        &["shop/s: S(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/waypoint]}}]}]"],
        &["alice GET web/ = 200", "alice GET web-1:5678/ = l4 shop/s"],
    ),
    row(
        "the same as a DENY",
        &[
            "shop/s: S(web), action: DENY, rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/waypoint]}}]}]",
        ],
        &["alice GET web/ = 200", "alice GET web-1:5678/ = l4 shop/s", "dave GET web/ = l4 shop/s"],
    ),
    row(
        "namespaces mean the client's, not the waypoint's",
        &["shop/s: S(web), action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]"],
        &[
            "alice GET web/ = 200",
            "carol GET web/ = S shop/s rule=0 attribute=namespaces",
            "alice GET web-1:5678/ = 200",
            "carol GET web-1:5678/ = l4 shop/s",
        ],
    ),
    row(
        "so do prefixes, suffixes and presence",
        &[
            "shop/a: S(version=v1), action: ALLOW, rules: [{from: [{source: {principals: ['cluster.local/ns/shop/*']}}]}]",
            "shop/b: S(version=v2), action: ALLOW, rules: [{from: [{source: {principals: ['*/sa/waypoint']}}]}]",
            "VirtualService shop/web: hosts: [web], http: [{match: [{headers: {x-to: {exact: v2}}}], route: [{destination: {host: web, subset: v2}}]}, {route: [{destination: {host: web, subset: v1}}]}]",
        ],
        &[
            "alice GET web/ = 200",
            "carol GET web/ = S shop/a attribute=principals",
            "alice GET web/ x-to:v2 = S shop/b attribute=principals",
        ],
    ),
    row(
        "in T only the client counts",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]",
        ],
        &["alice GET web/ = T shop/t attribute=principals"],
    ),
];

/// Ports of Services, and what ztunnels are told of policies with HTTP in them (rules 8, 9 and 13).
pub(crate) const PLACES: &[Row] = &[
    row(
        "ports of the Service before another targetPort, ALLOW",
        &["shop/s: S(web), action: ALLOW, rules: [{to: [{operation: {ports: ['80']}}]}]"],
        &[
            "alice GET web/ = 200",
            "alice GET web-1:5678/ = 200",
            "dave GET web/ = 200",
            "alice GET web-1:8081/ = l4 shop/s attribute=ports",
            "alice TCP web:9090/ = S shop/s attribute=ports",
        ],
    ),
    row(
        "ports of the Service before another targetPort, DENY",
        &["shop/s: S(web), action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]"],
        &[
            "alice GET web/ = S shop/s rule=0",
            "alice GET web-1:5678/ = l4 shop/s",
            "alice GET web-1:8081/ = 200",
            "alice TCP web:9090/ = echo",
        ],
    ),
    row(
        "the literal number stays",
        &["shop/s: S(web), action: ALLOW, rules: [{to: [{operation: {ports: ['5678']}}]}]"],
        &["alice GET web/ = 200", "alice GET web-1:5678/ = 200", "alice GET web-1:8081/ = l4 shop/s"],
    ),
    row(
        "notPorts of an ALLOW too",
        &["shop/s: S(web), action: ALLOW, rules: [{to: [{operation: {notPorts: ['80']}}]}]"],
        &["alice GET web/ = S shop/s attribute=notPorts", "alice GET web-1:8081/ = 200"],
    ),
    row(
        "notPorts of a DENY never",
        &["shop/s: S(web), action: DENY, rules: [{to: [{operation: {notPorts: ['80']}}]}]"],
        &["alice GET web/ = S shop/s rule=0", "alice GET web-1:8081/ = l4 shop/s"],
    ),
    row(
        "DENY with only methods, behind a waypoint: it judges, and nobody goes past it",
        &["shop/s: S(web), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]"],
        &[
            "alice GET web/ = 200",
            "alice POST web/ = S shop/s rule=0",
            "alice GET web-1:5678/ = l4 shop/s",
            "alice GET past/ = l4 shop/s",
            "dave GET web/ = l4 shop/s",
            "alice GET bare/ = 200",
        ],
    ),
    row(
        "DENY with only methods, without a waypoint: everybody is refused",
        &["shop/s: S(bare), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]"],
        &[
            "alice GET bare/ = l4 shop/s",
            "dave GET bare/ = l4 shop/s",
            "alice GET bare-1:9090/ = l4 shop/s",
            "alice POST web/ = 200",
        ],
    ),
    row(
        "DENY with methods and ports, without a waypoint: the port is closed",
        &["shop/s: S(bare), action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['80']}}]}]"],
        &["alice GET bare/ = l4 shop/s", "alice TCP bare-1:9090/ = echo"],
    ),
    row(
        "ALLOW with only methods, behind a waypoint",
        &["shop/s: S(web), action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]"],
        &[
            "alice GET web/ = 200",
            "alice POST web/ = S shop/s attribute=methods",
            "alice GET web-1:5678/ = l4 shop/s",
            "dave GET web/ = l4 shop/s",
        ],
    ),
    row(
        "ALLOW with only methods, without a waypoint: it never matches",
        &["shop/s: S(bare), action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]"],
        &["alice GET bare/ = l4 shop/s", "dave GET bare/ = l4 shop/s"],
    ),
    row(
        "rules without HTTP keep their meaning beside one with it",
        &[
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [bob]}}]}, {to: [{operation: {methods: [GET]}}]}]",
        ],
        &[
            "bob GET web-1:5678/ = 200",
            "alice GET web-1:5678/ = l4 shop/s",
            "bob POST web/ = 200",
            "alice POST web/ = S shop/s",
            "alice GET web/ = 200",
        ],
    ),
    row(
        "of a whole namespace, some pods behind a waypoint and some not",
        &[
            "shop/s: action: DENY, rules: [{from: [{source: {namespaces: [other]}}], to: [{operation: {methods: [POST]}}]}]",
        ],
        &[
            "carol GET web/ = 200",
            "carol POST web/ = S shop/s rule=0",
            "carol GET bare/ = l4 shop/s",
            "alice POST bare/ = 200",
            "alice POST web-1:5678/ = 200",
        ],
    ),
    row(
        "of the root namespace",
        &["istio-system/s: action: DENY, rules: [{to: [{operation: {paths: [/root]}}]}]"],
        &[
            "alice GET web/ = 200",
            "alice GET web/root = S istio-system/s rule=0",
            "alice GET web-1:5678/ = l4 shop/root~s",
            "alice GET bare/ = l4 shop/root~s",
        ],
    ),
];

/// Policies that call the trust domain by its other name.
pub(crate) const ALIASES: &[Row] = &[
    row(
        "the client, in T",
        &[
            "ConfigMap ambit-system/ambit: mesh: 'trustDomainAliases: [old.example]'",
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {principals: [old.example/ns/shop/sa/alice]}}]}]",
        ],
        &["alice GET web/ = 200", "bob GET web/ = T shop/t attribute=principals"],
    ),
    row(
        "the client in S, at the ztunnel and at the waypoint",
        &[
            "ConfigMap ambit-system/ambit: mesh: 'trustDomainAliases: [old.example]'",
            "shop/s: S(web), action: DENY, rules: [{from: [{source: {principals: [old.example/ns/shop/sa/bob]}}]}]",
        ],
        &["alice GET web/ = 200", "bob GET web/ = S shop/s", "bob GET web-1:5678/ = l4 shop/s"],
    ),
    row(
        "the waypoint in S",
        &[
            "ConfigMap ambit-system/ambit: mesh: 'trustDomainAliases: [old.example]'",
            "shop/s: S(web), action: ALLOW, rules: [{from: [{source: {principals: [old.example/ns/shop/sa/waypoint]}}]}]",
        ],
        &["alice GET web/ = 200", "alice GET web-1:5678/ = l4 shop/s"],
    ),
    row(
        "a name that is none of ours",
        &[
            "ConfigMap ambit-system/ambit: mesh: 'trustDomainAliases: [old.example]'",
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {principals: [older.example/ns/shop/sa/alice]}}]}]",
        ],
        &["alice GET web/ = T shop/t attribute=principals"],
    ),
];

/// Who calls without mutual TLS is judged by the ztunnel alone (rule 14), even where the pod takes such calls expressly.
pub(crate) const PLAIN: &[Row] = &[
    row(
        "permitted expressly",
        &["PeerAuthentication shop/plain: mtls: {mode: PERMISSIVE}"],
        &["dave GET web/ = 200", "dave GET web-1:5678/ = 200", "alice GET web/ = 200"],
    ),
    row(
        "and refused by a policy with HTTP in it, which nobody can judge there",
        &[
            "PeerAuthentication shop/plain: mtls: {mode: PERMISSIVE}",
            "shop/s: S(web), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]",
        ],
        &[
            "dave GET web/ = l4 shop/s",
            "dave GET web-1:5678/ = l4 shop/s",
            "alice GET web/ = 200",
            "alice POST web/ = S shop/s rule=0",
        ],
    ),
    row(
        "an ALLOW with HTTP in it never matches them",
        &[
            "PeerAuthentication shop/plain: mtls: {mode: PERMISSIVE}",
            "shop/s: S(web), action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]",
        ],
        &["dave GET web/ = l4 shop/s", "alice GET web/ = 200"],
    ),
];

/// Connections that are no HTTP (rule 16): HTTP attributes cannot be judged.
pub(crate) const CONNECTIONS: &[Row] = &[
    row(
        "who and where are judged",
        &["shop/t: T(web), action: ALLOW, rules: [{from: [{source: {serviceAccounts: [alice]}}]}]"],
        &["alice TCP web:9090/ = echo", "bob TCP web:9090/ = T shop/t attribute=serviceAccounts"],
    ),
    row(
        "by S too",
        &[
            "shop/s: S(web), action: DENY, rules: [{from: [{source: {serviceAccounts: [bob]}}], to: [{operation: {ports: ['9090']}}]}]",
        ],
        &["alice TCP web:9090/ = echo", "bob TCP web:9090/ = S shop/s rule=0", "bob GET web/ = 200"],
    ),
    row(
        "an ALLOW of a method never matches",
        &["shop/t: T(web), action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]"],
        &["alice TCP web:9090/ = T shop/t attribute=methods", "alice GET web/ = 200"],
    ),
    row(
        "a DENY of a method always does",
        &["shop/t: T(web), action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]"],
        &["alice TCP web:9090/ = T shop/t rule=0", "alice GET web/ = 200"],
    ),
    row(
        "the same in S",
        &["shop/s: S(web), action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]"],
        &["alice TCP web:9090/ = S shop/s rule=0", "alice GET web/ = 200"],
    ),
];

/// What is wrong or cannot be judged (rules 4 and 17).
pub(crate) const INVALID: &[Row] = &[
    row(
        "a policy for a Service that never was valid closes it",
        &[
            "shop/t: T(web), action: ALLOW, rules: [{from: [{source: {princpals: [cluster.local/ns/shop/sa/alice]}}]}]",
        ],
        &[
            "alice GET web/ = T shop/t reason=policy_unknown",
            "alice GET third/ = lock shop/t reason=policy_unknown",
            "alice GET web-1:5678/ = l4 shop/lock~5678",
            "alice GET bare/ = 200",
        ],
    ),
    row(
        "a policy for pods that never was valid closes them, not others",
        &[
            "shop/s: S(web), action: DENY, rules: [{from: [{source: {princpals: [cluster.local/ns/shop/sa/alice]}}]}]",
        ],
        &[
            "alice GET web/ = S shop/s reason=policy_unknown",
            "alice GET web-1:5678/ = l4 shop/s",
            "alice GET bare/ = 200",
        ],
    ),
    row(
        "one for a version alone",
        &[
            "shop/s: S(version=v2), action: MAYBE, rules: [{}]",
            "VirtualService shop/web: hosts: [web], http: [{match: [{headers: {x-to: {exact: v2}}}], route: [{destination: {host: web, subset: v2}}]}, {route: [{destination: {host: web, subset: v1}}]}]",
        ],
        &["alice GET web/ = 200", "alice GET web/ x-to:v2 = S shop/s reason=policy_unknown"],
    ),
];
