//! One question of the API server and its answer. Pure.
//!
//! Only what can never be right is refused: an object that cannot be read, or contradicts itself. What is wrong because of other
//! objects comes back as a warning, since the API server is told objects in any order.

use std::sync::Arc;

use ambit_crds::code::Code;
use ambit_crds::fault::{Fault, Severity};
use ambit_crds::object::Object;
use ambit_crds::read::{self, Read};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::analyze::Finding;

/// The API server cuts longer warnings off.
const MAX_WARNING: usize = 256;

/// As many warnings as anybody reads.
const MAX_WARNINGS: usize = 10;

/// Findings that hold whatever else there is.
const REFUSED: [Code; 1] = [Code::Weights];

/// A question.
pub(super) struct Question {
    uid: String,
    read: Read,
}

#[derive(Deserialize)]
struct AdmissionReview {
    #[serde(rename = "apiVersion")]
    api_version: String,
    request: AdmissionRequest,
}

#[derive(Deserialize)]
struct AdmissionRequest {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

impl Question {
    /// Reads an AdmissionReview.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let review: AdmissionReview = serde_json::from_slice(body).ok()?;
        if review.api_version != "admission.k8s.io/v1" {
            return None;
        }
        let AdmissionRequest { uid, namespace, mut object } = review.request;
        // An object that is removed is of no interest.
        if object.is_null() {
            return Some(Self { uid, read: Read::default() });
        }
        complete(&mut object, &namespace);
        Some(Self { uid, read: read::of_json(object) })
    }

    /// The object, if it can be read.
    pub(super) fn object(&self) -> Option<&Arc<Object>> {
        self.read.object.as_ref()
    }

    /// The answer, with what was found about the object among others.
    pub(super) fn answer(&self, findings: &[Finding]) -> Value {
        let bad = |severity| severity == Severity::Error;
        let faults = self.read.faults.iter();
        let (errors, notes): (Vec<_>, Vec<_>) = faults.partition(|fault| bad(fault.severity));
        let (refused, warned): (Vec<_>, Vec<_>) =
            findings.iter().partition(|one| bad(one.severity) && REFUSED.contains(&one.code));
        let mut reasons: Vec<String> = errors.into_iter().map(of_fault).collect();
        reasons.extend(refused.into_iter().map(of_finding));
        let warned = warned.into_iter().filter(|one| one.severity != Severity::Note).map(of_finding);
        let notes = notes.into_iter().filter(|one| one.severity != Severity::Note).map(of_fault);
        let warnings: Vec<String> = notes.chain(warned).take(MAX_WARNINGS).map(shortened).collect();
        let mut response = json!({ "uid": self.uid, "allowed": reasons.is_empty() });
        if !reasons.is_empty() {
            response["status"] = json!({ "code": 422, "reason": "Invalid", "message": reasons.join("\n") });
        }
        if !warnings.is_empty() {
            response["warnings"] = warnings.into();
        }
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
    }
}

/// What the API server fills in later, so that an object can be read now.
fn complete(object: &mut Value, namespace: &str) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if !metadata.contains_key("name")
        && let Some(begins) = metadata.get("generateName").and_then(Value::as_str)
    {
        metadata.insert("name".to_owned(), format!("{begins}new").into());
    }
    if !namespace.is_empty() {
        metadata.entry("namespace").or_insert(namespace.into());
    }
}

fn of_fault(fault: &Fault) -> String {
    let object = fault.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
    sentence(&object, fault.field.as_deref(), &fault.message, &fault.mend)
}

fn of_finding(finding: &Finding) -> String {
    let object = format!("{}: ", finding.object);
    sentence(&object, finding.field.as_deref(), &finding.message, &finding.mend)
}

/// Object, field, what is wrong, and what to do about it.
fn sentence(object: &str, field: Option<&str>, message: &str, mend: &str) -> String {
    let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
    let mend = if mend.is_empty() { String::new() } else { format!("; {mend}") };
    format!("{object}{field}{message}{mend}")
}

fn shortened(text: String) -> String {
    if text.len() <= MAX_WARNING {
        return text;
    }
    let end = text.floor_char_boundary(MAX_WARNING - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze;
    use crate::translate::{Change, Names, Translator};

    fn ask(object: Value) -> Question {
        let request = json!({ "uid": "u-1", "namespace": "shop", "operation": "CREATE", "object": object });
        let body =
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        Question::read(body.to_string().as_bytes()).expect("a question")
    }

    /// The answer in a mesh of one Service.
    fn answer(object: Value) -> Value {
        let mut translator = Translator::new(Names::default());
        let service = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, \
                       spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80}]}}";
        translator.apply(read::objects(service).into_iter().map(Change::Applied));
        let question = ask(object);
        let found = question.object().map(|object| analyze::applied(translator, object)).unwrap_or_default();
        question.answer(&found)["response"].clone()
    }

    fn policy(spec: Value) -> Value {
        let metadata = json!({ "name": "p", "namespace": "shop" });
        json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec })
    }

    fn route(backends: Value) -> Value {
        let spec = json!({ "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 80 }],
            "rules": [{ "backendRefs": backends }] });
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": spec,
            "metadata": { "generateName": "r-" } })
    }

    #[test]
    fn what_can_never_be_right_is_refused_with_object_field_and_mend() {
        let weightless = json!([{ "name": "web", "port": 80, "weight": 0 }]);
        let table = [
            (
                policy(json!({ "rules": [{ "frm": [] }] })),
                ["AuthorizationPolicy shop/p", "spec.rules[0].frm", "from"],
            ),
            (policy(json!({ "action": "PERMIT" })), ["AuthorizationPolicy shop/p", "spec.action", "ALLOW"]),
            (
                route(weightless),
                ["HTTPRoute shop/r-new", "backendRefs", "give at least one backend a weight"],
            ),
        ];
        for (object, expected) in table {
            let answer = answer(object);
            assert_eq!((&answer["allowed"], &answer["uid"]), (&json!(false), &json!("u-1")), "{answer}");
            let message = answer["status"]["message"].as_str().unwrap();
            assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn what_others_may_still_mend_is_a_warning() {
        let missing = answer(route(json!([{ "name": "later", "port": 80 }])));
        assert_eq!(missing["allowed"], true, "{missing}");
        let warnings = missing["warnings"].as_array().expect("warnings");
        assert!(warnings.iter().any(|one| one.as_str().unwrap().contains("later")), "{missing}");
        let good =
            answer(policy(json!({ "rules": [{ "from": [{ "source": { "namespaces": ["shop"] } }] }] })));
        assert_eq!(good["allowed"], true, "{good}");
    }

    #[test]
    fn removals_and_strangers_are_let_through_and_nonsense_is_no_question() {
        assert_eq!(answer(Value::Null), json!({ "uid": "u-1", "allowed": true }));
        let stranger =
            json!({ "apiVersion": "example.org/v1", "kind": "Thing", "metadata": { "name": "t" } });
        assert_eq!(answer(stranger)["allowed"], true);
        for body in ["", "{}", r#"{"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}"#] {
            assert!(Question::read(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_warning_is_no_longer_than_the_api_server_takes() {
        let long = shortened("ä".repeat(MAX_WARNING));
        assert!(long.len() <= MAX_WARNING && long.ends_with('…'), "{long}");
    }
}
