//! What a waypoint tells: requests counted with the labels of Istio's dashboards, lines in the access log in both
//! encodings, spans in the client's trace at a collector, and a line for every refusal, whatever is configured.

#[path = "observe/rare.rs"]
mod rare;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use ambit_lab::load::{Connections, Load};
use ambit_lab::metrics::Samples;
use ambit_lab::stream::Stream;
use ambit_lab::{Lab, LabOptions, PodHandle, Served};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use support::{Check, check, output};

const MANIFESTS: &str = include_str!("manifests/observe.yaml");
/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Where a collector of Zipkin's and one of OTLP over HTTP listen.
const PORTS: [u16; 2] = [9411, 4318];

struct Shop {
    lab: Lab,
    alice: PodHandle,
    web: SocketAddr,
    /// What the collector was sent: path and body.
    reports: Mutex<Receiver<(String, Vec<u8>)>>,
}

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all, whose configuration the trials change.
    arguments.test_threads = Some(1);
    let shop = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Shop) -> Check| {
        let shop = Arc::clone(&shop);
        Trial::test(name, move || {
            let up = shop.get_or_init(|| Shop::up().map_err(|error| format!("{error:?}")));
            run(up.as_ref()?)
        })
    };
    let trials = vec![
        trial("requests_are_counted_under_istio_s_labels", counted),
        trial("connections_are_counted", connections),
        trial("refusals_have_a_line_with_nothing_configured", refused),
        trial("policies_that_decide_nothing_are_counted", rare::trials),
        trial("messages_of_grpc_are_counted", rare::messages),
        trial("copies_are_counted", rare::mirrors),
        trial("ejections_are_counted", rare::ejections),
        trial("lines_in_the_default_text", text),
        trial("lines_in_json", json),
        trial("spans_in_zipkin_s_form", zipkin),
        trial("spans_over_otlp", otlp),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl Shop {
    fn up() -> Result<Self, Failed> {
        let lab = Lab::up(support::named(LabOptions::inline(MANIFESTS)))?;
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        lab.settled()?;
        let alice = lab.pod("shop/alice")?;
        let web = lab.service("shop/web")?.ok_or("no address")?.v4;
        let (send, reports) = channel();
        for port in PORTS {
            let send = send.clone();
            drop(lab.thread_in(&lab.pod("tracing/collector")?, move || collect(port, &send)));
        }
        let web = SocketAddr::new(IpAddr::V4(web), 80);
        let shop = Self { lab, alice, web, reports: Mutex::new(reports) };
        // Straight to the pod until the waypoint is there.
        let start = Instant::now();
        while shop.asked(|_| {})? != "403" {
            check(start.elapsed() < PATIENCE, || shop.lab.status())?;
        }
        Ok(shop)
    }

    fn get(&self, path: &str, headers: &[&str]) -> Result<String, Failed> {
        let url = format!("http://{}{path}", self.web);
        let mut words = vec!["curl", "-sS", "-m", "5", "-A", "observer", "-H", "host: web.shop"];
        words.extend(headers.iter().flat_map(|header| ["-H", header]));
        words.push(&url);
        output(&self.lab, &self.alice, &words)
    }

    /// The one status of requests for what is denied, unless changed.
    fn asked(&self, change: impl FnOnce(&mut Load)) -> Result<String, Failed> {
        let mut load = Load::new(self.web);
        (load.path, load.count, load.connections) = ("/admin".to_owned(), 1, Connections::OnePerRequest);
        change(&mut load);
        let outcome = self.lab.in_pod(&self.alice, move || load.run())?;
        // An answer counts as failed, too, if it is no good one.
        let met: Vec<_> = match outcome.statuses.is_empty() {
            true => outcome.failed.into_keys().collect(),
            false => outcome.statuses.into_keys().collect(),
        };
        Ok(met.join(" "))
    }

    fn waypoint(&self) -> Result<PodHandle, Failed> {
        self.lab.waypoints().into_iter().next().ok_or_else(|| "no waypoint".into())
    }

    fn metrics(&self) -> Result<Samples, Failed> {
        let answer = self.lab.ask_pod(&self.waypoint()?, Served::Metrics, "GET", "/stats/prometheus")?;
        Ok(Samples::parse(&answer.body))
    }

    /// Waits until the figure is there: a client has its answer a moment before it is counted.
    fn comes_to(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<Samples, Failed> {
        let start = Instant::now();
        loop {
            let samples = self.metrics()?;
            if (samples.sum(name, labels) - value).abs() < 0.5 {
                return Ok(samples);
            }
            check(start.elapsed() < PATIENCE, || {
                format!("{name}{labels:?} is {} and not {value}", samples.sum(name, labels))
            })?;
        }
    }

    fn log(&self) -> Result<String, Failed> {
        Ok(self.lab.pod_logs(&self.waypoint()?))
    }

    /// What the mesh configuration says from now on.
    fn configure(&self, mesh: &str) -> Check {
        let faults = self.lab.apply(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: ambit, namespace: ambit-system}}, data: {{mesh: '{mesh}'}}}}"
        ))?;
        check(faults.is_empty(), || format!("{faults:?}"))
    }

    /// Asks until the waypoint's log has a new line that is as wanted, which it is once the waypoint obeys its new
    /// configuration.
    fn logged(&self, ask: impl Fn() -> Check, wanted: impl Fn(&str) -> bool) -> Result<String, Failed> {
        let (start, before) = (Instant::now(), self.log()?.len());
        loop {
            ask()?;
            let log = self.log()?;
            let new = log.get(before..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| wanted(line)) {
                return Ok(line.to_owned());
            }
            check(start.elapsed() < PATIENCE, || format!("no such line in:\n{new}"))?;
        }
    }

    /// Asks until the collector has a report with the client's trace; its path and body.
    fn reported(&self, headers: &[&str], trace: &[u8]) -> Result<(String, Vec<u8>), Failed> {
        let start = Instant::now();
        let reports = self.reports.lock().map_err(|_| "poisoned")?;
        loop {
            self.get("/", headers)?;
            if let Ok(report) = reports.recv_timeout(Duration::from_secs(1))
                && report.1.windows(trace.len()).any(|window| window == trace)
            {
                return Ok(report);
            }
            check(start.elapsed() < PATIENCE, || self.log().unwrap_or_default())?;
        }
    }
}

