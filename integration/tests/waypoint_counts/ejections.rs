//! Ejections: how many failures, what share of the traffic, and the way back.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::PodHandle;
use ambit_lab::load::Outcome;
use libtest_mimic::Failed;

use crate::routed::{Mesh, PATIENCE, all_good, allowed};
use crate::support::{Check, check};
use crate::{routes, traffic};

const ASKED: u64 = 600;
/// How long a failing endpoint rests.
const REST: Duration = Duration::from_secs(4);
/// How much longer a busy machine may take to notice.
const SLACK: Duration = Duration::from_secs(2);

/// An endpoint that counts, and answers with what the test says.
struct Endpoint {
    shared: Arc<Told>,
    at: SocketAddr,
    pod: PodHandle,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    status: AtomicU16,
    count: AtomicU64,
    over: AtomicBool,
}

impl Endpoint {
    fn start(mesh: &Mesh, pod: &PodHandle) -> Result<Self, Failed> {
        let listener = mesh.lab.in_pod(pod, || TcpListener::bind(("0.0.0.0", 8080)))?;
        let shared = Arc::new(Told::default());
        shared.status.store(200, Ordering::Relaxed);
        let told = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.over.load(Ordering::Relaxed) {
                    return;
                }
                let told = Arc::clone(&told);
                // How a client leaves is the client's affair.
                std::thread::spawn(move || drop(serve(&stream, &told)));
            }
        });
        Ok(Endpoint { shared, at: (pod.address.v4, 8080).into(), pod: pod.clone(), thread })
    }

    fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Requests since it was last asked.
    fn count(&self) -> u64 {
        self.shared.count.swap(0, Ordering::Relaxed)
    }

    /// Ends it, so that another can have its port.
    fn end(self, mesh: &Mesh) -> Check {
        self.shared.over.store(true, Ordering::Relaxed);
        // One more connection wakes it.
        mesh.lab.in_pod(&self.pod, move || TcpStream::connect(self.at))?;
        Ok(self.thread.join().map_err(|_panic| "an endpoint failed")?)
    }
}

fn serve(stream: &TcpStream, told: &Told) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let end = line.trim().is_empty();
        line.clear();
        if !end {
            continue;
        }
        if told.over.load(Ordering::Relaxed) {
            return stream.shutdown(Shutdown::Both);
        }
        told.count.fetch_add(1, Ordering::Relaxed);
        let status = told.status.load(Ordering::Relaxed);
        let mut writer = stream;
        write!(writer, "HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Lets all counts begin anew.
fn forget(all: &[Endpoint]) {
    for endpoint in all {
        endpoint.count();
    }
}

/// One request after another.
fn ask(mesh: &Mesh, count: u64) -> Result<Outcome, Failed> {
    mesh.load(&mesh.pod("counts/client")?, "counts/ejected", |load| load.count = count)
}

/// Endpoints under a rule of ejection.
fn endpoints(mesh: &Mesh, rule: &str) -> Result<Vec<Endpoint>, Failed> {
    let rest = REST.as_secs();
    mesh.apply(&traffic(
        "ejected",
        &format!("trafficPolicy: {{outlierDetection: {{{rule}, interval: 1s, baseEjectionTime: {rest}s, maxEjectionPercent: 50}}}}"),
    ))?;
    mesh.apply(&routes("ejected", "[{route: [{destination: {host: ejected}}], retries: {attempts: 0}}]"))?;
    let pods = mesh.lab.pods("counts/ejected");
    pods.iter().map(|pod| Endpoint::start(mesh, pod)).collect()
}

/// An endpoint answers with 500 five times, and rests; the others share what comes; after its time it has its third again.
pub(crate) fn consecutive_5xx(mesh: &Mesh) -> Check {
    let all = endpoints(mesh, "consecutive5xxErrors: 5")?;
    all_good("before", &ask(mesh, ASKED)?)?;
    for endpoint in &all {
        allowed("each endpoint before", endpoint.count(), ASKED, 1.0 / 3.0)?;
    }
    all[0].answers(500);
    let before = Instant::now();
    // It is chosen for a third of them, so five are sure to come.
    let outcome = ask(mesh, ASKED / 6)?;
    let ejected = Instant::now();
    check(outcome.statuses.get("500") == Some(&5), || format!("with one that fails: {outcome:?}"))?;
    check(all[0].count() == 5, || "not five requests at the one that fails".to_owned())?;
    forget(&all);
    let outcome = ask(mesh, ASKED / 2)?;
    check(before.elapsed() < REST, || format!("too slow to judge: {:?}", before.elapsed()))?;
    all_good("while it rests", &outcome)?;
    check(all[0].count() == 0, || "requests at one that rests".to_owned())?;
    for endpoint in &all[1..] {
        allowed("each of the others", endpoint.count(), ASKED / 2, 0.5)?;
    }
    all[0].answers(200);
    while all[0].count() == 0 {
        all_good("until it is back", &ask(mesh, 10)?)?;
        check(ejected.elapsed() < PATIENCE, || "it does not come back".to_owned())?;
    }
    // It rests from its fifth failure, which lies between the two readings of the clock.
    let (most, least) = (before.elapsed(), ejected.elapsed());
    println!("back after {least:?} to {most:?}");
    check(most >= REST && least < REST + SLACK, || {
        format!("back after {least:?} to {most:?}, not {REST:?}")
    })?;
    forget(&all);
    all_good("afterwards", &ask(mesh, ASKED)?)?;
    for endpoint in &all {
        allowed("each endpoint afterwards", endpoint.count(), ASKED, 1.0 / 3.0)?;
    }
    all.into_iter().try_for_each(|endpoint| endpoint.end(mesh))
}

/// `consecutiveErrors`, as older manifests have it, counts 502, 503 and 504, and no other.
pub(crate) fn consecutive_errors(mesh: &Mesh) -> Check {
    let all = endpoints(mesh, "consecutiveErrors: 3, consecutive5xxErrors: 0")?;
    all[0].answers(500);
    let outcome = ask(mesh, ASKED)?;
    let failed = outcome.statuses.get("500").copied().unwrap_or_default();
    allowed("500 ejects nobody", failed, ASKED, 1.0 / 3.0)?;
    all[0].count();
    all[0].answers(502);
    let outcome = ask(mesh, ASKED / 6)?;
    check(outcome.statuses.get("502") == Some(&3) && all[0].count() == 3, || {
        format!("with 502: {outcome:?}")
    })?;
    all.into_iter().try_for_each(|endpoint| endpoint.end(mesh))
}
