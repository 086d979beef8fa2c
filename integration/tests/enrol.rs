//! Labels enrol and un-enrol running pods: who is in, who never is, that nothing open breaks, and what happens when an
//! application holds a port of the mesh's.

#[path = "enrol/held.rs"]
mod held;
mod support;
#[path = "support/traffic.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod traffic;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ambit_lab::capture::Capture;
use ambit_lab::component::Kind as Program;
use ambit_lab::settings::left_out;
use ambit_lab::{Component, Lab, LabOptions, MeshMode, NodeNumber, PodHandle, Programs};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};
use traffic::{Kind, Talk, finish, go_on, until};

const MANIFESTS: &str = include_str!("manifests/enrol.yaml");
const AMBIENT: &str = "istio.io/dataplane-mode=ambient";
const UNLABELLED: &str = "istio.io/dataplane-mode-";
const NEVER: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
const WEB: u16 = 8080;
const ECHO: u16 = 9090;
const TUNNEL: u16 = 15008;
/// Ports the ztunnel listens on inside a pod.
const PROXY_PORTS: [u16; 3] = [15001, 15006, TUNNEL];
/// Longest time until something happens that must happen.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest time until a pod that has just left is back.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How new connections between two pods cross the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crossing {
    /// On the application's port, readable.
    Clear,
    /// On the tunnels' port, unreadable.
    Tunnel,
}

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One after the other: each of them keeps two cores busy.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("enrol::labels_decide_who_is_in", labels),
        Trial::test("enrol::no_open_connection_breaks", open_connections),
        Trial::test("enrol::a_pod_may_come_back_at_once", back_at_once),
        Trial::test("enrol::a_held_port_closes_the_pod", held::closed_until_free),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn up(manifests: &str, programs: Programs) -> Result<Lab, Failed> {
    let mut options = support::named(LabOptions::inline(manifests));
    options.mesh = MeshMode::On(programs);
    let lab = Lab::up(options)?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    lab.settled()?;
    Ok(lab)
}

/// Makes a request over each family and says how it crossed the wire between the nodes.
fn crossing(lab: &Lab, from: &PodHandle, to: &PodHandle) -> Result<Crossing, Failed> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut crossings = Vec::new();
    for (near, far) in from.address.both().into_iter().zip(to.address.both()) {
        let words = format!("crossing-{}.", NEXT.fetch_add(1, Ordering::Relaxed));
        let capture = Capture::start(lab.node(from.node)?)?;
        let said = words.clone();
        let answer = lab.in_pod(from, move || {
            ambit_lab::http::request("GET", SocketAddr::new(far, WEB), &format!("/{said}"), LIMIT / 3)
        });
        let packets = capture.finish();
        let answer = answer.map_err(|error| format!("{}/{} to {far}: {error}", from.namespace, from.name))?;
        check(answer.status == 200 && answer.body.contains(&words), || format!("{answer:?}"))?;
        let shown = packets.payloads(near, far, |packet| packet.on_port(WEB)).count();
        let tunnelled = packets.payloads(near, far, |packet| packet.on_port(TUNNEL)).count();
        crossings.push(match (packets.shows(&words), shown, tunnelled) {
            (true, 1.., _) => Crossing::Clear,
            (false, 0, 1..) => Crossing::Tunnel,
            odd => return Err(format!("{} to {far}: shown, in clear, in tunnels: {odd:?}", from.name).into()),
        });
    }
    check(crossings[0] == crossings[1], || format!("IPv4 and IPv6 of {} differ: {crossings:?}", to.name))?;
    Ok(crossings[0])
}

fn crosses(lab: &Lab, from: &PodHandle, to: &PodHandle, expected: Crossing) -> Check {
    let found = crossing(lab, from, to)?;
    check(found == expected, || {
        format!("{}/{} to {}/{}: {found:?}", from.namespace, from.name, to.namespace, to.name)
    })
}

/// Whether a pod is in the mesh: as the agent says, and by the rules in its network.
fn stands(lab: &Lab, words: &str, expected: Option<&str>) -> Check {
    let pod = lab.pod(words)?;
    let said = lab.enrolment(&pod);
    check(said.as_deref() == expected, || format!("{words}: {said:?} and not {expected:?}"))?;
    let rules = support::output(lab, &pod, &["nft", "list", "ruleset"])?;
    let redirects = rules.contains(":15001");
    check(redirects == (expected == Some("enabled")), || {
        format!("{words} is {expected:?} with rules {rules}")
    })
}

