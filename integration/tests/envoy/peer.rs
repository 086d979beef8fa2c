//! Envoy in a pod: its configuration, its process, and what its counters and access log say.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ambit_lab::{Lab, PodHandle, http};
use libtest_mimic::Failed;
use rcgen::{CertificateParams, DistinguishedName, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use crate::flows::PATIENCE;

/// Where Envoy answers questions about itself, inside its pod.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15099);
/// How long a ping of Envoy's may stay without an answer before it closes the tunnel.
const PING_TIMEOUT: &str = "2s";
/// Longer than that.
const SILENCE: Duration = Duration::from_secs(3);
/// Where it keeps the head of the answer to a CONNECT of its own.
const ANSWER: &str = "envoy.tcp_proxy.propagate_response_headers";
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A running Envoy; ends with this value.
pub(crate) struct Envoy {
    lab: Arc<Lab>,
    pod: PodHandle,
    folder: PathBuf,
    child: Mutex<Child>,
}

/// Certificates of the lab's own authority, for whomever a test wants Envoy to be.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: PathBuf,
}

impl Authority {
    /// The controller's.
    pub(crate) fn of(lab: &Lab) -> Result<Self, Failed> {
        let folder = lab.folder().join("ca");
        let root = folder.join("root-cert.pem");
        let key = KeyPair::from_pem(&std::fs::read_to_string(folder.join("root-key.pem"))?)?;
        Ok(Authority { issuer: Issuer::from_ca_cert_pem(&std::fs::read_to_string(&root)?, key)?, root })
    }

    /// Envoy's side of mutual TLS as `identity`, with a peer that must be `expected` (or anybody of the mesh).
    pub(crate) fn context(&self, identity: &str, expected: Option<&str>) -> Result<Value, Failed> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let mut validation = json!({"trusted_ca": {"filename": self.root}});
        if let Some(expected) = expected {
            let matcher = json!({"san_type": "URI", "matcher": {"exact": expected}});
            validation["match_typed_subject_alt_names"] = json!([matcher]);
        }
        Ok(json!({
            "alpn_protocols": ["h2"],
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": ["X25519MLKEM768", "X25519"],
            },
            "tls_certificates": [{
                "certificate_chain": {"inline_string": leaf.pem()},
                "private_key": {"inline_string": key.serialize_pem()},
            }],
            "validation_context": validation,
        }))
    }
}

/// What Envoy listens on and where it sends to.
#[derive(Default)]
pub(crate) struct Config {
    listeners: Vec<Value>,
    clusters: Vec<Value>,
}

/// HTTP/2 as Istio's waypoints use it, with pings often enough to be seen.
fn http2() -> Value {
    json!({
        "allow_connect": true,
        "max_concurrent_streams": 100,
        "initial_stream_window_size": 4 << 20,
        "initial_connection_window_size": 16 << 20,
        "connection_keepalive": {"interval": "0.2s", "timeout": PING_TIMEOUT},
    })
}

impl Config {
    /// Envoy as HBONE client: connections to `port` inside its pod go to `authority` through a tunnel to `server`.
    pub(crate) fn tunnel(&mut self, name: &str, port: u16, to: (SocketAddr, &str), tls: Value) {
        let (server, authority) = to;
        let mut tls = json!({"common_tls_context": tls});
        tls["@type"] = format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext").into();
        let mut cluster = cluster(name, server);
        cluster["transport_socket"] = json!({"name": "tls", "typed_config": tls});
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": http2()},
            },
        });
        self.clusters.push(cluster);
        let proxy = json!({
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": name, "cluster": name,
            "tunneling_config": {"hostname": authority, "propagate_response_headers": true},
            "access_log": [access_log(&json!({"answer": format!("%FILTER_STATE({ANSWER}:TYPED)%")}))],
        });
        let listener = json!({
            "name": name, "address": socket(([127, 0, 0, 1], port).into()),
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
        });
        self.listeners.push(listener);
    }

    /// Envoy as HBONE server: a CONNECT to `authority` is joined to `app`, any other is not found. A connection takes
    /// `requests` streams and is then closed gracefully.
    pub(crate) fn server(&mut self, name: &str, app: (&str, SocketAddr), requests: Option<u32>, tls: Value) {
        let (authority, app) = app;
        let to = format!("app-{name}");
        self.clusters.push(cluster(&to, app));
        let mut tls = json!({"require_client_certificate": true, "common_tls_context": tls});
        tls["@type"] = format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext").into();
        let route = json!({
            "match": {"connect_matcher": {}},
            "route": {"cluster": to, "timeout": "0s", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
        });
        let router = json!({"@type": format!("{TYPES}.filters.http.router.v3.Router")});
        let mut manager = json!({
            "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name, "codec_type": "HTTP2", "http2_protocol_options": http2(),
            "upgrade_configs": [{"upgrade_type": "CONNECT"}], "stream_idle_timeout": "0s",
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
            "route_config": {"virtual_hosts": [{"name": name, "domains": [authority], "routes": [route]}]},
            "access_log": [access_log(&request())],
        });
        if let Some(requests) = requests {
            manager["common_http_protocol_options"] = json!({"max_requests_per_connection": requests});
        }
        let listener = json!({
            "name": name, "address": socket(([0, 0, 0, 0], 15008).into()),
            "filter_chains": [{
                "filters": [{"name": "http", "typed_config": manager}],
                "transport_socket": {"name": "tls", "typed_config": tls},
            }],
        });
        self.listeners.push(listener);
    }

    fn text(&self) -> String {
        json!({
            "admin": {"address": socket(ADMIN)},
            "static_resources": {"listeners": self.listeners, "clusters": self.clusters},
        })
        .to_string()
    }
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(to)}});
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A CONNECT as it came over the wire.
fn request() -> Value {
    json!({
        "method": "%REQ(:METHOD)%", "authority": "%REQ(:AUTHORITY)%", "path": "%REQ(:PATH)%",
        "protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%", "peer": "%DOWNSTREAM_PEER_URI_SAN%",
        "tls": "%DOWNSTREAM_TLS_VERSION%", "sni": "%REQUESTED_SERVER_NAME%", "baggage": "%REQ(BAGGAGE)%",
        "forwarded": "%REQ(FORWARDED)%", "traceparent": "%REQ(TRACEPARENT)%",
    })
}