/// A collector: takes what is posted, one request after the other.
fn collect(port: u16, reports: &Sender<(String, Vec<u8>)>) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        // A connection that breaks off ends like any other.
        while let Ok(report) = take(&mut stream) {
            if reports.send(report).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn take(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
    Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), body))
}

fn counted(shop: &Shop) -> Check {
    let before = shop.metrics()?.sum("istio_requests_total", &[("response_code", "200")]);
    let outcome = shop.asked(|load| (load.path, load.count) = ("/".to_owned(), 25))?;
    check(outcome == "200", || outcome)?;
    let labels = [
        ("connection_security_policy", "mutual_tls"),
        ("destination_app", "web"),
        ("destination_canonical_revision", "v2"),
        ("destination_canonical_service", "web"),
        ("destination_cluster", "Kubernetes"),
        ("destination_principal", "spiffe://cluster.local/ns/shop/sa/web"),
        ("destination_service", "web.shop.svc.cluster.local"),
        ("destination_service_name", "web"),
        ("destination_service_namespace", "shop"),
        ("destination_version", "v2"),
        ("destination_workload", "web"),
        ("destination_workload_namespace", "shop"),
        ("grpc_response_status", ""),
        ("reporter", "waypoint"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("source_app", "alice"),
        ("source_canonical_revision", "v1"),
        ("source_canonical_service", "alice"),
        ("source_cluster", "Kubernetes"),
        ("source_principal", "spiffe://cluster.local/ns/shop/sa/alice"),
        ("source_version", "v1"),
        ("source_workload", "alice"),
        ("source_workload_namespace", "shop"),
    ];
    let samples = shop.comes_to("istio_requests_total", &labels, before + 25.0)?;
    for sample in samples.matching("istio_requests_total", &[]) {
        check(sample.labels.keys().eq(labels.iter().map(|(name, _)| name)), || format!("{sample:?}"))?;
    }
    for name in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
        let count = samples.sum(&format!("{name}_count"), &labels);
        check((count - before - 25.0).abs() < 0.5, || format!("{name}: {count}"))?;
    }
    let bytes = samples.sum("istio_response_bytes_sum", &labels);
    check(bytes > 25.0 * 20.0, || format!("{bytes} bytes"))
}

