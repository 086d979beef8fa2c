//! What two programs could read in two ways, a waypoint lets nobody read: every class of field.md §4.1 that a request can be
//! of, byte for byte from a client pod, each with its control, the same without what is wrong. Nothing that is refused may
//! arrive at the server, nor what was hidden in it.
//!
//! The classes, and where else they are tested: text of paths, hosts, repeated headers, patterns, what clients claim
//! (here, `waypoint_policy`); smuggling (here; every split of the bytes: `framing/tests.rs` of the waypoint); floods of
//! HTTP/2 (here); identities (tests of `ambit-transport` and `ambit-api`); structure of policies, version skew and what is
//! missing (`authz`, `waypoint_policy`, the controller's tests); bombs: nothing is decompressed or parsed.

#[path = "support/replicas.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod replicas;
#[path = "waypoint_malformed/rows.rs"]
mod rows;
#[path = "waypoint_malformed/second.rs"]
mod second;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use libtest_mimic::{Arguments, Failed};
use replicas::{Mesh, PATIENCE, Shared};
use rows::{BAD, Bad, JUDGED};
use second::{Met, Second};
use serde_json::Value;
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/waypoint-malformed.yaml");
/// Streams of a flood.
const FLOOD: u32 = 20_000;

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // What arrives at the server is counted.
    arguments.test_threads = Some(1);
    let shared = Shared::new("strict", MANIFESTS);
    let trials = vec![
        shared.trial("requests_of_two_readings", first),
        shared.trial("bytes_before_a_switch_is_agreed", early),
        shared.trial("one_spelling_for_policies", judged),
        shared.trial("faults_of_http2", faults),
        shared.trial("a_flood_of_resets_ends_its_connection_alone", flood),
        shared.trial("refusals_are_told", told),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Sends bytes on a connection of its own and reads all that comes back until the other side ends it.
fn sent(mesh: &Mesh, bytes: &[u8]) -> Result<String, Failed> {
    let (to, bytes) = (mesh.service("server", 80)?, bytes.to_vec());
    let back = mesh.lab.in_pod(&mesh.pod("caller")?, move || exchange(to, &bytes))?;
    Ok(String::from_utf8_lossy(&back).into_owned())
}

fn exchange(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    stream.shutdown(Shutdown::Both)?;
    Ok(back)
}

/// The statuses of all answers.
fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap_or_default()).collect()
}

/// Paths of the requests that have arrived at the server since it was last asked.
fn arrived(mesh: &Mesh) -> Result<BTreeSet<String>, Failed> {
    let at = SocketAddr::from(([127, 0, 0, 1], 8080));
    let ask = move |path: &str| ambit_lab::http::request("GET", at, path, PATIENCE);
    let told = mesh.lab.in_pod(&mesh.pod("server")?, move || {
        let told = ask("/counters")?;
        ask("/counters/reset").map(|_| told)
    })?;
    let told: Value = serde_json::from_str(&told.body)?;
    Ok(told["keys"].as_object().into_iter().flat_map(|keys| keys.keys().cloned()).collect())
}

/// What a trial has found wrong, all of it.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    fn told(self, rows: usize) -> Check {
        println!("  {rows} rows");
        check(self.0.is_empty(), || self.0.join("\n"))
    }
}

