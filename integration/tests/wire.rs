//! What crosses the wire between two pods: their words before they are in the mesh, TLS 1.3 and nothing else after, also
//! while ztunnels and agents die. The same packets show two pods outside the mesh in clear, so the capture can see.

#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;
#[path = "support/traffic.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod traffic;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ambit_lab::capture::Capture;
use ambit_lab::capture::packet::{Conversation, Packet, Packets};
use ambit_lab::capture::tls::{APPLICATION, TLS13, X25519MLKEM768, client_hello, records, server_hello};
use ambit_lab::settings::left_out;
use ambit_lab::{Component, Lab, LabOptions, NodeNumber, PodHandle};
use libtest_mimic::{Arguments, Trial};
use support::{Check, check};
use traffic::{Traffic, Way, total, wait_more};

const MANIFESTS: &str = include_str!("manifests/wire.yaml");
const UNPRIVILEGED: &str = "wire::unprivileged";
/// What the pods that join the mesh say, and those that stay outside.
const SECRET: &str = "the-secret-of-the-mesh";
const OPEN: &str = "said-in-the-open";
const TUNNEL: u16 = 15008;
const WEB: u16 = 8080;
const ECHO: u16 = 9090;
/// Records an enrolled pair must have exchanged before the wire is judged.
const RECORDS: usize = 100;
/// Longest time until something happens that must happen.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One after the other: each of them keeps two cores busy.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("wire::clear_before_and_tls_after", || on_the_wire(before_and_after)),
        Trial::test("wire::nothing_leaks_while_ztunnels_are_killed", || on_the_wire(ztunnels_killed)),
        Trial::test("wire::nothing_leaks_while_agents_are_killed", || on_the_wire(agents_killed)),
        Trial::test(UNPRIVILEGED, unprivileged),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The lab and its pods.
struct Wire {
    lab: Lab,
    /// The pair that joins the mesh.
    inside: [PodHandle; 2],
    /// The pair that never does.
    outside: [PodHandle; 2],
}

/// What the wire showed of a pair of which it showed nothing in clear.
#[derive(Clone, Copy, Debug, Default)]
struct Sealed {
    records: usize,
    bytes: usize,
    hellos: usize,
    connections: usize,
}

fn on_the_wire(trial: fn(&Wire) -> Check) -> Check {
    let lab = Lab::up(support::named(LabOptions::inline(MANIFESTS)))?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    let pair = |namespace: &str| -> Result<[PodHandle; 2], ambit_lab::LabError> {
        Ok([lab.pod(&format!("{namespace}/one"))?, lab.pod(&format!("{namespace}/two"))?])
    };
    let (inside, outside) = (pair("inside")?, pair("outside")?);
    let wire = Wire { lab, inside, outside };
    wire.lab.settled()?;
    trial(&wire)
}

impl Wire {
    fn capture(&self) -> Result<Capture, ambit_lab::LabError> {
        Capture::start(self.lab.node(self.inside[0].node)?)
    }

    fn enrol(&self) -> Check {
        self.lab.label("ns", "inside", &["istio.io/dataplane-mode=ambient"])?;
        Ok(self.lab.settled()?)
    }

    /// Both ways between the pair inside, both families, to pods and to a Service, new connections and held ones.
    fn traffic_inside(&self) -> Result<Vec<Traffic>, ambit_lab::LabError> {
        let [one, two] = &self.inside;
        let service =
            self.lab.service("inside/two")?.ok_or(ambit_lab::LabError::Unknown("address".into()))?;
        let mut traffic = Vec::new();
        for family in [0, 1] {
            let (near, far) = (one.address.both()[family], two.address.both()[family]);
            let ways = [
                (one, SocketAddr::new(far, WEB), Way::NewConnections),
                (one, SocketAddr::new(service.both()[family], 80), Way::NewConnections),
                (one, SocketAddr::new(far, ECHO), Way::HeldConnection),
                (two, SocketAddr::new(near, WEB), Way::NewConnections),
                (two, SocketAddr::new(near, ECHO), Way::HeldConnection),
            ];
            traffic.extend(ways.map(|(from, to, way)| Traffic::start(&self.lab, from, to, way, SECRET)));
        }
        Ok(traffic)
    }

    /// The control: the same, in clear.
    fn traffic_outside(&self) -> Vec<Traffic> {
        let [one, two] = &self.outside;
        let start =
            |to: IpAddr, port, way| Traffic::start(&self.lab, one, SocketAddr::new(to, port), way, OPEN);
        let [four, six] = two.address.both();
        vec![start(four, WEB, Way::NewConnections), start(six, ECHO, Way::HeldConnection)]
    }