fn connections(shop: &Shop) -> Check {
    let to = SocketAddr::new(shop.web.ip(), 9090);
    let closed = [("reporter", "waypoint"), ("request_protocol", "tcp"), ("source_workload", "alice")];
    let before = shop.metrics()?.sum("istio_tcp_connections_closed_total", &closed);
    let told = shop.lab.in_pod(&shop.alice, move || -> Result<u64, String> {
        let stream = Stream::open(to, Duration::from_millis(5)).map_err(|error| error.to_string())?;
        while stream.rounds() == 0 && !stream.broken() {
            std::thread::yield_now();
        }
        stream.finish()
    })?;
    check(told > 0, || "nothing came back".to_owned())?;
    let samples = shop.comes_to("istio_tcp_connections_closed_total", &closed, before + 1.0)?;
    let labels = [
        ("destination_principal", "spiffe://cluster.local/ns/shop/sa/web"),
        ("source_principal", "spiffe://cluster.local/ns/shop/sa/alice"),
        ("destination_service_name", "web"),
    ];
    for name in ["opened_total", "closed_total"] {
        let count = samples.sum(&format!("istio_tcp_connections_{name}"), &labels);
        check(count >= 1.0, || format!("{name}: {count}"))?;
    }
    let bytes = samples.sum("istio_tcp_received_bytes_total", &labels);
    check(bytes > 0.0, || "no bytes were counted".to_owned())
}

fn refused(shop: &Shop) -> Check {
    let labels = [("response_code", "403"), ("response_flags", "UAEX"), ("source_workload", "alice")];
    let before = shop.metrics()?.sum("istio_requests_total", &labels);
    let words = [
        "request failed",
        "path=/admin",
        "status=403",
        "flags=UAEX",
        "layer=T reason=policy_denied policy=shop/no-admin rule=0",
        "spiffe://cluster.local/ns/shop/sa/alice",
    ];
    let ask = || {
        let outcome = shop.asked(|_| {})?;
        check(outcome == "403", || outcome)
    };
    shop.logged(ask, |line| words.iter().all(|word| line.contains(word)))?;
    shop.comes_to("istio_requests_total", &labels, before + 1.0)?;
    // The control: what is permitted leaves no line.
    let before = shop.log()?.len();
    check(shop.asked(|load| load.path = "/quiet".to_owned())? == "200", || "not permitted".to_owned())?;
    let new = shop.log()?.get(before..).unwrap_or_default().to_owned();
    check(!new.contains("/quiet"), || new)
}

fn text(shop: &Shop) -> Check {
    shop.configure("{\"accessLogFile\": \"/dev/stdout\"}")?;
    let ask = || shop.get("/text?a=b", &["x-request-id: 7"]).map(drop);
    let line =
        shop.logged(ask, |line| line.contains("\"GET /text?a=b HTTP/1.1\" 200 - via_upstream - \"-\" 0 "))?;
    let endpoint = shop.lab.pod("shop/web")?.address.v4;
    let words = [
        " \"observer\" \"7\" \"web.shop\" ",
        &format!(" \"{endpoint}:5678\" inbound-vip|80|http|web.shop.svc.cluster.local - {} ", shop.web),
        &format!(" {}:", shop.alice.address.v4),
    ];
    check(words.iter().all(|word| line.contains(word)), || format!("{words:?} in {line}"))?;
    let begins = line.strip_prefix("[20").and_then(|line| line.split_once("Z] \"GET ")).is_some();
    check(begins, || line.clone())?;
    let denied = "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]";
    let ask = || shop.get("/admin", &[]).map(drop);
    shop.logged(ask, |line| line.contains(&format!("\"GET /admin HTTP/1.1\" 403 UAEX {denied} - \"-\" 0 ")))
        .map(drop)
}

