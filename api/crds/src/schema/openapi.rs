//! Tables to CustomResourceDefinitions: the structural schemas that an API server checks objects against.

use serde_json::{Map, Value, json};

use super::{Column, Definition, Field, Shape};

/// Durations as [`crate::value::parse_duration`] reads them.
pub(super) const DURATION: &str = "^(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$|^0$";

/// How many conditions a status may have.
const CONDITIONS: u32 = 64;

/// The definition as a manifest that can be applied to a cluster.
pub fn manifest(definition: &Definition) -> Value {
    let (kind, group) = (definition.kind.name(), definition.kind.group());
    let versions = definition.kind.versions().iter().enumerate();
    let versions: Vec<Value> =
        versions.map(|(place, version)| self::version(definition, version, place == 0)).collect();
    let family = group.split('.').next().unwrap_or_default();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{group}", definition.plural),
            "labels": { "app.kubernetes.io/part-of": "ambit" },
            // Users' objects live and die with their definition: an uninstall leaves it.
            "annotations": { "helm.sh/resource-policy": "keep" },
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": definition.plural,
                "singular": kind.to_lowercase(),
                "shortNames": definition.short,
                "categories": ["istio-io", format!("{family}-istio-io")],
            },
            // Versions differ in name alone, so nothing has to be converted.
            "conversion": { "strategy": "None" },
            "versions": versions,
        },
    })
}

fn version(definition: &Definition, name: &str, stored: bool) -> Value {
    json!({
        "name": name,
        "served": true,
        "storage": stored,
        "subresources": { "status": {} },
        "additionalPrinterColumns": columns(definition.columns),
        "schema": { "openAPIV3Schema": whole(definition) },
    })
}

/// The kind's own columns, then what Ambit makes of the object, then its age.
fn columns(own: &[Column]) -> Vec<Value> {
    let column = |name: &str, kind: &str, path: &str| json!({ "name": name, "type": kind, "jsonPath": path });
    let own = own.iter().map(|one| column(one.name, "string", one.path));
    let verdict = |field: &str| format!(".status.conditions[?(@.type==\"Enforced\")].{field}");
    let mut why = column("Why", "string", &verdict("message"));
    why["priority"] = 1.into();
    let shared = [
        column("Enforced", "string", &verdict("status")),
        column("Reason", "string", &verdict("reason")),
        why,
        column("Age", "date", ".metadata.creationTimestamp"),
    ];
    own.chain(shared).collect()
}

fn whole(definition: &Definition) -> Value {
    let mut spec = object(definition.spec);
    spec["description"] = "What the object says.".into();
    let mut whole = json!({
        "type": "object",
        "description": definition.doc,
        "properties": { "spec": spec, "status": status() },
    });
    if definition.needs_spec {
        whole["required"] = json!(["spec"]);
    }
    whole
}

/// Conditions are told apart by their type, so that two writers keep out of each other's way.
fn status() -> Value {
    let text = |doc: &str| json!({ "type": "string", "description": doc });
    json!({
        "type": "object",
        "description": "What became of the object.",
        // Other control planes write fields of their own.
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": {
                "type": "array",
                "description": "Which process enforces the object, or why none does.",
                "maxItems": CONDITIONS,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status"],
                    "properties": {
                        "type": text("What is said something about."),
                        "status": text("True, False or Unknown."),
                        "reason": text("Why, in one word."),
                        "message": text("Why, in a sentence."),
                        "observedGeneration": {
                            "x-kubernetes-int-or-string": true,
                            "description": "Generation of the object this is about.",
                        },
                        "lastTransitionTime": {
                            "type": "string", "format": "date-time", "description": "Since when the status is so.",
                        },
                        "lastProbeTime": {
                            "type": "string", "format": "date-time", "description": "When it was last looked at.",
                        },
                    },
                },
            },
        },
    })
}

fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut property = schema(&field.shape);
            property["description"] = field.doc.into();
            (field.name.to_owned(), property)
        })
        .collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut object = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn schema(shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Choice(of) => json!({ "type": "string", "enum": of }),
        Shape::Duration => json!({ "type": "string", "pattern": DURATION }),
        Shape::Whole(least, most) => {
            let mut whole = json!({ "type": "integer", "format": "int64", "minimum": least });
            if *most < i64::MAX {
                whole["maximum"] = (*most).into();
            }
            whole
        }
        Shape::Number(most) => {
            let mut number = json!({ "type": "number", "format": "double", "minimum": 0 });
            if let Some(most) = most {
                number["maximum"] = (*most).into();
            }
            number
        }
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Object(fields) => object(fields),
        Shape::List(of, most) => {
            let mut list = json!({ "type": "array", "items": schema(of) });
            if let Some(most) = most {
                list["maxItems"] = (*most).into();
            }
            list
        }
        Shape::Map(of) => json!({ "type": "object", "additionalProperties": schema(of) }),
        Shape::Opaque => json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
    }
}
