//! Names, through the real programs: a Service's short, middle and full name, even load, and nothing for unready pods.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::manifest::parse;
use ambit_lab::{Component, Lab, LabOptions, Manifests, PodHandle};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check, output};

const STORE: &str = include_str!("manifests/names.yaml");
const EVEN: &str = include_str!("manifests/even.yaml");
const AMBIENT: &str = "istio.io/dataplane-mode=ambient";
/// Connections whose spread is counted.
const CONNECTIONS: u64 = 10_000;
/// Longest time they may take.
const SPREAD_WITHIN: Duration = Duration::from_secs(60);
/// Connections opened one after another by each of so many threads.
const LANES: u64 = 8;
/// Port of the counting application.
const COUNTED: u16 = 9090;
/// Requests that an unready pod must not see.
const REQUESTS: usize = 300;

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // Loads are timed: nothing else may run beside.
    arguments.test_threads = Some(1);
    let mut trials = vec![
        Trial::test("names_work_before_and_after_enrolment", || {
            names(Manifests::Inline(STORE.to_owned()), "store")
        }),
        Trial::test("ten_thousand_connections_are_spread_evenly", spread),
        Trial::test("an_unready_pod_gets_nothing_until_it_is_ready", unready),
        Trial::test("a_pod_that_does_not_listen_costs_no_connection", deaf),
    ];
    if let Some(folder) = std::env::var_os("AMBIT_GUIDES") {
        trials
            .push(Trial::test("the_guides_quick_start_works_as_written", move || guide(Path::new(&folder))));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The quick start of the guides' folder, whatever its number.
fn guide(folder: &Path) -> Check {
    let files: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    let quick = files.iter().find(|file| file.to_string_lossy().ends_with("quickstart.yaml"));
    let quick = quick.ok_or_else(|| format!("no quick start in {}", folder.display()))?;
    let text = std::fs::read_to_string(quick)?;
    let (documents, faults) = parse(quick, &text);
    check(faults.is_empty(), || format!("{faults:?}"))?;
    let service = documents.iter().find(|document| document.key.kind == "Service");
    let namespace = service.ok_or("the quick start has no Service")?.key.namespace.clone();
    println!("{}: namespace {namespace}, {} documents", quick.display(), documents.len());
    names(Manifests::Inline(text), &namespace)
}

/// Callers beside manifests whose Service is `web` in this namespace.
fn callers(namespace: &str) -> String {
    let pod = |name: &str, namespace: &str, labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}{labels}}}}}\nspec: {{containers: [{{name: curl, image: 'curlimages/curl:8.8.0', command: [sleep, infinity]}}]}}\n"
        )
    };
    let outside = ", istio.io/dataplane-mode: none";
    let pods = [
        pod("client", namespace, ""),
        pod("outsider", namespace, outside),
        pod("stranger", "elsewhere", outside),
        pod("neighbour", "elsewhere", ""),
    ];
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: elsewhere}}\n{}", pods.concat())
}

/// The names by which a pod of a namespace knows `web` of the Service's namespace.
fn known_as(from: &PodHandle, namespace: &str) -> Vec<String> {
    let short = (from.namespace == namespace).then(|| "web".to_owned());
    let longer = ["", ".svc", ".svc.cluster.local"].map(|end| format!("web.{namespace}{end}"));
    short.into_iter().chain(longer).collect()
}

fn names(manifests: Manifests, namespace: &str) -> Check {
    let mut options = support::named(LabOptions::inline(callers(namespace)));
    options.manifests.push(manifests);
    let lab = Lab::up(options)?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    let pod = |name: &str| lab.pod(name);
    let own = [pod(&format!("{namespace}/client"))?, pod(&format!("{namespace}/outsider"))?];
    let far = [pod("elsewhere/stranger")?, pod("elsewhere/neighbour")?];
    let [client, outsider] = &own;
    let [stranger, neighbour] = &far;

    // Nobody is in the mesh: everybody reaches it by every name.
    for from in own.iter().chain(&far) {
        reaches(&lab, from, namespace)?;
    }
    lab.label("namespace", namespace, &[AMBIENT])?;
    lab.label("namespace", "elsewhere", &[AMBIENT])?;
    lab.settled()?;
    reaches(&lab, client, namespace)?;
    // The documents ask for mutual TLS and for callers of the same namespace.
    for from in [outsider, stranger, neighbour] {
        refused(&lab, from, namespace)?;
    }
    lab.apply(&format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: {namespace}}}, spec: {{mtls: {{mode: PERMISSIVE}}}}}}"
    ))?;
    let policies: Vec<_> = policies(&lab)?;
    check(!policies.is_empty(), || "the documents hold no AuthorizationPolicy".to_owned())?;
    lab.delete(&policies)?;
    lab.settled()?;
    // Without these, enrolled and un-enrolled callers alike reach it by every name.
    for from in own.iter().chain(&far) {
        reaches(&lab, from, namespace)?;
    }
    Ok(())
}

