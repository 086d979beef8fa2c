//! The guides' own documents, applied one at a time with workloads of the test's: each is obeyed, or says in its status that
//! it comes later.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_lab::PodHandle;
use ambit_lab::load::Load;
use ambit_lab::manifest::{Document, parse};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::routed::{Mesh, PATIENCE, all_good, allowed, of_version};
use crate::support::{Check, check};

/// Requests of a rule, and of one with faults, which are rarer.
const ASKED: (u64, u64) = (300, 1000);
/// A request that a fault delays is given up after this.
const GIVEN_UP: Duration = Duration::from_secs(1);
/// What later issues serve.
const LATER: [&str; 5] =
    ["IstioGateway", "RequestAuthentication", "Telemetry", "IstioOperator", "TrafficSplit"];

/// What the guides leave to their readers: namespace, name, port, versions. A subset that a guide names is that version.
const BACKENDS: [(&str, &str, u16, &[&str]); 6] = [
    ("default", "myapp", 80, &["v1", "v2", "stable", "canary"]),
    ("default", "go-app", 8080, &["v1", "v2"]),
    ("default", "reviews", 80, &["v1", "v2", "v3"]),
    ("default", "ratings", 80, &["v1"]),
    ("production", "reviews", 80, &["v1", "v2"]),
    ("production", "backend", 80, &["v1"]),
];

/// The folder of the guides, where the tests were given one.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("AMBIT_GUIDES").map(PathBuf::from)
}

/// Workloads and subsets, and in each namespace a caller of two accounts.
pub(crate) fn workloads() -> String {
    let mut all = Vec::new();
    for namespace in ["default", "production", "mesh-demo", "l5d-demo"] {
        all.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace,
            "labels": {"istio.io/dataplane-mode": "ambient", "ambit.mesh/waypoint": "auto"}}}));
        for account in ["client", "frontend"] {
            all.push(
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}),
            );
            all.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": account, "namespace": namespace},
                "spec": {"serviceAccountName": account, "containers": [
                    {"name": "curl", "image": "curlimages/curl", "command": ["sleep", "infinity"]}]}}));
        }
    }
    for (namespace, app, port, versions) in BACKENDS {
        for version in versions {
            all.push(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{app}-{version}"), "namespace": namespace,
                    "labels": {"app": app, "version": version}},
                "spec": {"containers": [{"name": "echo", "image": "ambit/echo", "args": ["--port=8080"]}]}}));
        }
        let mut ports = vec![json!({"name": "http", "port": 80, "targetPort": 8080})];
        if port != 80 {
            ports.push(json!({"name": "http-more", "port": port, "targetPort": 8080}));
        }
        all.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": namespace},
            "spec": {"selector": {"app": app}, "ports": ports}}),
        );
        let subsets: Vec<_> =
            versions.iter().map(|version| json!({"name": version, "labels": {"version": version}})).collect();
        all.push(json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": format!("subsets-of-{app}"), "namespace": namespace},
            "spec": {"host": app, "subsets": subsets}}));
    }
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// Every document of every file.
pub(crate) fn all(mesh: &Mesh, folder: &Path) -> Check {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    check(!files.is_empty(), || format!("no guide in {}", folder.display()))?;
    for file in &files {
        let (documents, faults) = parse(file, &std::fs::read_to_string(file)?);
        check(faults.is_empty(), || format!("{faults:?}"))?;
        let mut standing: Vec<Document> = Vec::new();
        for (number, document) in documents.into_iter().enumerate() {
            let name = format!("{} document {} ({})", file.display(), number + 1, document.key);
            one(mesh, &document, &mut standing).map_err(|failed| format!("{name}: {failed:?}"))?;
            println!("{name}: as it should be");
        }
        let keys: Vec<_> = standing.iter().map(|document| document.key.clone()).collect();
        mesh.lab.delete(&keys)?;
        mesh.lab.settled()?;
    }
    Ok(())
}

/// Applies a document, takes away what it stands in the place of, and looks at what it does.
fn one(mesh: &Mesh, document: &Document, standing: &mut Vec<Document>) -> Check {
    mesh.apply(&document.value.to_string())?;
    let replaced = |old: &Document| {
        old.key.kind == "VirtualService"
            && old.key.kind == document.key.kind
            && old.key.namespace == document.key.namespace
            && old.value["spec"]["hosts"] == document.value["spec"]["hosts"]
    };
    // Every VirtualService of a guide stands for its host alone.
    let gone: Vec<_> = standing.extract_if(.., |old| old.key == document.key || replaced(old)).collect();
    let gone: Vec<_> = gone.into_iter().map(|old| old.key).filter(|key| *key != document.key).collect();
    mesh.lab.delete(&gone)?;
    standing.push(document.clone());
    mesh.lab.wait_pods_ready(PATIENCE)?;
    let (kind, key) = (document.key.kind.as_str(), &document.key);
    let kind = match document.value["apiVersion"].as_str().unwrap_or_default().split('/').next() {
        Some("networking.istio.io") if kind == "Gateway" => "IstioGateway",
        _ => kind,
    };
    let name = format!("{}/{}", key.namespace, key.name);
    let of_gateway = document.value["spec"]["gateways"].is_array();
    if LATER.contains(&kind) || of_gateway {
        return mesh.comes_to(kind, &name, "Enforced", |status, reason, _| {
            status == "False" && reason == "NotYetEnforced"
        });
    }
    match kind {
        "VirtualService" => {
            mesh.comes_to(kind, &name, "Enforced", |status, _, _| status == "True")?;
            mesh.waypoint(&key.namespace)?;
            routes(mesh, document)
        }
        "AuthorizationPolicy" => {
            mesh.comes_to(kind, &name, "Enforced", |status, _, _| status == "True")?;
            mesh.waypoint(&key.namespace)?;
            policy(mesh, document)?;
            // The next document is not about its callers.
            mesh.lab.delete(std::slice::from_ref(key))?;
            standing.pop();
            Ok(mesh.lab.settled()?)
        }
        // Subsets and pools show in the shares of the routes beside them; a rule alone needs no waypoint.
        "DestinationRule" => mesh.comes_to(kind, &name, "Enforced", |status, reason, _| {
            status == "True" || reason == "WaypointRequired"
        }),
        "PeerAuthentication" => mesh.comes_to(kind, &name, "Enforced", |status, _, _| status == "True"),
        _ => Ok(()),
    }
}