/// One JSON line for each connection or request that has ended.
fn access_log(fields: &Value) -> Value {
    json!({
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": format!("{TYPES}.access_loggers.stream.v3.StdoutAccessLog"),
            "log_format": {"json_format": fields},
        },
    })
}

impl Envoy {
    /// Starts the program in a pod and waits until it is ready.
    pub(crate) fn start(
        program: &Path,
        lab: &Arc<Lab>,
        pod: &PodHandle,
        config: &Config,
    ) -> Result<Self, Failed> {
        let folder = lab.folder().join(format!("envoy-{}", pod.name));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("envoy.json");
        std::fs::write(&file, config.text())?;
        let output = |name: &str| std::fs::File::create(folder.join(name));
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["--log-level", "warning", "--component-log-level", "pool:debug"]);
        command.stdin(Stdio::null()).stdout(output("access.log")?).stderr(output("envoy.log")?);
        let child = Mutex::new(lab.spawn_in(pod, command)?);
        let envoy = Envoy { lab: Arc::clone(lab), pod: pod.clone(), folder, child };
        envoy.wait("readiness", |envoy| {
            Ok(envoy.ask("GET", "/ready").is_ok_and(|answer| answer.status == 200))
        })?;
        Ok(envoy)
    }

    /// Asks its administration.
    pub(crate) fn ask(&self, method: &'static str, path: &str) -> std::io::Result<http::Answer> {
        let path = path.to_owned();
        self.lab.in_pod(&self.pod, move || http::request(method, ADMIN, &path, Duration::from_secs(5)))
    }

    /// The value of a counter or gauge; 0 when there is none yet.
    pub(crate) fn counter(&self, name: &str) -> Result<u64, Failed> {
        let text = self.ask("GET", "/stats?usedonly")?.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(value.map_or(Ok(0), str::parse)?)
    }

    /// Waits until a condition holds.
    pub(crate) fn wait(
        &self,
        what: &str,
        holds: impl Fn(&Self) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        let end = Instant::now() + PATIENCE;
        while !holds(self)? {
            if let Some(status) = self.child.lock().map_err(|_panic| "lost track of Envoy")?.try_wait()? {
                return Err(format!("Envoy ended with {status}: {}", self.said()).into());
            }
            if Instant::now() > end {
                let ended = self.ended()?;
                return Err(
                    format!("waiting for {what}: {}\n{ended:?}\n{}", self.stats(), self.said()).into()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends nothing for longer than an unanswered ping would be suffered.
    pub(crate) fn silence(&self) {
        std::thread::sleep(SILENCE);
    }

    /// Waits until a counter is at least this.
    pub(crate) fn wait_counter(&self, name: &str, least: u64) -> Result<(), Failed> {
        self.wait(&format!("{name} ≥ {least}"), |envoy| Ok(envoy.counter(name)? >= least))
    }

    /// Waits until a CONNECT of its own has been answered so.
    pub(crate) fn wait_answer(&self, status: u16) -> Result<(), Failed> {
        let status = status.to_string();
        let is = |header: &Value| header["key"] == ":status" && header["value"] == status.as_str();
        let answered =
            |line: &Value| line["answer"]["headers"].as_array().is_some_and(|headers| headers.iter().any(is));
        self.wait(&format!("status {status}"), |envoy| Ok(envoy.ended()?.iter().any(answered)))
    }

    /// Lines of its access log so far.
    pub(crate) fn ended(&self) -> Result<Vec<Value>, Failed> {
        let text = std::fs::read_to_string(self.folder.join("access.log"))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// The end of its log.
    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Counters of what the tests concern.
    fn stats(&self) -> String {
        let all = self.ask("GET", "/stats?usedonly").map(|answer| answer.body).unwrap_or_default();
        let of = |line: &&str| line.contains(".hbone.") && !line.contains("P0(");
        all.lines().filter(of).map(|line| format!("\n{line}")).collect()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        if let Ok(child) = self.child.get_mut() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