/// Keys of the AuthorizationPolicies in the lab's manifests.
fn policies(lab: &Lab) -> Result<Vec<ambit_lab::manifest::Key>, Failed> {
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(lab.manifests())? {
        let file = entry?.path();
        let (documents, _faults) = parse(&file, &std::fs::read_to_string(&file)?);
        keys.extend(documents.into_iter().map(|document| document.key));
    }
    keys.retain(|key| key.kind == "AuthorizationPolicy");
    Ok(keys)
}

fn reaches(lab: &Lab, from: &PodHandle, namespace: &str) -> Check {
    let known = known_as(from, namespace);
    for name in &known {
        let said = output(lab, from, &["curl", "-s", "-m", "10", name])?;
        check(matches!(said.trim(), "Hello from v1" | "Hello from v2"), || {
            format!("{}/{} asked {name} and heard {said:?}", from.namespace, from.name)
        })?;
    }
    println!("{}/{} reached {}", from.namespace, from.name, known.join(", "));
    Ok(())
}

fn refused(lab: &Lab, from: &PodHandle, namespace: &str) -> Check {
    for name in known_as(from, namespace) {
        let said = lab.exec(from, &["curl", "-s", "-m", "10", &name])?;
        // 7: reset before curl looked at its connection; 52: no answer; 56: reset. Not 6, which is a name that does not
        // resolve, nor 28, which is waiting in vain.
        check(matches!(said.status.code(), Some(7 | 52 | 56)) && said.stdout.is_empty(), || {
            format!("{}/{} asked {name}: {said:?}", from.namespace, from.name)
        })?;
    }
    println!("{}/{} was refused", from.namespace, from.name);
    Ok(())
}

/// An application that counts its connections.
struct Counter {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    at: SocketAddr,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Counter {
    fn start(lab: &Lab, pod: &PodHandle) -> Result<Self, Failed> {
        let listener = lab.in_pod(pod, || TcpListener::bind(("0.0.0.0", COUNTED)))?;
        let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            loop {
                let (mut stream, _peer) = listener.accept()?;
                if stopped.load(Ordering::Relaxed) {
                    return Ok(());
                }
                counted.fetch_add(1, Ordering::Relaxed);
                stream.write_all(b"counted")?;
            }
        });
        Ok(Counter { count, stop, at: SocketAddr::new(pod.address.v4.into(), COUNTED), thread })
    }

    /// Ends it and says how many connections there were.
    fn end(self, lab: &Lab, pod: &PodHandle) -> Result<u64, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        // One more connection wakes it.
        lab.in_pod(pod, move || TcpStream::connect(self.at))?;
        self.thread.join().map_err(|_panic| "a counting application failed")??;
        Ok(self.count.load(Ordering::Relaxed))
    }
}

fn spread() -> Check {
    let lab = Lab::up(support::named(LabOptions::inline(EVEN)))?;
    lab.settled()?;
    let (client, backends) = (lab.pod("even/client")?, lab.pods("even/counted"));
    let counters =
        backends.iter().map(|pod| Counter::start(&lab, pod)).collect::<Result<Vec<_>, Failed>>()?;
    let to = lab.service("even/counted")?.ok_or("the Service has no address")?.v4;
    let start = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|_lane| lab.thread_in(&client, move || connect_often(to.into(), CONNECTIONS / LANES)))
        .collect();
    for lane in lanes {
        lane.join().map_err(|_panic| "a client failed")??;
    }
    let took = start.elapsed();
    let counts = counters
        .into_iter()
        .zip(&backends)
        .map(|(counter, pod)| counter.end(&lab, pod))
        .collect::<Result<Vec<_>, Failed>>()?;
    println!("{CONNECTIONS} connections in {:.1} s, at the backends: {counts:?}", took.as_secs_f64());
    let fifth = CONNECTIONS / 5;
    let (least, most) = (fifth - fifth / 10, fifth + fifth / 10);
    check(counts.len() == 5 && counts.iter().sum::<u64>() == CONNECTIONS, || format!("{counts:?}"))?;
    check(counts.iter().all(|count| (least..=most).contains(count)), || {
        format!("not every backend has {least} to {most} connections: {counts:?}")
    })?;
    check(took <= SPREAD_WITHIN, || format!("{took:?} instead of {SPREAD_WITHIN:?}"))?;
    // The mesh did it, not the un-enrolled pods' rules.
    let opened = lab.metrics(ambit_lab::Component::Ztunnel(client.node))?.sum(
        "istio_tcp_connections_opened_total",
        &[("reporter", "source"), ("connection_security_policy", "mutual_tls")],
    );
    check(opened >= CONNECTIONS as f64, || format!("the ztunnel opened {opened} connections"))
}

