//! One tunnel between two real ztunnels: a million small writes, a slow reader beside a fast one, half-closes, resets.

#[path = "support/flows.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod flows;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_lab::{Component, Lab, LabOptions, NodeNumber, PodHandle};
use flows::{Ends, First, PATIENCE, Way, carry, tunnels};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/tunnel.yaml");
const MIB: u64 = 1 << 20;
/// What the ztunnel lets a peer send on one stream before its reader has taken any.
const STREAM_WINDOW: u64 = MIB;
/// Bytes of one round of a speed measurement.
const ROUND: u64 = 64 * MIB;
/// Rounds of each kind.
const ROUNDS: usize = 11;
/// The same on a machine that has other things to do.
const MOST_ROUNDS: usize = 41;
/// What a fast reader keeps of its speed beside a slow one.
const SHARE: f64 = 0.9;
const SMALL: usize = 20;
const WRITES: u64 = 1_000_000;
/// Plaintext connections of one client, and the ports that both namespaces may choose from: with these numbers the
/// kernel's own choice for the proxy would meet one of the client's ports again and again.
const PLAINTEXT: usize = 600;
const FEW_PORTS: &str = "40000 41199";
/// All of them are opened well within this, unless some stand in each other's way.
const STALLED: Duration = Duration::from_secs(20);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // Speeds are compared: nothing else may run beside.
    arguments.test_threads = Some(1);
    let mesh = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Mesh) -> Check| {
        let mesh = Arc::clone(&mesh);
        Trial::test(name, move || {
            run(mesh.get_or_init(|| Mesh::up().map_err(|error| format!("{error:?}"))).as_ref()?)
        })
    };
    let trials = vec![
        trial("half_close_passes_both_ways", half_close),
        trial("resets_arrive_as_resets", resets),
        trial("a_million_small_writes_read_at_once", |mesh| small_writes(mesh, Reader::AtOnce)),
        trial("a_million_small_writes_read_late", |mesh| small_writes(mesh, Reader::AfterStall)),
        trial("a_slow_reader_costs_a_fast_one_nothing", slow_beside_fast),
        trial("a_hundred_megabytes_arrive_unchanged_both_ways", large),
        trial("many_plaintext_connections_of_one_client_stay_apart", plaintext_apart),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Two enrolled pods on two nodes, and a client outside the mesh.
struct Mesh {
    lab: Arc<Lab>,
    client: PodHandle,
    server: PodHandle,
    outsider: PodHandle,
}

/// When an application starts to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// With the first byte.
    AtOnce,
    /// When everything between is full and the writer stands still.
    AfterStall,
}

impl Mesh {
    fn up() -> Result<Self, Failed> {
        let lab = Arc::new(Lab::up(support::named(LabOptions::inline(MANIFESTS)))?);
        lab.settled()?;
        let (client, server) = (lab.pod("tunnel/client")?, lab.pod("tunnel/server")?);
        check(client.node != server.node, || "both pods are on one node".to_owned())?;
        let outsider = lab.pod("tunnel/outsider")?;
        Ok(Mesh { lab, client, server, outsider })
    }

    fn way(&self) -> Result<Way, Failed> {
        Way::direct(&self.lab, &self.client, &self.server)
    }

    /// Everything so far went through one tunnel.
    fn one_tunnel(&self) -> Check {
        let open = tunnels(&self.lab, &self.client)?;
        check(open == 1, || format!("{open} tunnels between two pods instead of one"))
    }

    /// Resident memory of both ztunnels now: the least of some looks, since freed memory goes back a moment later.
    fn memory(&self) -> Result<[u64; 2], Failed> {
        let of = |node: NodeNumber| -> Result<u64, Failed> {
            let pid = self.lab.pid(Component::Ztunnel(node)).ok_or("a ztunnel has ended")?;
            let mut least = u64::MAX;
            for _ in 0..5 {
                least = least.min(resident(pid)?);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(least)
        };
        Ok([of(self.client.node)?, of(self.server.node)?])
    }
}

/// Middle value.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes of memory a process has in use.
fn resident(pid: u32) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? << 10)
}

