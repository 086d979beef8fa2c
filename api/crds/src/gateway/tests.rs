//! Tables of Gateways, their classes and grants that are read, and of mistakes that are not.

use super::{FromNamespaces, GatewaySpec};
use crate::meta::Map;
use crate::object::Object;
use crate::read::tests::{object, said};
use crate::reference_grant::{GrantFrom, GrantTo};

fn document(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: {kind}\nmetadata: {{name: g, namespace: ns}}\nspec: {spec}\n"
    )
}

fn spec(text: &str) -> GatewaySpec {
    match &*object(&document("Gateway", text)) {
        Object::Gateway(one) => one.spec.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_waypoint_is_one_listener() {
    let spec = spec(
        "{gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE, \
         allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}}]}",
    );
    let listener = &spec.listeners[0];
    assert_eq!((listener.port.get(), listener.protocol.as_str()), (15008, "HBONE"));
    let namespaces = &listener.allowed_routes.namespaces;
    assert_eq!(namespaces.from, Some(FromNamespaces::Selector));
    assert!(!namespaces.selector.as_ref().unwrap().0.matches(&Map::new()));
}

#[test]
fn every_field_is_kept() {
    let spec = spec(
        r#"
  gatewayClassName: edge
  addresses: [{type: IPAddress, value: 10.0.0.1}]
  infrastructure: {labels: {a: b}, annotations: {c: d}, parametersRef: {group: "", kind: ConfigMap, name: p}}
  allowedListeners: {namespaces: {from: All}}
  defaultScope: None
  tls: {backend: {clientCertificateRef: {name: c}}}
  backendTLS: {clientCertificateRef: {name: c}}
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com", allowedRoutes: {kinds: [{kind: HTTPRoute}], namespaces: {from: Same}}}
  - name: https
    port: 443
    protocol: HTTPS
    tls: {mode: Terminate, certificateRefs: [{name: cert}], options: {a: b}, frontendValidation: {caCertificateRefs: []}}
"#,
    );
    assert_eq!(spec.infrastructure.unwrap().parameters_ref.unwrap().kind, "ConfigMap");
    assert_eq!(spec.listeners[1].tls.as_ref().unwrap().certificate_refs[0].kind, "Secret");
    assert_eq!(spec.addresses[0].value.as_deref(), Some("10.0.0.1"));
}

#[test]
fn grants_are_for_kinds_and_names() {
    let text =
        "{from: [{group: g, kind: HTTPRoute, namespace: a}], to: [{group: '', kind: Service, name: web}]}";
    let object = object(&document("ReferenceGrant", text));
    let Object::ReferenceGrant(grant) = &*object else { panic!("{object:?}") };
    let from = |namespace: &str| GrantFrom {
        group: "g".to_owned(),
        kind: "HTTPRoute".to_owned(),
        namespace: namespace.to_owned(),
    };
    let to = |name: &str| GrantTo {
        group: String::new(),
        kind: "Service".to_owned(),
        name: Some(name.to_owned()),
    };
    assert!(grant.permits(&from("a"), &to("web")));
    assert!(!grant.permits(&from("b"), &to("web")));
    assert!(!grant.permits(&from("a"), &to("other")));
}

#[test]
fn mistakes_name_field_and_mend() {
    let listeners = |text: &str| format!("{{gatewayClassName: a, listeners: [{text}]}}");
    let table = [
        ("Gateway", "{}".to_owned(), "Gateway ns/g: spec.gatewayClassName: no class is named"),
        (
            "Gateway",
            listeners(""),
            "Gateway ns/g: spec.listeners: a Gateway needs a listener; for a waypoint write",
        ),
        (
            "Gateway",
            listeners("{name: a, protocol: HTTP}"),
            "Gateway ns/g: spec.listeners[0]: the field \"port\" is missing",
        ),
        (
            "Gateway",
            listeners("{name: a, port: 0, protocol: HTTP}"),
            "Gateway ns/g: spec.listeners[0].port: 0 is not a port",
        ),
        (
            "Gateway",
            listeners("{name: a, port: 1, protocol: HTTP, tls: {}}"),
            "Gateway ns/g: spec.listeners[0].tls: HTTP has no TLS",
        ),
        (
            "Gateway",
            listeners("{name: a, port: 1, protocol: TCP, hostname: a}"),
            "Gateway ns/g: spec.listeners[0].hostname: TCP has no host",
        ),
        (
            "Gateway",
            listeners("{name: a, port: 1, protocol: A}, {name: a, port: 2, protocol: A}"),
            "Gateway ns/g: spec.listeners[1].name: \"a\" is there twice",
        ),
        (
            "Gateway",
            listeners("{name: a, port: 1, protocol: A}, {name: b, port: 1, protocol: A}"),
            "Gateway ns/g: spec.listeners[1].port: another listener",
        ),
        ("GatewayClass", "{}".to_owned(), "GatewayClass g: spec: the field \"controllerName\" is missing"),
        ("ReferenceGrant", "{from: []}".to_owned(), "ReferenceGrant ns/g: spec: the field \"to\" is missing"),
    ];
    for (kind, spec, expected) in table {
        let said = said(&document(kind, &spec));
        let prefix = format!("f.yaml:4: {expected}");
        assert!(said.starts_with(&prefix), "{spec}\n said     {said}\n expected {prefix}");
    }
}