    /// Captures while something happens under traffic between both pairs, and judges the packets.
    fn watched(
        &self,
        name: &str,
        happen: impl FnOnce(&Capture, &[Traffic], &[Traffic]) -> Check,
    ) -> Result<Sealed, libtest_mimic::Failed> {
        let start = Instant::now();
        let capture = self.capture()?;
        let (inside, outside) = (self.traffic_inside()?, self.traffic_outside());
        let happened = happen(&capture, &inside, &outside);
        let (good, failed) = (total(&inside, Traffic::good), total(&inside, Traffic::failed));
        let in_clear = total(&outside, Traffic::good);
        drop((inside, outside));
        let packets = capture.finish();
        let sealed = self.judge(&packets);
        println!(
            "{name}: {} packets in {:.1} s; inside: {good} exchanges, {failed} failures, {sealed:?}; outside: {in_clear} exchanges in clear",
            packets.all.len(),
            start.elapsed().as_secs_f64()
        );
        happened?;
        Ok(sealed?)
    }

    /// The pair inside is sealed, and the pair outside shows that anything else would have been seen.
    fn judge(&self, packets: &Packets) -> Result<Sealed, String> {
        if packets.dropped > 0 {
            return Err(format!("{} packets found no room", packets.dropped));
        }
        let open = self.in_clear(packets, &self.outside, OPEN);
        if open < 10 || sealed(packets, &self.outside).is_ok() {
            return Err(format!("only {open} packets in clear between the pods outside"));
        }
        if packets.shows(SECRET) {
            return Err("the secret crossed the wire".to_owned());
        }
        sealed(packets, &self.inside)
    }

    /// Packets between a pair, to or from an application's port, that show some words.
    fn in_clear(&self, packets: &Packets, pair: &[PodHandle; 2], words: &str) -> usize {
        let shows =
            |packet: &&Packet| packet.payload.windows(words.len()).any(|window| window == words.as_bytes());
        let direct = |packet: &Packet| packet.on_port(WEB) || packet.on_port(ECHO);
        families(pair).map(|[one, two]| packets.payloads(one, two, direct).filter(shows).count()).sum()
    }
}

/// A pair's addresses, family by family.
fn families(pair: &[PodHandle; 2]) -> impl Iterator<Item = [IpAddr; 2]> {
    let [one, two] = [pair[0].address.both(), pair[1].address.both()];
    one.into_iter().zip(two).map(<[IpAddr; 2]>::from)
}

/// Whether all that crossed the wire between two pods is TLS 1.3 on the tunnels' port.
fn sealed(packets: &Packets, pair: &[PodHandle; 2]) -> Result<Sealed, String> {
    for [one, two] in families(pair) {
        if let Some(packet) = packets.payloads(one, two, |packet| !packet.on_port(TUNNEL)).next() {
            return Err(format!(
                "{} to {}: {:?}",
                packet.from,
                packet.to,
                String::from_utf8_lossy(&packet.payload)
            ));
        }
    }
    let mut sealed = Sealed::default();
    let ends: Vec<_> = families(pair).collect();
    let streams = packets.streams();
    for ((from, to), conversations) in &streams {
        if !ends
            .iter()
            .any(|[one, two]| [from.ip(), to.ip()] == [*one, *two] || [from.ip(), to.ip()] == [*two, *one])
        {
            continue;
        }
        for (index, conversation) in conversations.iter().enumerate() {
            let back = streams.get(&(*to, *from)).and_then(|back| back.get(index));
            sealed
                .add(conversation, back.filter(|_| to.port() == TUNNEL))
                .map_err(|what| format!("{from} to {to}: {what}"))?;
        }
    }
    Ok(sealed)
}

impl Sealed {
    /// One direction of a connection; for a client's also the server's, whose hello says what was agreed.
    fn add(&mut self, said: &Conversation, answered: Option<&Conversation>) -> Result<(), String> {
        if said.gap {
            return Err("the capture has a gap".to_owned());
        }
        if !said.from_start {
            // Its records cannot be told apart; that it shows no words is checked for every packet.
            return Ok(());
        }
        let records = records(&said.bytes).ok_or("it is no TLS")?;
        let application = records.iter().filter(|record| record.kind == APPLICATION).count();
        self.records += application;
        self.bytes += said.bytes.len();
        self.connections += usize::from(answered.is_some());
        let hellos =
            answered.and_then(|answered| client_hello(&said.bytes).zip(server_hello(&answered.bytes)));
        let Some((client, server)) = hellos else {
            // A handshake that was cut off; what encrypts must have said how.
            let silent = answered.is_none() || application == 0;
            return if silent { Ok(()) } else { Err("nobody can tell what its keys rest on".to_owned()) };
        };
        self.hellos += 1;
        let sound = client.versions == [TLS13] && client.alpn == ["h2"] && server.versions == [TLS13];
        let (first, offered) = (Some(&X25519MLKEM768), client.groups.contains(&X25519MLKEM768));
        let order = "X25519MLKEM768 comes first and is agreed on: Istio's offers it after others";
        let ours = client.groups.first() == first
            && client.key_shares.first() == first
            && server.key_shares == [X25519MLKEM768];
        let expected = sound && offered && (ours || left_out("wire", order));
        if expected { Ok(()) } else { Err(format!("{client:?} was answered by {server:?}")) }
    }
}