fn half_close(mesh: &Mesh) -> Check {
    let way = mesh.way()?;
    for first in [First::Client, First::App] {
        way.open()?.half_close(first)?;
    }
    println!("half-closed from the client's and from the application's side");
    mesh.one_tunnel()
}

fn resets(mesh: &Mesh) -> Check {
    let way = mesh.way()?;
    for first in [First::Client, First::App] {
        let seen = way.open()?.reset(first)?;
        let kind = seen.as_ref().map_err(std::io::Error::kind);
        check(kind == Err(ErrorKind::ConnectionReset), || {
            format!("{first:?} was reset, the other end saw {seen:?}")
        })?;
    }
    // A stream that was reset takes nothing with it.
    way.open()?.talk()?;
    println!("both ends' resets arrived as resets");
    mesh.one_tunnel()
}

fn large(mesh: &Mesh) -> Check {
    let Ends { client, app } = mesh.way()?.open()?;
    let size = 100 * MIB;
    let up = carry(&client, &app, size)?;
    let down = carry(&app, &client, size)?;
    println!("{size} bytes each way: {:.2} Gbit/s up, {:.2} Gbit/s down", up * 8e-9, down * 8e-9);
    Ok(())
}

fn small_writes(mesh: &Mesh, reader: Reader) -> Check {
    let Ends { mut client, mut app } = mesh.way()?.open()?;
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let start = Instant::now();
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        for number in 0..WRITES {
            client.write_all(&piece(number))?;
            count.store(number + 1, Ordering::Relaxed);
        }
        client.shutdown(std::net::Shutdown::Write)?;
        match client.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    });
    if reader == Reader::AfterStall {
        let stood = stands_still(&written);
        println!("the writer stood still after {stood} writes");
    }
    let mut buffer = vec![0; SMALL * 4096];
    let mut number = 0;
    while number < WRITES {
        let wanted = buffer.len().min((WRITES - number) as usize * SMALL);
        app.read_exact(&mut buffer[..wanted]).map_err(|error| format!("after {number} pieces: {error}"))?;
        for heard in buffer[..wanted].chunks_exact(SMALL) {
            check(heard == piece(number), || format!("piece {number} arrived changed"))?;
            number += 1;
        }
    }
    let after = app.read(&mut buffer)?;
    check(after == 0, || format!("{after} bytes too many"))?;
    drop(app);
    writer.join().map_err(|_panic| "the writer failed")??;
    println!("{WRITES} writes of {SMALL} bytes, read {reader:?}: {:.1} s", start.elapsed().as_secs_f64());
    mesh.one_tunnel()
}

/// The bytes of one small write.
fn piece(number: u64) -> [u8; SMALL] {
    let mut piece = *b"01234567-small-write";
    piece[..8].copy_from_slice(&number.to_be_bytes());
    piece
}

