//! The rulesets on real network namespaces: what they do to new connections, and that they reset no open one.
//!
//! The test starts itself again under `unshare`, so that it needs no root where user namespaces serve. Two namespaces:
//! ours is the peer, the other one is the pod; a veth pair joins them.

#![expect(clippy::unwrap_used, reason = "a test without the built-in harness is not known as one")]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_agent::ports;
use ambit_agent::probes::kubelet::{Group, Kubelet};
use ambit_agent::probes::rules::{self as node_rules, Script};
use ambit_agent::redirect::apply::Redirector;
use ambit_agent::redirect::rules::{
    Found, InboundCapture, PROBE_SOURCE_V4, PROBE_SOURCE_V6, ProbePorts, Ruleset,
};
use ambit_transport::socket::Netns;

const INSIDE: &str = "AMBIT_TEST_INSIDE";
const PEER: [&str; 2] = ["10.99.0.1", "fd00:99::1"];
const POD: [&str; 2] = ["10.99.0.2", "fd00:99::2"];
const PROBED: u16 = 8090;
const ENROLLED: Ruleset =
    Ruleset::Enrolled { inbound: InboundCapture::On, probes: ProbePorts(BTreeSet::new()) };
const BYPASSED: Ruleset =
    Ruleset::Enrolled { inbound: InboundCapture::Bypassed, probes: ProbePorts(BTreeSet::new()) };
const CLOSED: Ruleset = Ruleset::Closed { probes: ProbePorts(BTreeSet::new()) };

struct Pod {
    netns: Netns,
    redirector: Redirector,
    _holder: Holder,
}

/// A named test on a fresh pod.
type Test = (&'static str, fn(&Pod));

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let tests: [Test; 11] = [
        ("an_open_connection_survives_every_ruleset", open_connections_survive),
        ("new_connections_are_redirected_both_ways", redirected),
        ("without_a_ztunnel_connections_fail", fails_closed),
        ("the_mark_is_exempt", mark_exempt),
        ("bypassed_inbound_reaches_the_application", bypassed),
        ("closed_refuses_both_ways", closed),
        ("redirected_connections_survive_leaving_and_coming_back", residual),
        ("rules_are_read_back_and_removed", read_back),
        ("the_kubelet_and_nobody_else_reaches_what_is_probed", probed),
        ("nobody_shows_the_kubelets_source", guarded),
        ("the_kubelet_is_told_by_its_control_group", by_group),
    ];
    if std::env::args().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let inside = std::env::vars_os().any(|(name, _)| name == INSIDE);
    if !inside {
        std::process::exit(again_inside(&tests.map(|(name, _)| name)));
    }
    for (name, test) in tests {
        test(&pod());
        println!("test {name} ... ok");
    }
}

fn again_inside(names: &[&str]) -> i32 {
    let unshare = ["--user", "--map-root-user", "--net", "--mount"];
    let probe = Command::new("unshare").args(unshare).args(["nft", "list", "tables"]).output();
    let reason = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = reason {
        names.iter().for_each(|name| println!("SKIPPED {name}: {reason}"));
        return 0;
    }
    let own = std::env::current_exe().unwrap();
    let status = Command::new("unshare").args(unshare).arg(own).env(INSIDE, "1").status().unwrap();
    status.code().unwrap_or(1)
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sh_ok(script: &str) -> io::Result<()> {
    sh(script);
    Ok(())
}

/// A new pod namespace, joined to ours.
fn pod() -> Pod {
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    let holder = Holder(holder);
    let pid = holder.0.id();
    sh("ip link set lo up; ip link del eth9 2>/dev/null || true");
    sh(&format!("ip link add eth9 type veth peer name eth0 netns {pid}; ip link set eth9 up"));
    sh(&format!("ip addr add {}/24 dev eth9; ip -6 addr add {}/64 dev eth9 nodad", PEER[0], PEER[1]));
    let netns = Netns::open(&PathBuf::from(format!("/proc/{pid}/ns/net"))).unwrap();
    let set_up = format!(
        "ip link set lo up; ip addr add {}/24 dev eth0; ip -6 addr add {}/64 dev eth0 nodad; ip link set eth0 up",
        POD[0], POD[1]
    );
    netns.run(|| sh_ok(&set_up)).unwrap();
    let redirector = Redirector { nft: "nft".into(), ip: "ip".into(), within: Duration::from_secs(20) };
    Pod { netns, redirector, _holder: holder }
}

impl Pod {
    fn apply(&self, ruleset: Ruleset) {
        assert_eq!(self.redirector.apply(&self.netns, &ruleset).unwrap().kind(), ruleset.kind());
    }

    fn listen(&self, port: u16) -> TcpListener {
        self.netns.run(|| listen(port)).unwrap()
    }

    fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.netns.run(|| dial(to))
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
}

fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, Duration::from_secs(5))
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

