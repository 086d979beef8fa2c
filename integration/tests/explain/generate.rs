//! Random policies, routes and requests, such that they meet.

use std::net::{IpAddr, SocketAddr};

use ambit_lab::Lab;
use libtest_mimic::Failed;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

/// What a configuration is mostly about, in turn, so that every way to be stopped has its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Policies for Services and the Gateway.
    Target,
    /// Policies for pods.
    Pods,
    /// A Service is locked, and reached by its other names.
    Lock,
    /// A policy that is invalid.
    Invalid,
    /// Routes, and few policies.
    Routes,
    /// Policies where no waypoint is.
    Bare,
    /// All of it.
    Mixed,
}

const THEMES: [Theme; 7] =
    [Theme::Target, Theme::Pods, Theme::Lock, Theme::Invalid, Theme::Routes, Theme::Bare, Theme::Mixed];

/// Objects that are applied together.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    theme: Theme,
    objects: Vec<Value>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) from: String,
    to: String,
    pub(crate) dialled: SocketAddr,
    method: String,
    path: String,
    authority: String,
    headers: Vec<(String, String)>,
}

impl Configuration {
    /// The `number`th of a seed; the names of its objects are nobody else's, so that nothing of an earlier one stays.
    pub(crate) fn draw(number: usize, seed: u64, rng: &mut StdRng) -> Self {
        let theme = THEMES[number % THEMES.len()];
        let mut draw =
            Draw { rng, prefix: format!("c{}-{number}", seed % 100_000), count: 0, objects: Vec::new() };
        match theme {
            Theme::Target => {
                draw.policies(&[Scope::Service("web"), Scope::Service("raw"), Scope::Gateway], 4)
            }
            Theme::Pods => draw.policies(&[Scope::Web, Scope::Version("v1"), Scope::Namespace("shop")], 3),
            Theme::Lock => draw.policies(&[Scope::Service("web")], 2),
            Theme::Invalid => {
                draw.invalid();
                draw.policies(&[Scope::Service("alt"), Scope::Version("v2")], 1);
            }
            Theme::Routes => {}
            Theme::Bare => {
                draw.policies(&[Scope::Service("api"), Scope::Api, Scope::Namespace("bare"), Scope::Root], 3)
            }
            Theme::Mixed => draw.policies(
                &[
                    Scope::Service("web"),
                    Scope::Gateway,
                    Scope::Web,
                    Scope::Version("v2"),
                    Scope::Api,
                    Scope::Root,
                ],
                4,
            ),
        }
        if theme == Theme::Routes || draw.rng.random_bool(0.5) {
            draw.routes(theme);
        }
        Self { theme, objects: draw.objects }
    }

    /// One policy that is about the method.
    pub(crate) fn one_policy() -> Self {
        let rule = json!({
            "from": [{"source": {"namespaces": ["shop"]}}], "to": [{"operation": {"methods": ["GET"]}}],
        });
        let spec = json!({
            "targetRefs": [{"kind": "Service", "group": "", "name": "web"}], "action": "ALLOW", "rules": [rule],
        });
        Self { theme: Theme::Target, objects: vec![policy("shop", "one", spec)] }
    }

    /// As it is applied.
    pub(crate) fn text(&self) -> String {
        self.objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
    }

    /// Kind and `namespace/name` of every object.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, String)> {
        self.objects.iter().map(|object| {
            let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            (object["kind"].as_str().unwrap_or_default(), format!("{}/{}", meta("namespace"), meta("name")))
        })
    }
}

/// Whom a policy is for.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Service(&'static str),
    Gateway,
    Web,
    Version(&'static str),
    Namespace(&'static str),
    Api,
    Root,
}

struct Draw<'r> {
    rng: &'r mut StdRng,
    prefix: String,
    count: usize,
    objects: Vec<Value>,
}

