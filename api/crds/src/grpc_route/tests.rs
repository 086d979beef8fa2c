//! Tables of GRPCRoutes that are read and of mistakes that are not.

use crate::gateway_api::MatchKind;
use crate::object::Object;
use crate::read::tests::{object, said};

fn document(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r, namespace: ns}}\nspec: {spec}\n"
    )
}

#[test]
fn every_field_is_kept() {
    let text = r#"
  parentRefs: [{name: echo, kind: Service, group: ""}]
  hostnames: [echo.example.com]
  useDefaultGateways: None
  rules:
  - name: first
    matches:
    - method: {type: RegularExpression, service: "grpc\\..*", method: "E.*"}
      headers: [{name: a, value: b}]
    - method: {service: pkg.Echo}
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]
    backendRefs: [{name: echo, port: 9000, weight: 5}]
    sessionPersistence: {type: Header, header: {name: x-s}, idleTimeout: 5m}
"#;
    let object = object(&document(text));
    let Object::GrpcRoute(route) = &*object else { panic!("{object:?}") };
    let rule = &route.spec.rules[0];
    let method = rule.matches[0].method.as_ref().unwrap();
    assert_eq!((method.kind, method.service.as_deref()), (MatchKind::RegularExpression, Some("grpc\\..*")));
    let method = rule.matches[1].method.as_ref().unwrap();
    assert_eq!((method.kind, method.method.as_deref()), (MatchKind::Exact, None));
    assert_eq!(rule.backend_refs[0].weight, 5);
    assert_eq!(rule.session_persistence.as_ref().unwrap().header.as_ref().unwrap().name, "x-s");
}

#[test]
fn mistakes_name_field_and_mend() {
    let table = [
        ("{matches: [{method: {}}]}", "matches[0].method: it names nothing; write service, method or both"),
        ("{matches: [{method: {service: a/b}}]}", "matches[0].method.service: \"a/b\" is no name of gRPC"),
        ("{matches: [{method: {method: a.b}}]}", "matches[0].method.method: \"a.b\" is no name of gRPC"),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}]}",
            "filters[0].type: a GRPCRoute has no such filter",
        ),
        ("{timeouts: {request: 1s}}", "timeouts: unknown field"),
    ];
    for (rule, expected) in table {
        let said = said(&document(&format!("{{rules: [{rule}]}}")));
        let prefix = format!("f.yaml:4: GRPCRoute ns/r: spec.rules[0].{expected}");
        assert!(said.starts_with(&prefix), "{rule}\n said     {said}\n expected {prefix}");
    }
}