/// Both directions carry a byte.
fn alive(one: &mut TcpStream, other: &mut TcpStream) {
    carries(one, other);
    carries(other, one);
}

fn carries(from: &mut TcpStream, to: &mut TcpStream) {
    to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    from.write_all(b"x").unwrap();
    to.read_exact(&mut [0]).unwrap();
}

fn reaches(listener: &TcpListener, dialled: io::Result<TcpStream>) -> (TcpStream, TcpStream) {
    let mut near = dialled.unwrap();
    let (mut far, _) = listener.accept().unwrap();
    alive(&mut near, &mut far);
    (near, far)
}

fn refused(dialled: io::Result<TcpStream>) {
    assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

fn open_connections_survive(pod: &Pod) {
    let (server, peer) = (pod.listen(8080), listen(8081).unwrap());
    let mut open = Vec::new();
    for family in 0..2 {
        open.push(reaches(&server, dial(at(POD[family], 8080))));
        open.push(reaches(&peer, pod.dial(at(PEER[family], 8081))));
    }
    for ruleset in [ENROLLED, CLOSED, BYPASSED, ENROLLED, Ruleset::Residual] {
        pod.apply(ruleset);
        for (near, far) in &mut open {
            alive(near, far);
        }
    }
    pod.redirector.remove(&pod.netns).unwrap();
    for (near, far) in &mut open {
        alive(near, far);
    }
}

fn redirected(pod: &Pod) {
    let (outbound, inbound, hbone) = (pod.listen(15001), pod.listen(15006), pod.listen(15008));
    let application = pod.listen(8080);
    pod.apply(ENROLLED);
    for family in 0..2 {
        // Nobody listens on the dialled port, so only a redirect can succeed.
        let (_near, far) = reaches(&outbound, pod.dial(at(PEER[family], 9)));
        let to = ambit_transport::socket::original_dst(&far).unwrap();
        assert!(format!("{to:?}").contains(PEER[family]), "{to:?}");
        reaches(&inbound, dial(at(POD[family], 8080)));
        reaches(&hbone, dial(at(POD[family], 15008)));
        // The proxy's own ports are no way round it.
        for port in [15001, 15006] {
            let dialled = dial(at(POD[family], port));
            application.set_nonblocking(true).unwrap();
            assert_eq!(application.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(dialled);
        }
        inbound.set_nonblocking(true).unwrap();
        while inbound.accept().is_ok() {}
        inbound.set_nonblocking(false).unwrap();
        application.set_nonblocking(false).unwrap();
        // The pod's own address and its loopback stay its own.
        reaches(&application, pod.dial(at(POD[family], 8080)));
        reaches(&application, pod.dial(at(["127.0.0.1", "::1"][family], 8080)));
    }
}

fn fails_closed(pod: &Pod) {
    let (_application, _peer) = (pod.listen(8080), listen(8081).unwrap());
    pod.apply(ENROLLED);
    for family in 0..2 {
        refused(pod.dial(at(PEER[family], 8081)));
        refused(dial(at(POD[family], 8080)));
    }
}

fn mark_exempt(pod: &Pod) {
    let peer = listen(8081).unwrap();
    pod.apply(ENROLLED);
    for (family, domain) in [(0, socket2::Domain::IPV4), (1, socket2::Domain::IPV6)] {
        let marked = pod.netns.run(|| {
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
            socket.set_mark(0x539)?;
            socket.connect(&at(PEER[family], 8081).into())?;
            Ok(socket.into())
        });
        reaches(&peer, marked);
    }
}

fn bypassed(pod: &Pod) {
    let (application, outbound) = (pod.listen(8080), pod.listen(15001));
    pod.apply(BYPASSED);
    for family in 0..2 {
        reaches(&application, dial(at(POD[family], 8080)));
        reaches(&outbound, pod.dial(at(PEER[family], 9)));
    }
}

fn closed(pod: &Pod) {
    let (application, _squatter, _peer) = (pod.listen(8080), pod.listen(15001), listen(8081).unwrap());
    let holders = ports::holders(&pod.netns).unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].port, 15001);
    assert_eq!(holders[0].process.as_ref().unwrap().pid, ports::Pid(std::process::id()));
    pod.apply(CLOSED);
    for family in 0..2 {
        refused(pod.dial(at(PEER[family], 8081)));
        refused(dial(at(POD[family], 8080)));
        reaches(&application, pod.dial(at(POD[family], 8080)));
    }
}