fn json(shop: &Shop) -> Check {
    shop.configure("{\"accessLogFile\": \"/dev/stdout\", \"accessLogEncoding\": \"JSON\"}")?;
    let ask = || shop.get("/json", &[]).map(drop);
    let line = shop.logged(ask, |line| line.starts_with('{') && line.contains("\"/json\""))?;
    let line: Value = serde_json::from_str(&line)?;
    let expected = [
        ("method", Value::from("GET")),
        ("protocol", "HTTP/1.1".into()),
        ("response_code", 200.into()),
        ("response_flags", "-".into()),
        ("authority", "web.shop".into()),
        ("downstream_local_address", shop.web.to_string().into()),
        ("upstream_transport_failure_reason", Value::Null),
    ];
    for (key, value) in expected {
        check(line[key] == value, || format!("{key} is not {value} in {line}"))?;
    }
    let keys = line.as_object().map_or(0, serde_json::Map::len);
    check(keys == 24 && line["duration"].is_u64(), || line.to_string())
}

fn tracing(provider: &str) -> String {
    format!(
        "{{\"defaultProviders\": {{\"tracing\": [\"it\"]}}, \"extensionProviders\": [{{\"name\": \"it\", {provider}}}]}}"
    )
}

fn zipkin(shop: &Shop) -> Check {
    shop.configure(&tracing(
        "\"zipkin\": {\"service\": \"collector.tracing.svc.cluster.local\", \"port\": 9411}",
    ))?;
    let trace = format!("x-b3-traceid: {TRACE}");
    let headers = [trace.as_str(), &format!("x-b3-spanid: {PARENT}"), "x-b3-sampled: 1"];
    let (path, body) = shop.reported(&headers, TRACE.as_bytes())?;
    check(path == "/api/v2/spans", || path)?;
    let spans: Value = serde_json::from_slice(&body)?;
    let span = &spans[0];
    let tags = &span["tags"];
    let holds = span["parentId"] == PARENT
        && span["kind"] == "SERVER"
        && span["localEndpoint"]["serviceName"] == "waypoint.shop"
        && tags["http.status_code"] == "200"
        && tags["user_agent"] == "observer"
        && tags["istio.source_workload"] == "alice"
        && tags["istio.destination_workload"] == "web";
    check(holds, || format!("{spans:#}"))?;
    // The application gets the waypoint's span as its parent.
    let told: Value = serde_json::from_str(&shop.get("/", &headers)?)?;
    let sent = |name: &str| told["headers"][name][0].as_str().unwrap_or_default().to_owned();
    let holds = sent("x-b3-traceid") == TRACE
        && sent("x-b3-parentspanid") == PARENT
        && sent("x-b3-spanid").len() == 16
        && sent("x-b3-spanid") != PARENT
        && sent("x-request-id").len() == 36;
    check(holds, || format!("{told:#}"))
}

fn otlp(shop: &Shop) -> Check {
    shop.configure(&tracing(
        "\"opentelemetry\": {\"service\": \"collector.tracing.svc.cluster.local\", \"port\": 4318, \"http\": {}}",
    ))?;
    let trace: Vec<u8> =
        (0..16).filter_map(|at| u8::from_str_radix(&TRACE[at * 2..at * 2 + 2], 16).ok()).collect();
    let header = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let (path, body) = shop.reported(&[&header], &trace)?;
    check(path == "/v1/traces", || path)?;
    let said = String::from_utf8_lossy(&body);
    for word in ["service.name", "waypoint.shop", "web.shop:80/*", "istio.source_workload", "alice"] {
        check(said.contains(word), || format!("{word} in {said}"))?;
    }
    let told: Value = serde_json::from_str(&shop.get("/", &[&header])?)?;
    let sent = told["headers"]["traceparent"][0].as_str().unwrap_or_default();
    let holds = sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01") && !sent.contains(PARENT);
    check(holds, || format!("{told:#}"))
}
