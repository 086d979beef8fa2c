//! Manifests read whole: kinds, faults, limits.

use std::sync::Arc;

use proptest::prelude::proptest;

use super::{Item, Outcome, Place, read};
use crate::document::split;
use crate::meta::Order;
use crate::object::Object;

fn items(text: &str) -> Vec<Item> {
    let place = Place { file: "f.yaml".into(), order: Order::default() };
    split(text).unwrap().into_iter().flat_map(|piece| read(piece, &place)).collect()
}

/// What is said about the only object of a text.
pub(crate) fn said(text: &str) -> String {
    let items = items(text);
    assert_eq!(items.len(), 1, "{text}");
    match &items[0].outcome {
        Outcome::Bad(invalid) => invalid.fault.to_string(),
        Outcome::Unidentified(fault) => fault.to_string(),
        Outcome::Skipped => items[0].note.as_ref().map(ToString::to_string).unwrap_or_default(),
        Outcome::Valid(_) => {
            format!("valid {}", items[0].note.as_ref().map(ToString::to_string).unwrap_or_default())
        }
        Outcome::Tombstone(object) => format!("tombstone {object}"),
    }
}

/// What is noted about the only object of a text.
pub(crate) fn note(text: &str) -> String {
    items(text)[0].note.as_ref().map(ToString::to_string).unwrap_or_default()
}

pub(crate) fn object(text: &str) -> Arc<Object> {
    match &items(text)[0].outcome {
        Outcome::Valid(object) => object.clone(),
        other => panic!("{other:?}"),
    }
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: ns}}\nspec: {spec}\n"
    )
}

const MISTAKES: &[(&str, &str)] = &[
    ("kind: Pod", "f.yaml:1: apiVersion is missing or no text; write the object's apiVersion"),
    ("- a", "f.yaml:1: a document that is no object; write apiVersion, kind and metadata"),
    (
        "apiVersion: v1\nkind: Pood\nmetadata: {name: a}",
        "f.yaml:2: unknown kind \"Pood\" of apiVersion \"v1\"; did you mean \"Pod\"? (it is not applied)",
    ),
    (
        "apiVersion: v1\nkind: Gateway\nmetadata: {name: a}",
        "f.yaml:2: unknown kind \"Gateway\" of apiVersion \"v1\"; did you mean apiVersion \"networking.istio.io/…\"? (it is not applied)",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}",
        "f.yaml:3: metadata.name: not a name; write lower-case letters, digits, - and .",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: ../x}",
        "f.yaml:3: metadata.namespace: not a namespace; write lower-case letters, digits and -",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {version: 1.1}",
        "f.yaml:5: Pod default/a: metadata.labels.version: wrong type: floating point `1.1` where a string belongs; put it in quotes",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: \"yes\"}",
        "f.yaml:4: Pod default/a: spec.hostNetwork: wrong type: string \"yes\" where a boolean belongs; write the expected type",
    ),
    (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: 70000",
        "f.yaml:6: Service default/a: spec.ports[0].port: invalid value: integer `70000`, expected u16; correct the field",
    ),
    (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.300}",
        "f.yaml:4: Service default/a: spec.clusterIP: \"10.0.0.300\" is not an IP address; write one, for example 10.0.0.7",
    ),
    (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: []",
        "f.yaml:4: Service default/a: spec: wrong type: sequence where an object belongs; write the expected type",
    ),
    (
        "apiVersion: security.istio.io/v1alpha7\nkind: PeerAuthentication\nmetadata: {name: a}",
        "f.yaml:1: PeerAuthentication default/a: apiVersion: version \"v1alpha7\" of PeerAuthentication is not read; write v1 or v1beta1",
    ),
    (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRIKT}}",
        "f.yaml:4: PeerAuthentication default/a: spec.mtls.mode: unknown value \"STRIKT\"; did you mean \"STRICT\"?",
    ),
    (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {portLevelMtls: {8080: {mode: STRICT}}}",
        "f.yaml:4: PeerAuthentication default/a: spec: portLevelMtls needs a selector; add selector.matchLabels",
    ),
    (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspek: {}",
        "f.yaml:4: PeerAuthentication default/a: spek: unknown field; did you mean \"spec\"?",
    ),
    (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ambit, namespace: ambit-system}\ndata:\n  mesh: |\n    trustDomain: a.b\n    rootNamspace: x",
        "f.yaml:7: ConfigMap ambit-system/ambit: data.mesh.rootNamspace: unknown field; did you mean \"rootNamespace\"?",
    ),
    (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ambit, namespace: ambit-system}\ndata: {}",
        "f.yaml:4: ConfigMap ambit-system/ambit: data.mesh: the mesh configuration is missing; add the key mesh",
    ),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {}", ""),
    ("apiVersion: v1\nkind: Secret\nmetadata: {generateName: other}", ""),
    (
        "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {name: a}",
        "f.yaml:1: VirtualService default/a: spec: it is missing; write what the object is to say",
    ),
    (
        "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}",
        "f.yaml:1: VirtualService default/a: apiVersion: version \"v2\" of VirtualService is not read; write v1 or v1beta1 or v1alpha3",
    ),
    (
        "apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata: {name: a}",
        "valid f.yaml:1: ServiceEntry default/a: this kind is known, but nothing enforces it yet; no traffic depends on it",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {ambit.mesh/deleted: \"true\"}}\nspec: 7",
        "tombstone Pod default/a",
    ),
];