fn residual(pod: &Pod) {
    let (outbound, inbound) = (pod.listen(15001), pod.listen(15006));
    let (application, peer) = (pod.listen(8080), listen(8081).unwrap());
    pod.apply(ENROLLED);
    let mut open = Vec::new();
    for family in 0..2 {
        open.push(reaches(&outbound, pod.dial(at(PEER[family], 8081))));
        open.push(reaches(&inbound, dial(at(POD[family], 8080))));
    }
    assert_eq!(ports::open_connections(&pod.netns).unwrap(), 4);
    pod.apply(Ruleset::Residual);
    for (near, far) in &mut open {
        alive(near, far);
    }
    for family in 0..2 {
        reaches(&application, dial(at(POD[family], 8080)));
        reaches(&peer, pod.dial(at(PEER[family], 8081)));
    }
    pod.apply(ENROLLED);
    for (near, far) in &mut open {
        alive(near, far);
    }
    reaches(&inbound, dial(at(POD[0], 8080)));
}

fn read_back(pod: &Pod) {
    let kind = || pod.redirector.standing(&pod.netns).unwrap().kind();
    assert_eq!(kind(), Found::Nothing);
    for ruleset in [ENROLLED, CLOSED, Ruleset::Residual] {
        let applied = pod.redirector.apply(&pod.netns, &ruleset).unwrap();
        assert_eq!(pod.redirector.standing(&pod.netns).unwrap(), applied);
    }
    pod.netns.run(|| sh_ok("nft flush table inet ambit")).unwrap();
    assert_eq!(kind(), Found::Unknown, "somebody's edit is noticed");
    for _twice in 0..2 {
        pod.redirector.remove(&pod.netns).unwrap();
        assert_eq!(kind(), Found::Nothing);
    }
    let broken = Redirector { nft: "/no/such/nft".into(), ..pod.redirector.clone() };
    assert!(broken.apply(&pod.netns, &ENROLLED).unwrap_err().to_string().contains("/no/such/nft"));
}

/// The node's rules for a kubelet that runs as `uid`, probing one port of the pod.
fn node_rules(uid: u32, group: Option<Group>) {
    let openings = POD.map(|address| (address.parse().unwrap(), PROBED)).into();
    let kubelet = Kubelet { pid: std::process::id(), uid, group };
    let Script { inet, bridge } = Script::new(&openings, Some(&kubelet));
    // The same twice: it replaces itself.
    for script in [&inet, &bridge, &inet, &bridge] {
        nft(script);
    }
}

fn nft(script: &str) {
    sh(&format!("nft -f - <<'RULES'\n{script}RULES\n"));
}

/// The pod's way to addresses that are nowhere near it, as every pod has one.
fn default_route(pod: &Pod) {
    let routes =
        format!("ip route replace default via {}; ip -6 route replace default via {}", PEER[0], PEER[1]);
    pod.netns.run(|| sh_ok(&routes)).unwrap();
}

fn enrolled_and_probed() -> Ruleset {
    Ruleset::Enrolled { inbound: InboundCapture::On, probes: ProbePorts([PROBED].into()) }
}

/// Our own process is root's, and so the kubelet as far as its user goes.
fn probed(pod: &Pod) {
    default_route(pod);
    let (asked, other) = (pod.listen(PROBED), pod.listen(8080));
    let closed = Ruleset::Closed { probes: ProbePorts([PROBED].into()) };
    for ruleset in [enrolled_and_probed(), closed] {
        pod.apply(ruleset);
        node_rules(0, None);
        for (family, source) in [(0, PROBE_SOURCE_V4), (1, PROBE_SOURCE_V6)] {
            let (_near, far) = reaches(&asked, dial(at(POD[family], PROBED)));
            let shown = far.peer_addr().unwrap().ip().to_canonical();
            assert_eq!(shown, source.parse::<IpAddr>().unwrap());
            refused(dial(at(POD[family], 8080)));
        }
        // Another user is no kubelet, and its connections show their own address.
        node_rules(4711, None);
        for address in POD {
            refused(dial(at(address, PROBED)));
        }
        // What the kubelet's source alone would open is not opened by the node.
        nft(&node_rules::removal());
        for address in POD {
            refused(dial(at(address, PROBED)));
        }
    }
    drop(other);
}

