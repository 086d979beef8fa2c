//! Tracers and log sinks of the mesh configuration.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::meta::Map;
use crate::value::{self, Percent};

/// Kinds of provider that are known, and used by nothing here.
const OTHERS: [&str; 11] = [
    "envoyExtAuthzHttp",
    "envoyExtAuthzGrpc",
    "lightstep",
    "datadog",
    "stackdriver",
    "opencensus",
    "skywalking",
    "prometheus",
    "envoyHttpAls",
    "envoyTcpAls",
    "envoyOtelAls",
];

/// Which providers are used where nothing else is said, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DefaultProviders {
    /// Tracers.
    pub tracing: Vec<String>,
    /// Sinks of metrics.
    pub metrics: Vec<String>,
    /// Sinks of access logs.
    pub access_logging: Vec<String>,
}

/// A tracer, a log sink or another program the mesh may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawProvider")]
pub struct ExtensionProvider {
    /// What others call it.
    pub name: String,
    /// What it is.
    pub kind: ProviderKind,
}

/// What a provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// A collector of Zipkin's protocol.
    Zipkin(Zipkin),
    /// A collector of OTLP.
    OpenTelemetry(OpenTelemetry),
    /// A file.
    FileAccessLog(FileAccessLog),
    /// Something known that nothing uses: the field's name.
    Other(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProvider {
    name: String,
    #[serde(default)]
    zipkin: Option<Zipkin>,
    #[serde(default)]
    opentelemetry: Option<OpenTelemetry>,
    #[serde(default)]
    envoy_file_access_log: Option<FileAccessLog>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A collector of Zipkin's protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Zipkin {
    /// Host name of the service, or `namespace/host`.
    pub service: String,
    /// Its port.
    #[serde(deserialize_with = "value::port")]
    pub port: NonZeroU16,
    /// Longest path in a tag.
    #[serde(default)]
    pub max_tag_length: Option<u32>,
    /// Trace IDs of 64 bits.
    #[serde(default, rename = "enable64bitTraceId")]
    pub enable_64bit_trace_id: bool,
    /// Path of the endpoint; `/api/v2/spans` where it is empty.
    #[serde(default)]
    pub path: String,
    /// Which headers carry the context.
    #[serde(default)]
    pub trace_context_option: Option<String>,
    /// How long a report may take.
    #[serde(default, deserialize_with = "value::optional_duration")]
    pub timeout: Option<Duration>,
    /// Headers of reports.
    #[serde(default)]
    pub headers: Vec<Value>,
}

/// A collector of OTLP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OpenTelemetry {
    /// Host name of the service, or `namespace/host`.
    pub service: String,
    /// Its port.
    #[serde(deserialize_with = "value::port")]
    pub port: NonZeroU16,
    /// Longest path in a tag.
    #[serde(default)]
    pub max_tag_length: Option<u32>,
    /// Over HTTP; over gRPC where it is absent.
    #[serde(default)]
    pub http: Option<OtlpHttp>,
    /// Details of gRPC.
    #[serde(default)]
    pub grpc: Option<OtlpGrpc>,
    /// Where more about the proxy is learnt.
    #[serde(default)]
    pub resource_detectors: Option<Value>,
    /// Who decides which requests are traced.
    #[serde(default)]
    pub dynatrace_sampler: Option<Value>,
    /// Where the service's name comes from.
    #[serde(default)]
    pub service_attribute_enrichment: Option<String>,
}

/// OTLP over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpHttp {
    /// Path of the endpoint; `/v1/traces` where it is empty.
    pub path: String,
    /// How long a report may take.
    #[serde(deserialize_with = "value::optional_duration")]
    pub timeout: Option<Duration>,
    /// Headers of reports.
    pub headers: Vec<Value>,
}

/// OTLP over gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OtlpGrpc {
    /// How long a report may take.
    #[serde(deserialize_with = "value::optional_duration")]
    pub timeout: Option<Duration>,
    /// Metadata of reports.
    pub initial_metadata: Vec<Value>,
}

/// A file of access logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct FileAccessLog {
    /// Path; `/dev/stdout` is the proxy's own output.
    pub path: String,
    /// What a line holds.
    pub log_format: Option<LogFormat>,
    /// Empty values are left out of JSON.
    pub omit_empty_values: bool,
}

/// What a line of an access log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogFormat {
    /// Envoy's operators in a text.
    pub text: Option<String>,
    /// Envoy's operators in the values of a JSON object.
    pub labels: Option<Map>,
}

/// Proxies' defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DefaultConfig {
    /// Tracing.
    pub tracing: TracingConfig,
    /// Everything else, which nothing uses.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// Tracing of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TracingConfig {
    /// How many of the requests; 1 % where it is absent.
    #[serde(deserialize_with = "value::optional_percent")]
    pub sampling: Option<Percent>,
    /// Everything else, which nothing uses.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

impl TryFrom<RawProvider> for ExtensionProvider {
    type Error = String;

    fn try_from(raw: RawProvider) -> Result<Self, String> {
        if let Some(field) = raw.others.keys().find(|field| !OTHERS.contains(&field.as_str())) {
            let known = OTHERS.into_iter().chain(["zipkin", "opentelemetry", "envoyFileAccessLog", "name"]);
            let mend = match crate::document::suggest(field, known.clone()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
            };
            return Err(format!("unknown field {field:?}; {mend}"));
        }
        let ours = [
            raw.zipkin.map(ProviderKind::Zipkin),
            raw.opentelemetry.map(ProviderKind::OpenTelemetry),
            raw.envoy_file_access_log.map(ProviderKind::FileAccessLog),
        ];
        let mut kinds = ours.into_iter().flatten().chain(raw.others.into_keys().map(ProviderKind::Other));
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(Self { name: raw.name, kind }),
            _ => Err(
                "a provider is exactly one thing; set one of zipkin, opentelemetry and envoyFileAccessLog"
                    .to_owned(),
            ),
        }
    }
}