/// Asks for what each rule matches, and for what none does.
fn routes(mesh: &Mesh, document: &Document) -> Check {
    let spec = &document.value["spec"];
    let namespace = &document.key.namespace;
    let client = mesh.pod(&format!("{namespace}/client"))?;
    let host = format!("{namespace}/{}", spec["hosts"][0].as_str().unwrap_or_default());
    let rules = spec["http"].as_array().ok_or("no rules")?;
    for rule in rules {
        shares(mesh, &client, &host, rule)?;
    }
    if rules.iter().all(|rule| rule["match"].is_array()) {
        let missed = mesh.load(&client, &host, |load| load.count = 5)?;
        check(missed.statuses.get("404") == Some(&5), || format!("what no rule matches: {missed:?}"))?;
    }
    Ok(())
}

fn shares(mesh: &Mesh, client: &PodHandle, host: &str, rule: &Value) -> Check {
    let percent = |share: &Value| share["value"].as_f64().unwrap_or(0.0) / 100.0;
    let fault = |fault: &str| percent(&rule["fault"][fault]["percentage"]);
    let (delay, abort) = (fault("delay"), fault("abort"));
    let asked = if delay + abort > 0.0 { ASKED.1 } else { ASKED.0 };
    let mirror = rule["mirror"]["subset"].as_str().map(|subset| mesh.pod(&format!("{host}-{subset}")));
    let mirror = mirror.transpose()?;
    mirror.iter().try_for_each(|pod| mesh.counted(pod).map(drop))?;
    let outcome = mesh.load(client, host, |load| {
        (load.count, load.rate, load.width, load.timeout) = (asked, Some(300.0), 64, GIVEN_UP);
        matching(load, &rule["match"][0]);
    })?;
    let failed = |kind: &str| outcome.failed.get(kind).copied().unwrap_or_default();
    if delay + abort == 0.0 {
        all_good(host, &outcome)?;
    } else {
        allowed("delayed", failed("timeout"), asked, delay)?;
        allowed("aborted", failed("status 500"), asked, abort * (1.0 - delay))?;
    }
    let routes = rule["route"].as_array().ok_or("no route")?;
    let weight = |route: &Value| route["weight"].as_f64().unwrap_or(100.0);
    let total: f64 = routes.iter().map(weight).sum();
    for route in routes {
        let Some(subset) = route["destination"]["subset"].as_str() else { continue };
        let (count, of) = (of_version(&outcome, subset), outcome.good);
        allowed(&format!("{host} to {subset}"), count, of, weight(route) / total)?;
    }
    if let Some(pod) = &mirror {
        let copies = mesh.counted(pod)?["mirrors"].as_u64().unwrap_or_default();
        allowed("copies", copies, asked, percent(&rule["mirrorPercentage"]))?;
    }
    Ok(())
}

/// Lets requests be what a match asks for.
fn matching(load: &mut Load, wanted: &Value) {
    if let Some(prefix) = wanted["uri"]["prefix"].as_str() {
        load.path = format!("{prefix}/x");
    }
    for (name, text) in wanted["headers"].as_object().into_iter().flatten() {
        let value = text["exact"].as_str().unwrap_or("a Chrome of some kind");
        let name: http::HeaderName = name.parse().expect("a header's name");
        load.headers.insert(name, value.parse().expect("a header's value"));
    }
}

/// Asks as the first rule allows, and with each of its attributes changed.
fn policy(mesh: &Mesh, document: &Document) -> Check {
    let spec = &document.value["spec"];
    let (source, operation) =
        (&spec["rules"][0]["from"][0]["source"], &spec["rules"][0]["to"][0]["operation"]);
    let namespace = &document.key.namespace;
    let app = spec["selector"]["matchLabels"]["app"].as_str().ok_or("no selector")?;
    let principal = source["principals"][0].as_str();
    let allowed = principal.and_then(|principal| principal.rsplit('/').next()).unwrap_or("client");
    let stranger =
        if principal.is_some() { format!("{namespace}/client") } else { "default/client".to_owned() };
    let path = operation["paths"][0].as_str().map_or("/".to_owned(), |path| path.replace('*', "orders"));
    let methods = operation["methods"].as_array().cloned().unwrap_or_else(|| vec![json!("GET")]);
    let ask = |from: &str, method: &str, path: &str, status: u16| -> Result<(), Failed> {
        let url = format!("http://{app}.{namespace}.svc.cluster.local{path}");
        let got = mesh.curl(&mesh.pod(from)?, &["-X", method], &url)?;
        check(got.status == status, || format!("{from} {method} {url}: {got:?}"))
    };
    let allowed = format!("{namespace}/{allowed}");
    for method in methods.iter().filter_map(Value::as_str) {
        ask(&allowed, method, &path, 200)?;
        ask(&stranger, method, &path, 403)?;
    }
    if operation["paths"].is_array() {
        ask(&allowed, "GET", "/elsewhere", 403)?;
    }
    if operation["methods"].is_array() {
        ask(&allowed, "DELETE", &path, 403)?;
    }
    Ok(())
}