impl Draw<'_> {
    fn policies(&mut self, scopes: &[Scope], most: usize) {
        for _ in 0..self.rng.random_range(1..=most) {
            let scope = self.one(scopes);
            let action = self.one(&["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"]);
            let rules: Vec<Value> = (0..self.rng.random_range(1..=2)).map(|_| self.rule()).collect();
            let spec = json!({"action": action, "rules": rules});
            self.place(scope, spec);
        }
    }

    fn place(&mut self, scope: Scope, mut spec: Value) {
        let selector = |labels: Value| json!({"matchLabels": labels});
        let namespace = match scope {
            Scope::Service(name) => {
                spec["targetRefs"] = json!([{"kind": "Service", "group": "", "name": name}]);
                if name == "api" { "bare" } else { "shop" }
            }
            Scope::Gateway => {
                spec["targetRefs"] =
                    json!([{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "waypoint"}]);
                "shop"
            }
            Scope::Web => {
                spec["selector"] = selector(json!({"app": "web"}));
                "shop"
            }
            Scope::Version(version) => {
                spec["selector"] = selector(json!({"app": "web", "version": version}));
                "shop"
            }
            Scope::Namespace(name) => name,
            Scope::Api => {
                spec["selector"] = selector(json!({"app": "api"}));
                "bare"
            }
            Scope::Root => {
                spec["selector"] = selector(json!({"app": self.one(&["web", "api"])}));
                "istio-system"
            }
        };
        let name = self.name();
        self.objects.push(policy(namespace, &name, spec));
    }

    /// A policy that says something nobody knows.
    fn invalid(&mut self) {
        let spec = json!({"action": "ALLOW", "rules": [{"from": [{"source": {"princpals": ["*"]}}]}]});
        let scope = self.one(&[Scope::Service("web"), Scope::Version("v1"), Scope::Web]);
        self.place(scope, spec);
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.prefix, self.count)
    }

    fn one<T: Clone>(&mut self, all: &[T]) -> T {
        all.choose(self.rng).cloned().expect("there is one")
    }

    fn rule(&mut self) -> Value {
        let mut rule = json!({});
        if self.rng.random_bool(0.7) {
            let sources: Vec<Value> =
                (0..self.rng.random_range(1..=2)).map(|_| json!({"source": self.fields(SOURCES)})).collect();
            rule["from"] = sources.into();
        }
        if self.rng.random_bool(0.6) {
            let operations: Vec<Value> = (0..self.rng.random_range(1..=2))
                .map(|_| json!({"operation": self.fields(OPERATIONS)}))
                .collect();
            rule["to"] = operations.into();
        }
        if self.rng.random_bool(0.25) {
            let (key, values) = self.one(CONDITIONS);
            let field = self.one(&["values", "notValues"]);
            rule["when"] = json!([{"key": key, field: [self.one(values)]}]);
        }
        rule
    }

    /// One or two fields with one or two values each.
    fn fields(&mut self, all: &[(&str, &[&str])]) -> Value {
        let mut fields = json!({});
        for _ in 0..self.rng.random_range(1..=2) {
            let (name, values) = self.one(all);
            let count = self.rng.random_range(1..=2);
            let chosen: Vec<_> = values.choose_multiple(self.rng, count).copied().collect();
            fields[name] = json!(chosen);
        }
        fields
    }

    fn routes(&mut self, theme: Theme) {
        let mut http: Vec<Value> = Vec::new();
        if theme == Theme::Routes {
            http.push(json!({"match": [{"uri": {"exact": "/empty"}}], "route": [{"destination": {"host": "empty"}}]}));
            let lost = json!({"destination": {"host": "web", "subset": "lost"}});
            http.push(json!({"match": [{"uri": {"exact": "/lost"}}], "route": [lost]}));
        }
        for _ in 0..self.rng.random_range(1..=3) {
            let mut rule = self.action();
            rule["match"] = json!([self.one(&MATCHES.map(|text| text.parse::<Value>().expect("is JSON")))]);
            http.push(rule);
        }
        // Without a last rule that takes everything, some requests have no route.
        if theme != Theme::Routes && self.rng.random_bool(0.8) {
            http.push(json!({"route": [{"destination": {"host": "web"}}]}));
        }
        let name = self.name();
        self.objects.push(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"hosts": ["web"], "http": http},
        }));
    }

    fn action(&mut self) -> Value {
        let v1 = json!({"destination": {"host": "web", "subset": "v1"}});
        let v2 = json!({"destination": {"host": "web", "subset": "v2"}});
        let weighed = |route: &Value, weight: u32| {
            let mut route = route.clone();
            route["weight"] = weight.into();
            route
        };
        match self.rng.random_range(0..8) {
            0 => json!({"route": [v1]}),
            1 => json!({"route": [weighed(&v1, 70), weighed(&v2, 30)]}),
            2 => json!({"route": [v2], "rewrite": {"uri": self.one(&["/admin", "/api/a", "/"])}}),
            3 => {
                json!({"route": [v2], "headers": {"request": {"set": {"x-user": self.one(&["ann", "bob"])}}}})
            }
            4 => json!({"redirect": {"uri": "/elsewhere", "redirectCode": 302}}),
            5 => json!({"directResponse": {"status": 418}}),
            6 => {
                json!({"route": [v1], "fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 555}}})
            }
            _ => json!({"route": [{"destination": {"host": "alt", "port": {"number": 8000}}}]}),
        }
    }
}

fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

const PRINCIPALS: &[&str] = &[
    "cluster.local/ns/shop/sa/ann",
    "cluster.local/ns/shop/*",
    "*/sa/carol",
    "*",
    "cluster.local/ns/shop/sa/waypoint",
];
const NAMESPACES: &[&str] = &["shop", "other", "sh*"];
const ACCOUNTS: &[&str] = &["shop/ann", "shop/bob", "other/carol", "shop/waypoint"];
const NETS: &[&str] = &["10.244.1.0/24", "10.244.2.0/24", "0.0.0.0/0"];
const METHODS: &[&str] = &["GET", "POST", "P*"];
const PATHS: &[&str] = &["/api/*", "/admin", "/", "*/a", "/api/{*}"];
const HOSTS: &[&str] = &["web.shop", "*.shop", "alt.shop:8000", "api.bare"];
const PORTS: &[&str] = &["80", "8080", "8081", "8000", "9000"];

/// Fields of a source.
const SOURCES: &[(&str, &[&str])] = &[
    ("principals", PRINCIPALS),
    ("notPrincipals", PRINCIPALS),
    ("namespaces", NAMESPACES),
    ("notNamespaces", NAMESPACES),
    ("serviceAccounts", ACCOUNTS),
    ("notServiceAccounts", ACCOUNTS),
    ("ipBlocks", NETS),
    ("notIpBlocks", NETS),
];
/// Fields of an operation.
const OPERATIONS: &[(&str, &[&str])] = &[
    ("methods", METHODS),
    ("notMethods", METHODS),
    ("paths", PATHS),
    ("notPaths", PATHS),
    ("hosts", HOSTS),
    ("notHosts", HOSTS),
    ("ports", PORTS),
    ("notPorts", PORTS),
];
/// Conditions.
const CONDITIONS: &[(&str, &[&str])] = &[
    ("request.headers[x-user]", &["ann", "bob", "*"]),
    ("source.ip", NETS),
    ("source.namespace", NAMESPACES),
    ("source.principal", PRINCIPALS),
    ("destination.port", PORTS),
    ("destination.ip", NETS),
];
/// Matches of routes.
const MATCHES: [&str; 7] = [
    r#"{"uri": {"prefix": "/api/"}}"#,
    r#"{"uri": {"exact": "/admin"}}"#,
    r#"{"uri": {"regex": "/[ab].*"}}"#,
    r#"{"headers": {"x-user": {"exact": "ann"}}}"#,
    r#"{"method": {"exact": "POST"}}"#,
    r#"{"sourceNamespace": "other"}"#,
    r#"{"sourceLabels": {"app": "bob"}}"#,
];
const CALLERS: [&str; 7] =
    ["shop/ann", "shop/ann", "shop/bob", "shop/bob", "other/carol", "other/carol", "plain/dave"];
/// The last ones cannot be read, or are read in one form only.
const REQUEST_PATHS: [&str; 10] =
    ["/", "/api/a", "/api/b", "/admin", "/old", "/x/../admin", "/a?b=/admin", "/empty", "/lost", "/a%00b"];

impl Question {
    pub(crate) fn draw(configuration: &Configuration, lab: &Lab, rng: &mut StdRng) -> Result<Self, Failed> {
        let targets: &[&str] = match configuration.theme {
            Theme::Lock => &["shop/alt:8000", "shop/alt:8000", "shop/web:80", "shop/side:80", "shop/v2:8080"],
            Theme::Routes => &["shop/web:80"],
            Theme::Bare => &["bare/api:80", "bare/api:8081", "shop/side:80"],
            _ => &[
                "shop/web:80",
                "shop/web:80",
                "shop/web:80",
                "shop/alt:8000",
                "shop/raw:9000",
                "shop/v1:8080",
                "shop/side:80",
            ],
        };
        let mut one = |all: &[&'static str]| all.choose(rng).copied().unwrap_or_default();
        let (from, to, method) = (one(&CALLERS), one(targets), one(&["GET", "GET", "POST", "PUT"]));
        let paths = match configuration.theme {
            Theme::Routes => &REQUEST_PATHS[4..],
            _ => &REQUEST_PATHS[..],
        };
        let (path, user) = (one(paths), one(&["", "", "ann", "bob"]));
        let host = one(&["", "", "", "WEB.shop.", "elsewhere.example"]);
        Self::new(lab, from, to)?.with(method, path, (host, user))
    }

    /// To the Service that everything is about.
    pub(crate) fn plain(lab: &Lab, from: &str, method: &str) -> Result<Self, Failed> {
        Self::new(lab, from, "shop/web:80")?.with(method, "/", ("", ""))
    }

    fn new(lab: &Lab, from: &str, to: &str) -> Result<Self, Failed> {
        let (name, port) = to.split_once(':').ok_or("a target without a port")?;
        let (namespace, own) = name.split_once('/').ok_or("a target without a namespace")?;
        // A pod where there is no such Service, or the Service has no such port.
        let service = lab.service(name).ok().flatten().filter(|_| to != "bare/api:8081");
        let ip = match service {
            Some(address) => address.v4,
            None => lab.pod(name)?.address.v4,
        };
        let dialled = SocketAddr::new(IpAddr::V4(ip), port.parse()?);
        let authority = match service {
            Some(_) if port == "80" => format!("{own}.{namespace}"),
            Some(_) => format!("{own}.{namespace}:{port}"),
            None => dialled.to_string(),
        };
        let to = if service.is_some() { to.to_owned() } else { dialled.to_string() };
        let (from, method, path) = (from.to_owned(), "GET".to_owned(), "/".to_owned());
        Ok(Self { from, to, dialled, method, path, authority, headers: Vec::new() })
    }

    fn with(mut self, method: &str, path: &str, (host, user): (&str, &str)) -> Result<Self, Failed> {
        (self.method, self.path) = (method.to_owned(), path.to_owned());
        if !host.is_empty() {
            self.authority = host.to_owned();
        }
        if !user.is_empty() {
            self.headers.push(("x-user".to_owned(), user.to_owned()));
        }
        Ok(self)
    }

    /// As explain reads it.
    pub(crate) fn line(&self) -> Value {
        let headers: serde_json::Map<_, _> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        json!({
            "from": self.from, "to": self.to, "method": self.method, "path": self.path,
            "authority": self.authority, "headers": headers,
        })
    }

    /// As a client sends it.
    pub(crate) fn head(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.method, self.path, self.authority
        )
    }
}