/// A port's listeners inside a pod.
fn listens(lab: &Lab, pod: &PodHandle, ports: &'static [u16]) -> Result<bool, Failed> {
    let text = lab.in_pod(pod, || {
        let of = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        Ok::<_, std::io::Error>(of("tcp")? + &of("tcp6").unwrap_or_default())
    })?;
    // Columns: slot, local, remote, state; 0A is LISTEN.
    Ok(text.lines().any(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let local = columns.get(1).copied().unwrap_or_default();
        columns.get(3) == Some(&"0A") && ports.iter().any(|port| local.ends_with(&format!(":{port:04X}")))
    }))
}

fn labels() -> Check {
    let lab = up(MANIFESTS, Programs::default())?;
    let pod = |words: &str| lab.pod(words);
    let (client, server) = (pod("shop/client")?, pod("shop/server")?);
    let (opted_out, on_host) = (pod("shop/opted-out")?, pod("shop/on-host")?);
    let (picked, left) = (pod("other/picked")?, pod("other/left")?);
    let everybody = ["client", "near", "server", "opted-out", "on-host"].map(|name| format!("shop/{name}"));
    let processes = || -> Result<Vec<_>, ambit_lab::LabError> {
        everybody.iter().map(|words| Ok(lab.processes(&lab.pod(words)?))).collect()
    };
    let at_first = processes()?;
    everybody.iter().try_for_each(|words| stands(&lab, words, None))?;
    stands(&lab, "other/picked", Some("enabled"))?;
    crosses(&lab, &client, &server, Crossing::Clear)?;

    // The system's first: when the shop is in, they had their chance.
    NEVER.iter().try_for_each(|namespace| lab.label("ns", namespace, &[AMBIENT]))?;
    let start = Instant::now();
    lab.label("ns", "shop", &[AMBIENT])?;
    lab.settled()?;
    println!("enrolled {:.2} s after the label", start.elapsed().as_secs_f64());
    for (words, expected) in
        everybody.iter().zip([Some("enabled"), Some("enabled"), Some("enabled"), None, None])
    {
        stands(&lab, words, expected)?;
    }
    stands(&lab, "other/left", None)?;
    crosses(&lab, &client, &server, Crossing::Tunnel)?;
    crosses(&lab, &client, &picked, Crossing::Tunnel)?;
    for out in [&opted_out, &on_host, &left] {
        crosses(&lab, &client, out, Crossing::Clear)?;
    }
    for namespace in NEVER {
        let words = format!("{namespace}/part");
        stands(&lab, &words, None)?;
        crosses(&lab, &client, &pod(&words)?, Crossing::Clear)?;
    }
    identities(&lab)?;
    check(processes()? == at_first, || "a pod was restarted to enrol it".to_owned())?;

    // A pod's own label wins, and its going away gives way to the namespace's.
    lab.label("pod", "shop/server", &["istio.io/dataplane-mode=none"])?;
    lab.label("pod", "shop/opted-out", &[UNLABELLED])?;
    lab.settled()?;
    stands(&lab, "shop/server", None)?;
    crosses(&lab, &client, &server, Crossing::Clear)?;
    crosses(&lab, &client, &opted_out, Crossing::Tunnel)?;
    lab.label("pod", "shop/server", &[UNLABELLED])?;
    lab.settled()?;
    crosses(&lab, &client, &server, Crossing::Tunnel)?;

    lab.label("ns", "shop", &[UNLABELLED])?;
    lab.settled()?;
    everybody.iter().try_for_each(|words| stands(&lab, words, None))?;
    stands(&lab, "other/picked", Some("enabled"))?;
    crosses(&lab, &client, &server, Crossing::Clear)?;
    crosses(&lab, &client, &picked, Crossing::Clear)?;
    check(processes()? == at_first, || "a pod was restarted".to_owned())
}

/// What log and metrics of both ztunnels say of the requests from client to server.
fn identities(lab: &Lab) -> Check {
    let identity = |account: &str| format!("spiffe://cluster.local/ns/shop/sa/{account}");
    let (source, destination) = (identity("client"), identity("server"));
    for (node, direction, reporter) in [(1, "outbound", "source"), (2, "inbound", "destination")] {
        let ztunnel = Component::Ztunnel(NodeNumber(node));
        let words = [
            "connection complete".to_owned(),
            format!("src.identity={source}"),
            format!("dst.identity={destination}"),
            format!("direction={direction}"),
        ];
        // Istio's ztunnel puts values in quotation marks.
        let says = |line: &str| words.iter().all(|word| line.replace('"', "").contains(word));
        let line = lab.wait_log(ztunnel, LIMIT, says)?;
        println!("{line}");
        let principals = [
            ("reporter", reporter),
            ("connection_security_policy", "mutual_tls"),
            ("source_principal", source.as_str()),
            ("destination_principal", destination.as_str()),
        ];
        let opened = lab.metrics(ztunnel)?.sum("istio_tcp_connections_opened_total", &principals);
        check(opened >= 2.0, || format!("{ztunnel} counts {opened} connections of {principals:?}"))?;
    }
    Ok(())
}