#[test]
fn every_mistake_has_a_line_of_its_own_that_ends_with_a_mend() {
    for (text, expected) in MISTAKES {
        assert_eq!(said(text), *expected, "{text}");
    }
}

const POLICY_MISTAKES: &[(&str, &str)] = &[
    (
        "{rules: [{from: [{source: {princpals: [a]}}]}]}",
        "spec.rules[0].from[0].source.princpals: unknown field; did you mean \"principals\"?",
    ),
    (
        "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}",
        "spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/33\" is neither an IP address nor a CIDR",
    ),
    (
        "{rules: [{to: [{operation: {ports: [\"80\", \"0\"]}}]}]}",
        "spec.rules[0].to[0].operation.ports[1]: \"0\" is not a port",
    ),
    (
        "{rules: [{to: [{operation: {ports: [80]}}]}]}",
        "ports[0]: wrong type: integer `80` where a string belongs; put it in quotes",
    ),
    (
        "{rules: [{from: [{source: {serviceAccounts: [a], principals: [b]}}]}]}",
        "serviceAccounts cannot stand beside principals or namespaces",
    ),
    ("{rules: [{from: [{source: {serviceAccounts: [\"*\"]}}]}]}", "is not a service account"),
    ("{rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]}", "is not a service account"),
    (
        "{rules: [{from: [{source: {}}]}]}",
        "spec.rules[0].from[0].source: an empty source would match everything",
    ),
    ("{rules: [{from: [{source: {principals: []}}]}]}", "an empty source would match everything"),
    ("{rules: [{from: [{}]}]}", "spec.rules[0].from[0]: the field \"source\" is missing; add it"),
    ("{rules: [{from: []}]}", "spec.rules[0].from: an empty list would match every source"),
    ("{rules: [{to: [{operation: {}}]}]}", "an empty operation would match everything"),
    (
        "{rules: [{when: [{key: source.ipp, values: [a]}]}]}",
        "spec.rules[0].when[0].key: \"source.ipp\" is not a known key; did you mean \"source.ip\"?",
    ),
    (
        "{rules: [{when: [{key: source.ip, values: [a]}]}]}",
        "values: \"a\" is neither an IP address nor a CIDR",
    ),
    (
        "{rules: [{when: [{key: destination.port, notValues: [\"99999\"]}]}]}",
        "notValues: \"99999\" is not a port",
    ),
    ("{rules: [{when: [{key: source.ip}]}]}", "a condition without values demands nothing"),
    ("{rules: [{from: [{source: {principals: [\"spiffe://td/ns/a/sa/b\"]}}]}]}", "write \"td/ns/a/sa/b\""),
    ("{rules: [{from: [{source: {principals: [\"\"]}}]}]}", "an empty text matches nothing"),
    ("{rules: [{from: [{source: {namespaces: [\"a*b\"]}}]}]}", "has a * that is neither first nor last"),
    ("{rules: [{to: [{operation: {paths: [\"/a/{**}/{*}\"]}}]}]}", "is not a path template"),
    ("{action: CUSTOM}", "spec: action CUSTOM has no provider; set provider.name"),
    ("{provider: {name: x}}", "provider is set without action CUSTOM"),
    ("{action: ALOW}", "spec.action: unknown value \"ALOW\"; did you mean \"ALLOW\"?"),
    (
        "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: x}]}",
        "both selector and targetRefs are set",
    ),
    ("{targetRefs: [{kind: Pod, name: x}]}", "cannot carry a policy"),
    (
        "{selector: {matchLabel: {a: b}}}",
        "spec.selector.matchLabel: unknown field; did you mean \"matchLabels\"?",
    ),
    ("{selector: {matchLabels: {a: '*'}}}", "wildcards do not work here"),
    ("{rules: {}}", "spec.rules: wrong type: map where a sequence belongs"),
];

