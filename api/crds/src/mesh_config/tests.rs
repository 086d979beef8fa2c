//! Mesh configurations that are read and mistakes that are not.

use super::{AccessLogEncoding, PathNormalization, ProviderKind};
use crate::object::Object;
use crate::read::tests::{note, object, said};
use crate::value::Percent;

fn document(mesh: &str) -> String {
    let lines: String = mesh.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ambit, namespace: ambit-system}}\ndata:\n  mesh: |\n{lines}"
    )
}

const MESH: &str = r#"pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}
defaultHttpRetryPolicy: {attempts: 5, retryOn: "503"}
accessLogFile: /dev/stdout
accessLogFormat: "%PROTOCOL%"
accessLogEncoding: JSON
enableTracing: true
defaultProviders: {tracing: [z], accessLogging: [f], metrics: [p]}
defaultConfig: {tracing: {sampling: 12.5, maxPathTagLength: 99}, concurrency: 2}
extensionProviders:
- {name: z, zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411, maxTagLength: 56, enable64bitTraceId: true}}
- {name: o, opentelemetry: {service: otel.obs.svc.cluster.local, port: 4318, http: {path: /v1/traces, timeout: 3s}}}
- {name: f, envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {a: "%PROTOCOL%"}}}}
- {name: p, prometheus: {}}"#;

#[test]
fn logs_traces_and_retries_are_typed_and_the_rest_is_named() {
    let object = object(&document(MESH));
    let Object::MeshConfig(mesh) = &*object else { panic!("{object:?}") };
    let spec = &mesh.spec;
    assert_eq!(spec.path_normalization.normalization, PathNormalization::DecodeAndMergeSlashes);
    assert_eq!(spec.default_http_retry_policy.as_ref().unwrap().attempts, 5);
    assert_eq!(spec.access_log_encoding, AccessLogEncoding::Json);
    assert_eq!(spec.default_config.tracing.sampling, Some(Percent::new(12.5).unwrap()));
    assert_eq!(spec.default_providers.tracing, ["z"]);
    let kinds = spec.extension_providers.iter().map(|one| &one.kind).collect::<Vec<_>>();
    assert!(
        matches!(kinds[0], ProviderKind::Zipkin(one) if one.port.get() == 9411 && one.enable_64bit_trace_id)
    );
    assert!(
        matches!(kinds[1], ProviderKind::OpenTelemetry(one) if one.http.as_ref().unwrap().path == "/v1/traces")
    );
    assert!(matches!(kinds[2], ProviderKind::FileAccessLog(one) if one.log_format.is_some()));
    let unused = [
        "extensionProviders[3].prometheus",
        "defaultConfig.concurrency",
        "defaultConfig.tracing.maxPathTagLength",
    ];
    assert_eq!(spec.unused(), unused);
    let expected = format!("data.mesh: nothing uses {}; the other fields count", unused.join(", "));
    assert!(note(&document(MESH)).ends_with(&expected), "{}", note(&document(MESH)));
}

#[test]
fn mistakes_name_field_and_mend() {
    let table = [
        (
            "pathNormalization: {normalization: MERGE}",
            "pathNormalization.normalization: unknown value \"MERGE\"",
        ),
        ("pathNormalisation: {}", "pathNormalisation: unknown field; did you mean \"pathNormalization\"?"),
        ("accessLogEncoding: XML", "accessLogEncoding: unknown value \"XML\"; write one of TEXT, JSON"),
        ("enableTracing: \"yes\"", "enableTracing: wrong type"),
        (
            "defaultConfig: {tracing: {sampling: 101}}",
            "defaultConfig.tracing.sampling: 101 is not a percentage",
        ),
        (
            "defaultHttpRetryPolicy: {attempts: 1, retryOn: x}",
            "defaultHttpRetryPolicy.retryOn: unknown condition \"x\"",
        ),
        ("extensionProviders: [{name: a}]", "extensionProviders[0]: a provider is exactly one thing"),
        (
            "extensionProviders: [{name: a, zipkn: {}}]",
            "extensionProviders[0]: unknown field \"zipkn\"; did you mean \"zipkin\"?",
        ),
        (
            "extensionProviders: [{name: a, zipkin: {service: b}}]",
            "extensionProviders[0].zipkin: the field \"port\" is missing",
        ),
        (
            "extensionProviders: [{name: a, prometheus: {}}, {name: a, prometheus: {}}]",
            "extensionProviders[1].name: \"a\" is there twice",
        ),
    ];
    for (mesh, expected) in table {
        let said = said(&document(mesh));
        let expected = format!("ConfigMap ambit-system/ambit: data.mesh.{expected}");
        assert!(said.contains(&expected), "{mesh}\n said     {said}\n expected {expected}");
    }
}