/// Waits until a counter has not moved for a while and returns it.
fn stands_still(counter: &AtomicU64) -> u64 {
    let (mut last, mut since, end) = (0, Instant::now(), Instant::now() + PATIENCE);
    loop {
        let now = counter.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if (now > 0 && since.elapsed() > Duration::from_millis(300)) || Instant::now() > end {
            return now;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A connection whose application takes a little now and then, and whose client always has more.
struct Slow {
    stop: Arc<AtomicBool>,
    client: TcpStream,
    threads: Vec<JoinHandle<()>>,
    read: Arc<AtomicU64>,
}

impl Slow {
    fn start(way: &Way) -> Result<Self, Failed> {
        let Ends { client, mut app } = way.open()?;
        let (stop, read, written) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, taken, given) = (Arc::clone(&stop), Arc::clone(&read), Arc::clone(&written));
        let mut out = client.try_clone()?;
        let writer = std::thread::spawn(move || {
            while let Ok(count @ 1..) = out.write(&[7; 16 << 10]) {
                given.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        // Everything between fills up before anything is taken.
        stands_still(&written);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4 << 10];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(count) = app.read(&mut buffer) {
                    taken.fetch_add(count as u64, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Ok(Slow { stop, client, threads: vec![writer, reader], read })
    }

    /// Ends both sides and says how much the slow reader took.
    fn end(self) -> Result<u64, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        self.client.shutdown(std::net::Shutdown::Both)?;
        for thread in self.threads {
            thread.join().map_err(|_panic| "a thread of the slow connection failed")?;
        }
        Ok(self.read.load(Ordering::Relaxed))
    }
}

/// What one series of rounds has shown.
#[derive(Default)]
struct Series {
    alone: Vec<f64>,
    beside: Vec<f64>,
    /// Speed beside the slow reader as a share of the speed alone just before or after.
    shares: Vec<f64>,
    /// Growth of the client's and the server's ztunnel.
    growth: [Vec<f64>; 2],
    /// Bytes the slow reader took.
    taken: u64,
}

fn slow_beside_fast(mesh: &Mesh) -> Check {
    let (way, slow) = (mesh.way()?, mesh.way()?);
    let fast = way.open()?;
    // The first transfers find buffers and windows small.
    carry(&fast.client, &fast.app, ROUND)?;
    carry(&fast.client, &fast.app, ROUND)?;
    let before = mesh.memory()?;
    let mut series = Series::default();
    // Whatever else the machine does falls on single rounds; a real loss shows however many there are.
    while series.shares.len() < ROUNDS || (series.share() < SHARE && series.shares.len() < MOST_ROUNDS) {
        series.round(mesh, &fast, &slow, before)?;
    }
    let (share, rounds, taken) = (series.share(), series.shares.len(), series.taken);
    let (alone, beside) = (median(&series.alone) * 8e-9, median(&series.beside) * 8e-9);
    println!(
        "alone {alone:.2} Gbit/s, beside a slow reader (which took {taken} bytes) {beside:.2} Gbit/s: {:.0} % over {rounds} rounds",
        share * 100.0
    );
    check(share >= SHARE, || format!("{:.0} % of the speed alone", share * 100.0))?;
    for (growth, whose) in series.growth.iter().zip(["client's", "server's"]) {
        let (grown, most) = (median(growth) / 1024.0, (STREAM_WINDOW + MIB) >> 10);
        println!("memory of the {whose} ztunnel grew by {grown:.0} KiB (at most {most})");
        check(grown <= most as f64, || format!("the {whose} ztunnel grew by {grown:.0} KiB"))?;
    }
    Ok(())
}

impl Series {
    /// Alone and beside, in turns first, so that neither always follows the other.
    fn round(&mut self, mesh: &Mesh, fast: &Ends, slow: &Way, before: [u64; 2]) -> Check {
        let speed = || carry(&fast.client, &fast.app, ROUND);
        let first = if self.shares.len().is_multiple_of(2) { Some(speed()?) } else { None };
        let slow = Slow::start(slow)?;
        let beside = speed()?;
        let now = mesh.memory()?;
        mesh.one_tunnel()?;
        self.taken += slow.end()?;
        let alone = first.map_or_else(speed, Ok)?;
        self.alone.push(alone);
        self.beside.push(beside);
        self.shares.push(beside / alone);
        for (growth, (now, before)) in self.growth.iter_mut().zip(now.into_iter().zip(before)) {
            growth.push(now as f64 - before as f64);
        }
        Ok(())
    }

    fn share(&self) -> f64 {
        median(&self.shares)
    }
}

/// The proxy shows the application the client's address. Its connection and the client's own must never share a port:
/// the kernel's connection tracking would mix them up, and one of the two would stall or be reset.
fn plaintext_apart(mesh: &Mesh) -> Check {
    for pod in [&mesh.outsider, &mesh.server] {
        mesh.lab.in_pod(pod, || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", FEW_PORTS))?;
    }
    let way = Way::direct(&mesh.lab, &mesh.outsider, &mesh.server)?;
    let mut open: Vec<Ends> = Vec::with_capacity(PLAINTEXT);
    let start = Instant::now();
    for number in 0..PLAINTEXT {
        open.push(way.open()?);
        // A connection that is mixed up with another one recovers after a while; hundreds take minutes.
        check(start.elapsed() < STALLED, || format!("{number} connections opened in {:?}", start.elapsed()))?;
    }
    for ends in &mut open {
        ends.talk()?;
    }
    eprintln!("{PLAINTEXT} plaintext connections of one client over 1200 ports: all talk");
    Ok(())
}