#[test]
fn every_mistake_in_a_policy_makes_it_invalid() {
    for (spec, expected) in POLICY_MISTAKES {
        let said = said(&policy(spec));
        assert!(said.contains(expected), "{spec}\n{said}");
        assert!(said.starts_with("f.yaml:4: AuthorizationPolicy ns/p: spec"), "{said}");
    }
    let many = format!("{{rules: [{}]}}", "{},".repeat(513));
    assert!(said(&policy(&many)).contains("513 rules, at most 512 are allowed; split the policy"));
}

#[test]
fn manifests_of_the_guides_shape_are_valid() {
    let text = include_str!("testdata/shop.yaml");
    let items = items(text);
    assert_eq!(items.len(), 10);
    for item in &items {
        let fine = match &item.outcome {
            Outcome::Valid(_) => true,
            Outcome::Skipped => item.note.is_none(),
            _ => false,
        };
        assert!(fine, "{item:?}");
    }
}

#[test]
fn lists_count_on_and_uids_are_stable() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
    let items = items(text);
    let orders: Vec<u32> = items
        .iter()
        .map(|item| match &item.outcome {
            Outcome::Valid(object) => object.meta().creation.index,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(orders, [0, 1]);
    let one = object("apiVersion: v1\nkind: Pod\nmetadata: {name: a}");
    assert_eq!(one.meta().uid.len(), 36);
    assert_eq!(
        one.meta().uid,
        object("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: default}}").meta().uid
    );
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "\\PC*", bytes in proptest::collection::vec(0_u8..=255, 0..400)) {
        let _ = items(&text);
        let _ = items(&String::from_utf8_lossy(&bytes));
        let _ = items(&policy(&text));
    }

    #[test]
    fn a_field_of_any_other_name_is_never_let_through(name in "[a-zA-Z]{1,12}") {
        let known = ["principals", "requestPrincipals", "namespaces", "serviceAccounts", "ipBlocks", "remoteIpBlocks", "trustDomains"];
        let negated = |known: &str| name.strip_prefix("not").is_some_and(|rest| rest.eq_ignore_ascii_case(known));
        if !known.iter().any(|known| name == *known || negated(known)) {
            let spec = format!("{{rules: [{{from: [{{source: {{namespaces: [a], \"{name}\": [b]}}}}]}}]}}");
            proptest::prop_assert!(said(&policy(&spec)).contains("unknown field"));
        }
    }
}
