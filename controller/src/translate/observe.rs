//! What the mesh configuration has waypoints log and trace: its default providers, else the older fields of its own.

use ambit_api::wire::waypoint::access_log::Encoding;
use ambit_api::wire::waypoint::tracing::Protocol;
use ambit_api::wire::waypoint::{AccessLog, Tracing};
use ambit_crds::mesh_config::{AccessLogEncoding, FileAccessLog, MeshConfigSpec, ProviderKind};
use ambit_crds::value::Percent;

/// The log sink that is there without being configured: text in the default format, on standard output.
const BUILT_IN: &str = "envoy";

/// Of requests whose clients have not decided, where nothing is said.
const SAMPLING: u32 = 10_000;

/// How requests are logged; `None`: not at all. The first provider that writes lines counts; whatever file it names, a
/// waypoint's lines go to its standard output.
pub(crate) fn access_log(spec: &MeshConfigSpec) -> Option<AccessLog> {
    let text = || AccessLog { encoding: Encoding::Text.into(), format: String::new() };
    for name in &spec.default_providers.access_logging {
        match provider(spec, name) {
            Some(ProviderKind::FileAccessLog(file)) => return Some(file_log(file)),
            None if name == BUILT_IN => return Some(text()),
            _ => {}
        }
    }
    if spec.access_log_file.is_empty() {
        return None;
    }
    let encoding = match spec.access_log_encoding {
        AccessLogEncoding::Json => Encoding::Json,
        AccessLogEncoding::Text => Encoding::Text,
    };
    Some(AccessLog { encoding: encoding.into(), format: spec.access_log_format.clone() })
}

fn file_log(file: &FileAccessLog) -> AccessLog {
    let format = file.log_format.as_ref();
    let (encoding, format) = match format.and_then(|format| format.labels.as_ref()) {
        Some(labels) => (Encoding::Json, serde_json::json!(labels).to_string()),
        None => (Encoding::Text, format.and_then(|format| format.text.clone()).unwrap_or_default()),
    };
    AccessLog { encoding: encoding.into(), format }
}

/// Where spans go; `None`: nowhere.
pub(crate) fn tracing(spec: &MeshConfigSpec) -> Option<Tracing> {
    let names = spec.default_providers.tracing.iter();
    let (protocol, service, port, path) = names.filter_map(|name| provider(spec, name)).find_map(|kind| {
        Some(match kind {
            ProviderKind::Zipkin(zipkin) => {
                (Protocol::Zipkin, &zipkin.service, zipkin.port, zipkin.path.clone())
            }
            ProviderKind::OpenTelemetry(otlp) => match &otlp.http {
                Some(http) => (Protocol::OtlpHttp, &otlp.service, otlp.port, http.path.clone()),
                None => (Protocol::OtlpGrpc, &otlp.service, otlp.port, String::new()),
            },
            ProviderKind::FileAccessLog(_) | ProviderKind::Other(_) => return None,
        })
    })?;
    // `namespace/host` names one of several services of that host; here hosts are unique.
    let host = service.rsplit_once('/').map_or(service.as_str(), |(_, host)| host);
    Some(Tracing {
        protocol: protocol.into(),
        collector: format!("{host}:{port}"),
        sampling: spec.default_config.tracing.sampling.map_or(SAMPLING, Percent::millionths),
        path,
    })
}

fn provider<'a>(spec: &'a MeshConfigSpec, name: &str) -> Option<&'a ProviderKind> {
    spec.extension_providers.iter().find(|provider| provider.name == name).map(|provider| &provider.kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> MeshConfigSpec {
        serde_json::from_value(value).expect("a mesh configuration")
    }

    #[test]
    fn logs_are_written_as_the_first_provider_says_or_the_older_fields() {
        let log = |encoding: Encoding, format: &str| {
            Some(AccessLog { encoding: encoding.into(), format: format.to_owned() })
        };
        let file = |format: Value| json!([{"name": "lines", "envoyFileAccessLog": {"path": "/dev/stdout", "logFormat": format}}]);
        let cases = [
            (json!({}), None),
            (json!({"accessLogFile": "/dev/stdout"}), log(Encoding::Text, "")),
            (
                json!({"accessLogFile": "/dev/stdout", "accessLogFormat": "%DURATION%"}),
                log(Encoding::Text, "%DURATION%"),
            ),
            (json!({"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON"}), log(Encoding::Json, "")),
            (json!({"defaultProviders": {"accessLogging": ["envoy"]}}), log(Encoding::Text, "")),
            (json!({"defaultProviders": {"accessLogging": ["gone"]}}), None),
            (
                json!({"defaultProviders": {"accessLogging": ["gone", "lines"]}, "extensionProviders": file(json!({"text": "%DURATION%"}))}),
                log(Encoding::Text, "%DURATION%"),
            ),
            (
                json!({"defaultProviders": {"accessLogging": ["lines"]}, "accessLogFile": "/dev/stdout",
                       "extensionProviders": file(json!({"labels": {"a": "%DURATION%"}}))}),
                log(Encoding::Json, r#"{"a":"%DURATION%"}"#),
            ),
            (json!({"extensionProviders": file(Value::Null)}), None),
        ];
        for (value, expected) in cases {
            assert_eq!(access_log(&spec(value.clone())), expected, "{value}");
        }
    }

    #[test]
    fn spans_go_to_the_first_provider_that_takes_them() {
        let providers = json!([
            {"name": "z", "zipkin": {"service": "tracing/zipkin.tracing.svc.cluster.local", "port": 9411}},
            {"name": "g", "opentelemetry": {"service": "otel.tracing.svc.cluster.local", "port": 4317}},
            {"name": "h", "opentelemetry": {"service": "otel", "port": 4318, "http": {"path": "/in"}}},
            {"name": "other", "lightstep": {}},
        ]);
        let traced = |names: Value, tracing: Value| {
            let spec = spec(json!({
                "defaultProviders": {"tracing": names},
                "extensionProviders": providers,
                "defaultConfig": {"tracing": tracing},
            }));
            super::tracing(&spec).map(|it| (it.protocol, it.collector, it.sampling, it.path))
        };
        let to = |protocol: Protocol, collector: &str, sampling, path: &str| {
            Some((protocol.into(), collector.to_owned(), sampling, path.to_owned()))
        };
        let zipkin = "zipkin.tracing.svc.cluster.local:9411";
        assert_eq!(traced(json!(["z"]), json!({})), to(Protocol::Zipkin, zipkin, 10_000, ""));
        assert_eq!(
            traced(json!(["other", "g", "z"]), json!({"sampling": 100})),
            to(Protocol::OtlpGrpc, "otel.tracing.svc.cluster.local:4317", 1_000_000, "")
        );
        assert_eq!(
            traced(json!(["h"]), json!({"sampling": 0.5})),
            to(Protocol::OtlpHttp, "otel:4318", 5_000, "/in")
        );
        assert_eq!(traced(json!(["gone", "other"]), json!({"sampling": 100})), None);
        assert_eq!(traced(json!([]), json!({"sampling": 100})), None);
    }
}
