//! The CustomResourceDefinitions as an API server would use them: users' manifests pass in every version, wrong ones are refused by
//! the name of the field. `AMBIT_GUIDES=DIR` adds a folder of manifests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ambit_crds::schema::{DEFINITIONS, manifest};
use regex::Regex;
use serde_json::{Value, json};

thread_local! {
    /// Few patterns, many values: each is compiled once.
    static PATTERNS: RefCell<BTreeMap<String, Regex>> = const { RefCell::new(BTreeMap::new()) };
}

fn compiled<'a>(known: &'a mut BTreeMap<String, Regex>, pattern: &str) -> &'a Regex {
    known.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).expect("a pattern"))
}

/// What is wrong with a value, each with the path of its field: what `kubectl apply --validate=strict` refuses.
fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let wrong = |what: String| vec![format!("{path}: {what}")];
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => schema["x-kubernetes-int-or-string"] == true && (value.is_string() || value.is_i64()),
    };
    if !fits {
        return wrong(format!("{value} is no {kind}"));
    }
    if let Some(of) = schema["enum"].as_array()
        && !of.contains(value)
    {
        return wrong(format!("{value} is none of {of:?}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !PATTERNS.with_borrow_mut(|known| compiled(known, pattern).is_match(text))
    {
        return wrong(format!("{text:?} has not the form {pattern}"));
    }
    if let Some(number) = value.as_f64() {
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            return wrong(format!("{number} is out of range"));
        }
    }
    match value {
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.flat_map(|(place, item)| problems(&schema["items"], item, &format!("{path}[{place}]")))
                .collect()
        }
        Value::Object(entries) => object_problems(schema, entries, path),
        _ => Vec::new(),
    }
}

fn object_problems(schema: &Value, entries: &serde_json::Map<String, Value>, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if entries.get(name).is_none_or(Value::is_null) {
            found.push(format!("{path}.{name}: it is missing"));
        }
    }
    // A null counts as absent.
    for (name, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
        let below = format!("{path}.{name}");
        if let Some(known) = schema["properties"].get(name) {
            found.extend(problems(known, value, &below));
        } else if let Some(any) = schema.get("additionalProperties") {
            found.extend(problems(any, value, &below));
        } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
            found.push(format!("{below}: unknown field"));
        }
    }
    found
}

/// The schemas of every `apiVersion` and `kind`.
static SCHEMAS: LazyLock<BTreeMap<(String, String), Value>> = LazyLock::new(schemas);

fn schemas() -> BTreeMap<(String, String), Value> {
    let mut schemas = BTreeMap::new();
    for definition in DEFINITIONS {
        let manifest = manifest(definition);
        let spec = &manifest["spec"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        for version in spec["versions"].as_array().expect("versions") {
            let api_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            for name in ["apiVersion", "kind"] {
                schema["properties"][name] = json!({ "type": "string" });
            }
            schema["properties"]["metadata"] =
                json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            schemas.insert((api_version, text(&spec["names"]["kind"])), schema);
        }
    }
    schemas
}

/// What is wrong with the objects of a text, and how many of them have a schema.
fn check(text: &str) -> (usize, Vec<String>) {
    let (mut judged, mut found) = (0, Vec::new());
    for piece in ambit_crds::document::split(text).expect("few documents") {
        let object: Value = serde_saphyr::from_str(piece.text).expect("YAML");
        let name = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        if let Some(schema) = SCHEMAS.get(&(name("apiVersion"), name("kind"))) {
            judged += 1;
            found.extend(problems(schema, &object, &name("kind")));
        }
    }
    (judged, found)
}

/// Every YAML file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    here.chain(folders.iter().flat_map(|folder| self::files(folder))).collect()
}

#[test]
fn manifests_of_users_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = vec![root.join("integration/samples"), root.join("integration/tests/manifests")];
    folders.extend(std::env::var_os("AMBIT_GUIDES").map(PathBuf::from));
    let mut all = 0;
    // These are wrong on purpose.
    let wrong = |path: &PathBuf| path.ends_with("bad-input.yaml");
    for file in folders.iter().flat_map(|folder| files(folder)).filter(|path| !wrong(path)) {
        let (judged, found) = check(&fs::read_to_string(&file).expect("a text"));
        assert_eq!(found, Vec::<String>::new(), "{}", file.display());
        all += judged;
    }
    assert!(all >= 10, "only {all} objects were judged");
}