/// An address that we give ourselves does not pass for the kubelet's, out of the node and into it.
fn guarded(pod: &Pod) {
    default_route(pod);
    let asked = pod.listen(PROBED);
    pod.apply(enrolled_and_probed());
    sh(&format!(
        "ip addr add {PROBE_SOURCE_V4}/32 dev eth9; ip -6 addr add {PROBE_SOURCE_V6}/128 dev eth9 nodad"
    ));
    let forge = |family: usize, within: u64| {
        let (domain, source) =
            [(socket2::Domain::IPV4, PROBE_SOURCE_V4), (socket2::Domain::IPV6, PROBE_SOURCE_V6)][family];
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.bind(&at(source, 0).into())?;
        socket.connect_timeout(&at(POD[family], PROBED).into(), Duration::from_millis(within))?;
        Ok::<TcpStream, io::Error>(socket.into())
    };
    for family in 0..2 {
        reaches(&asked, forge(family, 5000));
    }
    // A user who is not the kubelet's, so that nothing is translated.
    node_rules(4711, None);
    for family in 0..2 {
        assert!(forge(family, 300).is_err(), "what a process of the node makes up goes nowhere");
    }
    nft(&node_rules::removal());
    sh(&format!("ip addr del {PROBE_SOURCE_V4}/32 dev eth9; ip -6 addr del {PROBE_SOURCE_V6}/128 dev eth9"));
    // The other way: a pod that shows it does not get into the node.
    let own = listen(8081).unwrap();
    let give = format!("ip addr add {PROBE_SOURCE_V4}/32 dev eth0");
    pod.netns.run(|| sh_ok(&give)).unwrap();
    sh(&format!("ip route replace {PROBE_SOURCE_V4}/32 dev eth9"));
    let come_in = |within: u64| {
        pod.netns.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.set_mark(0x539)?;
            socket.bind(&at(PROBE_SOURCE_V4, 0).into())?;
            socket.connect_timeout(&at(PEER[0], 8081).into(), Duration::from_millis(within))?;
            Ok::<TcpStream, io::Error>(socket.into())
        })
    };
    reaches(&own, come_in(5000));
    node_rules(0, None);
    assert!(come_in(300).is_err(), "what comes in from a cable with it is dropped");
    nft(&node_rules::removal());
    sh(&format!("ip route del {PROBE_SOURCE_V4}/32"));
}

/// Needs the second hierarchy of control groups, and the right to make a group there.
fn by_group(pod: &Pod) {
    let Some(groups) = Groups::make() else {
        println!("SKIPPED the_kubelet_is_told_by_its_control_group: no control group can be made here");
        return;
    };
    default_route(pod);
    let asked = pod.listen(PROBED);
    pod.apply(enrolled_and_probed());
    node_rules(0, Some(Group { path: groups.path("kubelet"), level: 2, inode: 0 }));
    for address in POD {
        groups.enter("kubelet");
        reaches(&asked, dial(at(address, PROBED)));
        groups.enter("other");
        refused(dial(at(address, PROBED)));
    }
    nft(&node_rules::removal());
}

/// Two control groups of our own, where `nft` looks for them.
struct Groups(PathBuf);

impl Groups {
    fn make() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mut cgroup2 = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let mount = cgroup2.next()?.split(' ').nth(1)?;
        if mount != "/sys/fs/cgroup" {
            let bound = Command::new("mount").args(["--bind", mount, "/sys/fs/cgroup"]).output().ok()?;
            bound.status.success().then_some(())?;
        }
        let groups = Self(PathBuf::from(format!("/sys/fs/cgroup/ambit-test-{}", std::process::id())));
        for name in ["kubelet", "other"] {
            std::fs::create_dir_all(groups.0.join(name)).ok()?;
        }
        Some(groups)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).strip_prefix("/sys/fs/cgroup").unwrap().display().to_string()
    }

    fn enter(&self, name: &str) {
        std::fs::write(self.0.join(name).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = std::fs::write("/sys/fs/cgroup/cgroup.procs", std::process::id().to_string());
        for path in [self.0.join("kubelet"), self.0.join("other"), self.0.clone()] {
            let _ = std::fs::remove_dir(path);
        }
    }
}