/// Connects again and again, each time to the end.
fn connect_often(to: IpAddr, times: u64) -> std::io::Result<()> {
    for _ in 0..times {
        let mut stream = TcpStream::connect((to, 80))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text != "counted" {
            return Err(std::io::Error::other(format!("{text:?} came back")));
        }
    }
    Ok(())
}

fn unready() -> Check {
    let lab = Lab::up(support::named(LabOptions::inline(EVEN)))?;
    lab.settled()?;
    let client = lab.pod("even/client")?;
    let pods = lab.pods("even/probed");
    let before = ask(&lab, &client, "probed", REQUESTS)?;
    check(before.len() == pods.len(), || format!("before: {before:?}"))?;

    let one = &pods[0];
    let name = format!("even/{}", one.name);
    let tell = |path: &str| format!("http://{}:8080/{path}", one.address.v4);
    output(&lab, &client, &["curl", "-sS", "-m", "5", &tell("unready")])?;
    lab.wait_readiness(&name, false, Duration::from_secs(10))?;
    lab.settled()?;
    let during = ask(&lab, &client, "probed", REQUESTS)?;
    println!("{REQUESTS} requests before {before:?}, while {} was unready {during:?}", one.name);
    check(!during.contains_key(&one.name), || format!("{} was unready and got {during:?}", one.name))?;
    check(during.len() == pods.len() - 1, || format!("during: {during:?}"))?;

    // Its own address still reaches it.
    output(&lab, &client, &["curl", "-sS", "-m", "5", &tell("ready")])?;
    lab.wait_readiness(&name, true, Duration::from_secs(10))?;
    lab.settled()?;
    let after = ask(&lab, &client, "probed", REQUESTS)?;
    println!("ready again: {after:?}");
    check(after.len() == pods.len(), || format!("after: {after:?}"))
}

/// One endpoint of four refuses connections: its ztunnel says so, and the caller's asks another one.
fn deaf() -> Check {
    let lab = Lab::up(support::named(LabOptions::inline(EVEN)))?;
    lab.settled()?;
    let client = lab.pod("even/client")?;
    let counted = || -> Result<f64, Failed> {
        let ztunnel = Component::Ztunnel(client.node);
        Ok(lab.metrics(ztunnel)?.sum("ambit_connect_retries_total", &[]))
    };
    let before = counted()?;
    let answered = ask(&lab, &client, "half", REQUESTS)?;
    let again = counted()? - before;
    println!("{REQUESTS} requests: {answered:?}, and {again} tried again");
    check(answered.values().sum::<usize>() == REQUESTS, || format!("{answered:?}"))?;
    check(again >= 1.0, || "nobody met the pod that does not listen".to_owned())?;
    // Control: its own address has no other endpoint.
    let to = (client.address.v4, 8080).into();
    let asked = lab.in_pod(&client, move || ambit_lab::http::request("GET", to, "/", Duration::from_secs(5)));
    check(asked.is_err(), || format!("{asked:?}"))
}

/// How many of some requests each pod answered.
fn ask(
    lab: &Lab,
    client: &PodHandle,
    service: &str,
    times: usize,
) -> Result<BTreeMap<String, usize>, Failed> {
    let to = lab.service(&format!("even/{service}"))?.ok_or("the Service has no address")?.v4;
    let answers = lab.in_pod(client, move || {
        let ask = |_| ambit_lab::http::request("GET", (to, 80).into(), "/", Duration::from_secs(5));
        (0..times).map(ask).collect::<std::io::Result<Vec<_>>>()
    })?;
    let mut counts = BTreeMap::new();
    for answer in answers {
        let told: serde_json::Value = serde_json::from_str(&answer.body)?;
        let pod = told["pod"].as_str().ok_or_else(|| format!("no pod in {told}"))?;
        *counts.entry(pod.to_owned()).or_default() += 1;
    }
    Ok(counts)
}