#[test]
fn every_field_passes_in_every_version() {
    let texts = [
        (
            "networking.istio.io",
            "VirtualService",
            include_str!("../src/virtual_service/testdata/every_field.yaml"),
        ),
        (
            "networking.istio.io",
            "DestinationRule",
            include_str!("../src/destination_rule/testdata/every_field.yaml"),
        ),
    ];
    for (group, kind, spec) in texts {
        for version in ["v1", "v1beta1", "v1alpha3"] {
            let text =
                format!("apiVersion: {group}/{version}\nkind: {kind}\nmetadata: {{name: x}}\nspec:{spec}");
            assert_eq!(check(&text), (1, Vec::new()), "{kind} {version}");
        }
    }
}

/// Version, kind, spec, and what is wrong with it.
const WRONG: &[(&str, &str, &str, &str)] = &[
    (
        "networking.istio.io/v1beta1",
        "VirtualService",
        "{http: [{retires: {attempts: 3}}]}",
        "spec.http[0].retires: unknown",
    ),
    (
        "networking.istio.io/v1",
        "VirtualService",
        "{http: [{timeout: 10}]}",
        "spec.http[0].timeout: 10 is no string",
    ),
    ("networking.istio.io/v1", "VirtualService", "{http: [{timeout: ten}]}", "spec.http[0].timeout: \"ten\""),
    (
        "networking.istio.io/v1",
        "VirtualService",
        "{http: [{route: [{weight: 1}]}]}",
        "route[0].destination: it is missing",
    ),
    (
        "networking.istio.io/v1",
        "VirtualService",
        "{http: [{fault: {delay: {percentage: {value: 101}}}}]}",
        "value: 101 is out",
    ),
    ("networking.istio.io/v1", "VirtualService", "", "VirtualService.spec: it is missing"),
    ("networking.istio.io/v1alpha3", "DestinationRule", "{trafficPolicy: {}}", "spec.host: it is missing"),
    (
        "networking.istio.io/v1",
        "DestinationRule",
        "{host: a, trafficPolicy: {loadBalancer: {simple: LEAST_CON}}}",
        "loadBalancer.simple: \"LEAST_CON\" is none",
    ),
    (
        "networking.istio.io/v1",
        "DestinationRule",
        "{host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: -1}}}",
        "consecutiveErrors: -1 is out",
    ),
    ("networking.istio.io/v1", "Gateway", "{servers: [{hosts: [a]}]}", "servers[0].port: it is missing"),
    (
        "networking.istio.io/v1",
        "ServiceEntry",
        "{hosts: a.example.com}",
        "spec.hosts: \"a.example.com\" is no array",
    ),
    ("networking.istio.io/v1", "WorkloadEntry", "{weight: many}", "spec.weight: \"many\" is no integer"),
    (
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        "{configPatches: [{applyTo: ALL}]}",
        "applyTo: \"ALL\" is none",
    ),
    ("security.istio.io/v1", "AuthorizationPolicy", "{action: allow}", "spec.action: \"allow\" is none"),
    (
        "security.istio.io/v1beta1",
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {ports: [80]}}]}]}",
        "operation.ports[0]: 80 is no string",
    ),
    (
        "security.istio.io/v1",
        "PeerAuthentication",
        "{mtls: {mode: STRICTLY}}",
        "spec.mtls.mode: \"STRICTLY\" is none",
    ),
    (
        "security.istio.io/v1",
        "RequestAuthentication",
        "{jwtRules: [{issuers: a}]}",
        "jwtRules[0].issuers: unknown",
    ),
    (
        "telemetry.istio.io/v1alpha1",
        "Telemetry",
        "{tracing: [{providers: [{}]}]}",
        "providers[0].name: it is missing",
    ),
];

#[test]
fn what_is_wrong_is_refused_by_its_field() {
    for (version, kind, spec, expected) in WRONG {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}");
        let (judged, found) = check(&text);
        assert_eq!(judged, 1, "{version} {kind} is served");
        assert!(found.len() == 1 && found[0].contains(expected), "{kind} {spec}: {found:?}");
    }
}

#[test]
fn one_version_is_stored_and_the_others_are_served_unchanged() {
    for definition in DEFINITIONS {
        let manifest = manifest(definition);
        let versions = manifest["spec"]["versions"].as_array().expect("versions");
        let stored: Vec<_> = versions.iter().filter(|version| version["storage"] == true).collect();
        assert_eq!(stored.len(), 1, "{}", definition.plural);
        for version in versions {
            assert_eq!(version["schema"], stored[0]["schema"], "nothing is to be converted");
            assert_eq!(version["served"], true);
            assert!(version["subresources"]["status"].is_object());
        }
        assert_eq!(manifest["spec"]["conversion"]["strategy"], "None");
    }
}