fn before_and_after(wire: &Wire) -> Check {
    let capture = wire.capture()?;
    let traffic = wire.traffic_inside()?;
    let said = wait_more(&traffic, Traffic::good, 10, ("exchanges before enrolment", LIMIT));
    let failed = total(&traffic, Traffic::failed);
    drop(traffic);
    let packets = capture.finish();
    let seen = wire.in_clear(&packets, &wire.inside, SECRET);
    println!("before: {} packets, {seen} of them show the secret", packets.all.len());
    said?;
    check(failed == 0, || format!("{failed} exchanges failed before enrolment"))?;
    check(seen >= 100, || format!("only {seen} packets show the secret"))?;
    for [one, two] in families(&wire.inside) {
        for (from, to) in [(one, two), (two, one)] {
            let this_way =
                packets.payloads(from, to, move |packet| packet.from.ip() == from && packet.on_port(WEB));
            check(this_way.count() > 0, || format!("nothing seen from {from} to {to}"))?;
        }
    }

    wire.enrol()?;
    let sealed = wire.watched("after", |_capture, inside, outside| {
        wait_more(inside, Traffic::good, 30, ("exchanges in the mesh", LIMIT))?;
        no_failures(inside)?;
        no_failures(outside)
    })?;
    enough(sealed)?;
    check(sealed.hellos >= 4, || format!("both ways and both families want a handshake each: {sealed:?}"))
}

fn ztunnels_killed(wire: &Wire) -> Check {
    wire.enrol()?;
    for node in [1, 2].map(NodeNumber) {
        let ztunnel = Component::Ztunnel(node);
        let sealed = wire.watched(&format!("{ztunnel} killed"), |_capture, inside, outside| {
            wait_more(inside, Traffic::good, 10, ("exchanges in the mesh", LIMIT))?;
            wire.lab.kill(ztunnel)?;
            wait_more(inside, Traffic::failed, 3, ("failures without the ztunnel", LIMIT))?;
            let good = total(inside, Traffic::good);
            wait_more(inside, Traffic::failed, 20, ("more failures", LIMIT))?;
            wait_more(outside, Traffic::good, 10, ("exchanges in clear meanwhile", LIMIT))?;
            let meanwhile = total(inside, Traffic::good) - good;
            check(meanwhile == 0, || format!("{meanwhile} exchanges without {ztunnel}"))?;
            let start = Instant::now();
            wire.lab.start(ztunnel)?;
            wait_more(inside, Traffic::good, 20, ("exchanges in the mesh again", LIMIT))?;
            println!("{ztunnel}: all is back {:.1} s after its start", start.elapsed().as_secs_f64());
            no_failures(outside)
        })?;
        enough(sealed)?;
    }
    Ok(())
}

fn agents_killed(wire: &Wire) -> Check {
    wire.enrol()?;
    let agents = [1, 2].map(|node| Component::Agent(NodeNumber(node)));
    let sealed = wire.watched("both agents killed", |_capture, inside, outside| {
        wait_more(inside, Traffic::good, 10, ("exchanges in the mesh", LIMIT))?;
        agents.into_iter().try_for_each(|agent| wire.lab.kill(agent))?;
        wait_more(inside, Traffic::good, 20, ("exchanges without agents", LIMIT))?;
        agents.into_iter().try_for_each(|agent| wire.lab.start(agent))?;
        agents.into_iter().try_for_each(|agent| wire.lab.wait_ready(agent))?;
        wire.lab.settled()?;
        wait_more(inside, Traffic::good, 20, ("exchanges with new agents", LIMIT))?;
        no_failures(inside)?;
        no_failures(outside)
    })?;
    enough(sealed)
}

fn no_failures(traffic: &[Traffic]) -> Check {
    let failed = total(traffic, Traffic::failed);
    check(failed == 0, || format!("{failed} exchanges failed: {traffic:#?}"))
}

fn enough(sealed: Sealed) -> Check {
    check(sealed.records >= RECORDS && sealed.hellos > 0, || format!("{sealed:?}"))
}

/// All of the above again as a user without rights, who is root only in a user namespace.
fn unprivileged() -> Check {
    match ambit_lab::sandbox::run_unprivileged(&["--skip", UNPRIVILEGED])? {
        Some(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            check(output.status.success(), || {
                format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
            })
        }
        None => {
            println!("this user has no rights already: the other trials have shown it");
            Ok(())
        }
    }
}