fn only(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn first(mesh: &Mesh) -> Check {
    let mut faults = Faults::default();
    arrived(mesh)?;
    for Bad { what, bad, good } in BAD {
        let back = sent(mesh, rows::with_next(bad, "/bad").as_bytes())?;
        faults.add(statuses(&back) == ["400"], || format!("{what}: {back:?}"));
        let reached = arrived(mesh)?;
        faults.add(reached.is_empty(), || format!("{what}: {reached:?} arrived"));
        let back = sent(mesh, rows::with_next(good, "/good").as_bytes())?;
        faults.add(statuses(&back) == ["200", "200"], || format!("control of {what}: {back:?}"));
        let reached = arrived(mesh)?;
        faults.add(reached == only(&["/good", "/smuggled"]), || format!("control of {what}: {reached:?}"));
    }
    // A body that turns out bad when its request is under way is never whole at the server.
    for (what, body) in rows::CHUNKS {
        let lines = format!("Transfer-Encoding: chunked\r\n\r\n{body}");
        let back = sent(mesh, rows::with_next(&lines, "/bad").as_bytes())?;
        faults.add(!statuses(&back).contains(&"200"), || format!("{what}: {back:?}"));
        let reached = arrived(mesh)?;
        faults.add(!reached.contains("/smuggled"), || format!("{what}: {reached:?} arrived"));
    }
    faults.told(BAD.len() + rows::CHUNKS.len())
}

fn early(mesh: &Mesh) -> Check {
    let mut faults = Faults::default();
    arrived(mesh)?;
    let hidden = "GET /admin HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n";
    // WebSocket is the one switch that goes on; its own test is of streams.
    for kind in ["h2c", "tls/1.0", "websocket, h2c"] {
        let asks = format!(
            "GET /good HTTP/1.1\r\nHost: server\r\nConnection: upgrade, http2-settings\r\nUpgrade: {kind}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let back = sent(mesh, format!("{asks}{hidden}").as_bytes())?;
        // The server did not switch, so they were a request, and judged like any other.
        faults.add(statuses(&back) == ["200", "403"], || format!("{kind}: {back:?}"));
        let passed = back.to_lowercase().contains("http2-settings");
        faults.add(!passed && !back.contains("h2c"), || format!("{kind} went on: {back:?}"));
    }
    let connect = format!("CONNECT server:80 HTTP/1.1\r\nHost: server:80\r\n\r\n{hidden}");
    let back = sent(mesh, connect.as_bytes())?;
    faults.add(statuses(&back) == ["400"], || format!("CONNECT: {back:?}"));
    let reached = arrived(mesh)?;
    faults.add(reached == only(&["/good"]), || format!("{reached:?} arrived"));
    faults.told(4)
}

fn judged(mesh: &Mesh) -> Check {
    let mut faults = Faults::default();
    for (request, status) in JUDGED {
        arrived(mesh)?;
        let host = if request.to_lowercase().contains("\nhost:") { "" } else { "Host: server\r\n" };
        let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
        let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
        let text = format!("{line} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        let back = sent(mesh, text.as_bytes())?;
        faults.add(statuses(&back) == [*status], || format!("{request:?}: {back:?}"));
        let reached = arrived(mesh)?;
        faults.add(reached.is_empty() == (*status != "200"), || format!("{request:?}: {reached:?} arrived"));
    }
    faults.told(JUDGED.len())
}

fn faults(mesh: &Mesh) -> Check {
    let mut faults = Faults::default();
    let (to, caller) = (mesh.service("server", 80)?, mesh.pod("caller")?);
    let ask = |headers: &'static [(&'static str, &'static str)]| {
        mesh.lab.in_pod(&caller, move || Second::open(to)?.ask(headers))
    };
    arrived(mesh)?;
    for (what, headers, expected) in second::FAULTS {
        let met = ask(headers)?;
        faults.add(met == *expected, || format!("{what}: {met:?}"));
        let reached = arrived(mesh)?;
        faults.add(reached.is_empty(), || format!("{what}: {reached:?} arrived"));
    }
    let met = ask(second::GOOD)?;
    faults.add(met == Met::Status(200), || format!("control: {met:?}"));
    faults.told(second::FAULTS.len())
}

fn flood(mesh: &Mesh) -> Check {
    let (to, caller) = (mesh.service("server", 80)?, mesh.pod("caller")?);
    let other = mesh.lab.in_pod(&caller, move || Second::open(to))?;
    let met = mesh.lab.in_pod(&caller, move || Second::open(to)?.flood(FLOOD))?;
    check(matches!(met, Met::Ended(_)), || format!("{met:?}"))?;
    // Control: who did nothing of the kind is served, on the connection it has and on a new one.
    for mut second in [other, mesh.lab.in_pod(&caller, move || Second::open(to))?] {
        let met = second.ask(second::GOOD)?;
        check(met == Met::Status(200), || format!("{met:?}"))?;
    }
    Ok(())
}

/// A request that could not even be read is counted and has its line.
fn told(mesh: &Mesh) -> Check {
    let [waypoint] = &mesh.replicas(1)?[..] else { return Err("one replica".into()) };
    let labels = [("response_code", "400"), ("response_flags", "DPE"), ("source_workload", "caller")];
    let count = || -> Result<f64, Failed> {
        Ok(mesh.lab.pod_metrics(waypoint)?.sum("istio_requests_total", &labels))
    };
    let before = count()?;
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    sent(mesh, rows::with_next(both, "/bad").as_bytes())?;
    let end = std::time::Instant::now() + PATIENCE;
    while count()? < before + 0.5 {
        check(std::time::Instant::now() < end, || "not counted".to_owned())?;
    }
    let log = mesh.lab.pod_logs(waypoint);
    let words = "both Content-Length and Transfer-Encoding are given";
    check(log.contains(words), || log)
}