/// Connections of both sorts, spread over both families and over a server on the same and on the other node.
fn talks(lab: &Lab, requests: usize, streams: usize) -> Result<Vec<Talk>, Failed> {
    let client = lab.pod("shop/client")?;
    let servers = [lab.pod("shop/server")?, lab.pod("shop/near")?];
    let kinds =
        std::iter::repeat_n(Kind::Requests, requests).chain(std::iter::repeat_n(Kind::Stream, streams));
    let open = |(index, kind): (usize, Kind)| {
        let port = if kind == Kind::Requests { WEB } else { ECHO };
        let to = SocketAddr::new(servers[index / 2 % 2].address.both()[index % 2], port);
        Talk::open(lab, &client, to, kind)
    };
    kinds.enumerate().map(open).collect()
}

/// What Istio's ztunnel does when a pod leaves the mesh.
const ENDS: &str =
    "connections opened in the mesh outlive it: Istio's ztunnel ends them when their pod leaves";
const LETS_GO: &str = "the pod comes back while its listeners are still there: Istio's ztunnel gives them up when the pod leaves";

fn open_connections() -> Check {
    // A short time for peers that have not heard, so that the test sees its end.
    let lab = up(MANIFESTS, Programs::default().set(Program::Ztunnel, "AMBIT_LEAVE_LINGER", "1s"))?;
    let (probe, server) = (lab.pod("shop/probe")?, lab.pod("shop/server")?);
    crosses(&lab, &probe, &server, Crossing::Clear)?;
    let mut open = talks(&lab, 50, 10)?;
    go_on(&open, 5, LIMIT)?;

    lab.label("ns", "shop", &[AMBIENT])?;
    lab.settled()?;
    crosses(&lab, &probe, &server, Crossing::Tunnel)?;
    go_on(&open, 20, LIMIT)?;
    if !left_out("no_open_connection_breaks", ENDS) {
        open.extend(talks(&lab, 20, 10)?);
    }
    go_on(&open, 20, LIMIT)?;

    lab.label("ns", "shop", &[UNLABELLED])?;
    lab.settled()?;
    crosses(&lab, &probe, &server, Crossing::Clear)?;
    until(LIMIT, || match listens(&lab, &server, &PROXY_PORTS) {
        Ok(false) => None,
        Ok(true) => Some("the end of the ztunnel's listeners".to_owned()),
        Err(error) => Some(format!("{error:?}")),
    })?;
    go_on(&open, 30, LIMIT)?;
    let count = open.len();
    println!("{count} connections, {} rounds, none broken", finish(open)?);
    crosses(&lab, &probe, &server, Crossing::Clear)
}

fn back_at_once() -> Check {
    let lab = up(MANIFESTS, Programs::default())?;
    let (probe, server) = (lab.pod("shop/probe")?, lab.pod("shop/server")?);
    let mut open = talks(&lab, 8, 4)?;
    for round in 0..3 {
        lab.label("ns", "shop", &[AMBIENT])?;
        lab.settled()?;
        crosses(&lab, &probe, &server, Crossing::Tunnel)?;
        if !left_out("a_pod_may_come_back_at_once", ENDS) {
            open.extend(talks(&lab, 4, 4)?);
        }
        lab.label("ns", "shop", &[UNLABELLED])?;
        lab.settled()?;
        crosses(&lab, &probe, &server, Crossing::Clear)?;
        let lingers = left_out("a_pod_may_come_back_at_once", LETS_GO) || listens(&lab, &server, &[TUNNEL])?;
        check(lingers, || "the ztunnel has let go already: nothing is shown".to_owned())?;
        let start = Instant::now();
        lab.label("ns", "shop", &[AMBIENT])?;
        lab.settled()?;
        crosses(&lab, &probe, &server, Crossing::Tunnel)?;
        let took = start.elapsed();
        println!("round {round}: back in {:.2} s", took.as_secs_f64());
        check(took < AT_ONCE, || format!("coming back took {took:?}"))?;
        go_on(&open, 10, LIMIT)?;
    }
    let count = open.len();
    println!("{count} connections, {} rounds, none broken", finish(open)?);
    Ok(())
}
