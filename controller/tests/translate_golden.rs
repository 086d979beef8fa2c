//! Golden pairs: `src/translate/testdata/NAME-in.yaml` (manifests) → `NAME.yaml` (what proxies are told, and what
//! the objects' owners are). `AMBIT_BLESS=1` writes the second from the first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ambit_api::policy::Policy;
use ambit_api::service::Service;
use ambit_api::wire::security::Authorization;
use ambit_api::wire::waypoint as wire;
use ambit_api::wire::workload::{Address, address};
use ambit_api::workload::Workload;
use ambit_crds::{Severity, load_once};
use controller::snapshot::{Resource, Resources, WaypointResources};
use controller::translate::{Applied, Change, Classes, Names, Translator};
use prost::Message as _;
use serde_json::{Map, Value, json};

static FOLDER: AtomicU32 = AtomicU32::new(0);

/// Everything that says nothing goes, so that a pair shows what matters.
fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(list) => {
            let list: Vec<Value> = list.into_iter().filter_map(pruned).collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        Value::Object(map) => {
            let map: Map<_, _> =
                map.into_iter().filter_map(|(key, value)| Some((key, pruned(value)?))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        other => Some(other),
    }
}

fn shown<T: serde::Serialize>(value: &T) -> Value {
    pruned(serde_json::to_value(value).unwrap()).unwrap_or(Value::Null)
}

fn address(resource: &Resource) -> Value {
    let message = Address::decode(resource.body.clone()).unwrap();
    let mut value = match message.r#type.unwrap() {
        address::Type::Workload(workload) => {
            let mut workload = Workload::try_from(workload).unwrap();
            let services: Map<_, _> = std::mem::take(&mut workload.services)
                .into_iter()
                .map(|(key, ports)| {
                    let ports =
                        ports.iter().map(|port| format!("{} → {}", port.service_port, port.target_port));
                    (key.to_string(), json!(ports.collect::<Vec<_>>()))
                })
                .collect();
            let mut value = shown(&workload);
            if !services.is_empty() {
                value["services"] = Value::Object(services);
            }
            value
        }
        address::Type::Service(service) => shown(&Service::try_from(service).unwrap()),
    };
    if !resource.aliases.is_empty() {
        value["aliases"] = json!(resource.aliases);
    }
    value
}

/// Policies keep the empty rules, which mean "everything".
fn authorization(resource: &Resource) -> Value {
    let policy = Policy::try_from(Authorization::decode(resource.body.clone()).unwrap()).unwrap();
    let matches = |clause: &ambit_api::policy::Clause| clause.matches.iter().map(shown).collect::<Vec<_>>();
    let rules: Vec<Value> = policy
        .rules
        .iter()
        .map(|rule| Value::Array(rule.clauses.iter().map(|one| json!(matches(one))).collect()))
        .collect();
    let mut value = json!({ "scope": policy.scope, "action": policy.action, "rules": rules });
    if policy.dry_run {
        value["dryRun"] = json!(true);
    }
    value
}

/// Every resource of a waypoint, as its message says it of itself.
fn waypoint(resources: &WaypointResources) -> Value {
    fn all<M: prost::Message + Default + std::fmt::Debug>(resources: &Resources) -> Value {
        let each = resources.iter().map(|(name, one)| {
            (name.to_string(), json!(format!("{:?}", M::decode(one.body.clone()).unwrap())))
        });
        Value::Object(each.collect())
    }
    json!({
        "gateway": all::<wire::Gateway>(&resources.gateway),
        "services": all::<wire::Service>(&resources.services),
        "destinations": all::<wire::Destination>(&resources.destinations),
        "workloads": all::<wire::Workload>(&resources.workloads),
        "policies": all::<wire::Policy>(&resources.policies),
    })
}

fn rendered(applied: &Applied, translator: &Translator) -> String {
    let addresses: Map<_, _> =
        applied.snapshot.addresses.iter().map(|(name, one)| (name.to_string(), address(one))).collect();
    let authorizations: Map<_, _> = applied
        .snapshot
        .authorizations
        .iter()
        .map(|(name, one)| (name.to_string(), authorization(one)))
        .collect();
    let conditions = translator.verdicts().into_iter().map(|verdict| {
        let lines = verdict.conditions.iter().map(|one| {
            Value::String(format!("{}={:?} {}: {}", one.kind, one.status, one.reason, one.message))
        });
        (verdict.object.to_string(), Value::Array(lines.collect()))
    });
    let conditions: Map<_, _> = conditions.collect();
    let mut all =
        json!({ "addresses": addresses, "authorizations": authorizations, "conditions": conditions });
    let waypoints: Map<_, _> =
        applied.snapshot.waypoints.iter().map(|(name, one)| (name.to_string(), waypoint(one))).collect();
    if !waypoints.is_empty() {
        all["waypoints"] = Value::Object(waypoints);
    }
    let owned: Vec<String> = applied.writes.owned.iter().map(|one| one.object.to_string()).collect();
    if !owned.is_empty() {
        all["owned"] = json!(owned);
    }
    let mut text = String::new();
    yaml(&all, 0, &mut text);
    text
}

/// Block style for what has depth, JSON for what fits in a line.
fn yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let entry = |head: String, value: &Value, text: &mut String| {
        let line = serde_json::to_string(value).unwrap();
        let is_flat = !matches!(value, Value::Object(_) | Value::Array(_)) || line.len() + indent.len() < 90;
        text.push_str(&format!("{indent}{head}"));
        if is_flat {
            text.push_str(&format!(" {line}\n"));
        } else {
            text.push('\n');
            yaml(value, depth + 1, text);
        }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| entry(format!("{key:?}:"), value, text)),
        Value::Array(list) => list.iter().for_each(|value| entry("-".to_owned(), value, text)),
        other => text.push_str(&format!("{indent}{other}\n")),
    }
}

fn translated(input: &Path) -> String {
    let folder = std::env::temp_dir().join(format!(
        "ambit-golden-{}-{}",
        std::process::id(),
        FOLDER.fetch_add(1, Ordering::Relaxed)
    ));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(input, folder.join("in.yaml")).unwrap();
    let loaded = load_once(std::slice::from_ref(&folder));
    fs::remove_dir_all(&folder).unwrap();
    // A slip in an input must not pass for a case.
    let errors: Vec<_> = loaded.faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    let is_meant = input.to_string_lossy().contains("invalid");
    assert_eq!(!errors.is_empty(), is_meant, "{}: {errors:?}", input.display());
    let changes = loaded.objects.into_iter().map(Change::Applied);
    let changes = changes.chain(loaded.invalid.into_iter().map(Change::Invalid));
    // The one setting that translation has.
    let classes = Classes { istio: !input.to_string_lossy().contains("istio-off") };
    let mut translator = Translator::new(Names::default()).with_classes(classes);
    let applied = translator.apply(changes);
    rendered(&applied, &translator)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch, not a program's setting")]
fn manifests_give_what_stands_beside_them() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/translate/testdata");
    let bless = std::env::var("AMBIT_BLESS").is_ok();
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with("-in.yaml"));
    inputs.sort();
    assert!(inputs.len() >= 30, "only {} pairs", inputs.len());
    let mut wrong = Vec::new();
    for input in inputs {
        let output = PathBuf::from(input.to_string_lossy().replace("-in.yaml", ".yaml"));
        let actual = translated(&input);
        if bless {
            fs::write(&output, &actual).unwrap();
        } else if fs::read_to_string(&output).unwrap_or_default() != actual {
            wrong.push(format!("{}: now it is\n{actual}", output.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nif this is right, write it with AMBIT_BLESS=1", wrong.join("\n"));
}
