//! What a waypoint carries: HTTP/1.1, HTTP/2, gRPC, WebSocket, TCP, protocols in which the server speaks first, and bodies of any size
//! in bounded memory; on ports that declare what they are, and on such that do not.

#[path = "support/replicas.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod replicas;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ambit_lab::PodHandle;
use ambit_lab::load::{Connections, Load, Protocol};
use ambit_lab::stream::{Call, Stream};
use libtest_mimic::{Arguments, Failed};
use replicas::{Mesh, PATIENCE, Shared};
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/waypoint-protocols.yaml");
/// Requests of each load.
const REQUESTS: u64 = 200;
/// Numbers that go both ways on each stream.
const ROUNDS: u64 = 50;
/// How soon a server that speaks first is heard.
const GREETED: Duration = Duration::from_secs(1);
/// A large body, in blocks.
const BLOCKS: u64 = 2400;
const BLOCK: usize = 64 << 10;
/// What the waypoint may hold of it, and of everything that carries it.
const HELD: u64 = 32 << 10;
/// What may be on the way there and back while nobody reads: the sockets of six hops, which the kernel lets grow.
const UNDER_WAY: u64 = 100 << 20;
/// A writer that has stood still so long is held back.
const STILL: Duration = Duration::from_millis(700);

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // Memory is measured.
    arguments.test_threads = Some(1);
    let shared = Shared::new("spoken", MANIFESTS);
    let trials = vec![
        shared.trial("every_http_on_every_port", requests),
        shared.trial("grpc_statuses_pass", statuses),
        shared.trial("streams_on_every_port", streams),
        shared.trial("bytes_of_tcp_pass_unchanged", tcp),
        shared.trial("a_server_that_speaks_first_is_heard_at_once", greetings),
        shared.trial("a_large_body_waits_for_its_reader", body),
        shared.trial("a_large_tcp_stream_waits_for_its_reader", large),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn requests(mesh: &Mesh) -> Check {
    let caller = mesh.pod("caller")?;
    for (protocol, ports) in [
        (Protocol::Http1, &[80, 81, 82, 83][..]),
        (Protocol::H2c, &[80, 81, 82, 83]),
        (Protocol::Grpc, &[80, 81, 82, 83]),
    ] {
        for port in ports {
            for connections in [Connections::Kept, Connections::OnePerRequest] {
                let mut load = Load::new(mesh.service("server", *port)?);
                (load.protocol, load.connections, load.width) = (protocol, connections, 4);
                (load.count, load.body) = (REQUESTS, "a message".into());
                // A call's message comes back; a request is told what the waypoint added to it.
                let expect = if protocol == Protocol::Grpc { "a message" } else { "x-envoy-attempt-count" };
                load.expect = expect.to_owned();
                let outcome = mesh.lab.in_pod(&caller, move || load.run())?;
                println!(
                    "  {protocol:?} on {port}, {connections:?}: {} of {} good",
                    outcome.good, outcome.sent
                );
                check(outcome.good == REQUESTS, || format!("{protocol:?} on {port}: {outcome:?}"))?;
            }
        }
    }
    Ok(())
}

fn statuses(mesh: &Mesh) -> Check {
    let caller = mesh.pod("caller")?;
    for status in [1, 5, 16] {
        let mut load = Load::new(mesh.service("server", 82)?);
        (load.protocol, load.count) = (Protocol::Grpc, 10);
        load.headers.insert("x-grpc-status", status.into());
        let outcome = mesh.lab.in_pod(&caller, move || load.run())?;
        let seen = outcome.statuses.get(&format!("grpc {status}"));
        check(seen == Some(&10), || format!("grpc-status {status}: {outcome:?}"))?;
    }
    Ok(())
}

fn streams(mesh: &Mesh) -> Check {
    let caller = mesh.pod("caller")?;
    let mut all = Vec::new();
    for port in [80, 81, 82, 83] {
        let call = Call::new(mesh.service("server", port)?, Duration::from_millis(5));
        all.push((port, "gRPC", mesh.lab.in_pod(&caller, move || call.grpc())?));
    }
    for port in [80, 83] {
        let call = Call::new(mesh.service("server", port)?, Duration::from_millis(5));
        all.push((port, "WebSocket", mesh.lab.in_pod(&caller, move || call.websocket())?));
    }
    for port in [9090, 9091] {
        let to = mesh.service("server", port)?;
        let open = move || Stream::open(to, Duration::from_millis(5));
        all.push((port, "TCP", mesh.lab.in_pod(&caller, open)?));
    }
    let end = Instant::now() + PATIENCE;
    for (port, kind, stream) in all {
        while stream.rounds() < ROUNDS && !stream.broken() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let rounds = stream.finish().map_err(|error| format!("{kind} on {port}: {error}"))?;
        println!("  {kind} on {port}: {rounds} numbers went both ways");
        check(rounds >= ROUNDS, || format!("{kind} on {port}: {rounds} numbers"))?;
    }
    Ok(())
}

/// Dials a Service's port from the caller.
fn dial(mesh: &Mesh, port: u16) -> Result<TcpStream, Failed> {
    let to: SocketAddr = mesh.service("server", port)?;
    let stream = mesh.lab.in_pod(&mesh.pod("caller")?, move || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn tcp(mesh: &Mesh) -> Check {
    let beginnings: [&[u8]; 4] = [b"\x16\x03\x01 as TLS begins", b"\0", b"GET", b"lower case words"];
    for port in [9090, 9091] {
        for beginning in beginnings {
            let mut stream = dial(mesh, port)?;
            stream.write_all(beginning)?;
            let mut back = vec![0; beginning.len()];
            stream.read_exact(&mut back).map_err(|error| format!("{beginning:?} on {port}: {error}"))?;
            check(back == beginning, || format!("{beginning:?} on {port} came back as {back:?}"))?;
            // One half ends first.
            stream.write_all(b"last words")?;
            stream.shutdown(Shutdown::Write)?;
            let mut rest = String::new();
            stream.read_to_string(&mut rest)?;
            check(rest == "last words", || format!("after {beginning:?} on {port}: {rest:?}"))?;
        }
    }
    Ok(())
}

fn greetings(mesh: &Mesh) -> Check {
    for port in [3306, 3307] {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            let start = Instant::now();
            let stream = dial(mesh, port)?;
            let mut heard = String::new();
            BufReader::new(stream).read_line(&mut heard)?;
            slowest = slowest.max(start.elapsed());
            check(heard.starts_with("hello from"), || format!("on {port}: {heard:?}"))?;
        }
        println!("  on {port}: heard after {slowest:?} at the latest");
        check(slowest < GREETED, || format!("on {port}: {slowest:?}"))?;
    }
    Ok(())
}

fn body(mesh: &Mesh) -> Check {
    let length = BLOCKS * BLOCK as u64;
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: server\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut back = waits(mesh, dial(mesh, 80)?, head)?;
    let (mut line, mut status) = (String::new(), None);
    while line != "\r\n" {
        line.clear();
        check(back.read_line(&mut line)? > 0, || "the answer ended in its head".to_owned())?;
        status.get_or_insert(line.clone());
        let chunked = line.to_lowercase().starts_with("transfer-encoding");
        check(!chunked, || format!("a length was lost: {line}"))?;
    }
    check(status.as_deref().is_some_and(|status| status.contains(" 200 ")), || format!("{status:?}"))?;
    arrives(back)
}

fn large(mesh: &Mesh) -> Check {
    for port in [9090, 9091] {
        arrives(waits(mesh, dial(mesh, port)?, String::new())?)?;
    }
    Ok(())
}

/// Sends a large body to an echo and reads nothing: the sender must be held back, with little of it in the waypoint.
fn waits(mesh: &Mesh, stream: TcpStream, head: String) -> Result<BufReader<TcpStream>, Failed> {
    let [waypoint] = &mesh.replicas(1)?[..] else { return Err("one replica".into()) };
    forget_peak(mesh, waypoint)?;
    let before = mesh.memory(waypoint, "VmRSS:")?;
    let (mut out, sent) = (stream.try_clone()?, Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&sent);
    // Its failure shows where the bytes arrive.
    drop(std::thread::spawn(move || -> std::io::Result<()> {
        out.write_all(head.as_bytes())?;
        let mut block = pattern();
        for number in 0..BLOCKS {
            block[..8].copy_from_slice(&number.to_be_bytes());
            out.write_all(&block)?;
            counted.fetch_add(BLOCK as u64, Ordering::Relaxed);
        }
        // Who asks over HTTP and then ends its half is taken to have gone.
        if head.is_empty() { out.shutdown(Shutdown::Write) } else { Ok(()) }
    }));
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < STILL {
        let now = sent.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let peak = mesh.memory(waypoint, "VmHWM:")?;
    println!("  held back after {} MiB; the waypoint's memory went from {before} to {peak} KiB", last >> 20);
    check(last < UNDER_WAY, || format!("{last} bytes were taken though nobody reads"))?;
    check(peak.saturating_sub(before) < HELD, || format!("{before} KiB became {peak} KiB"))?;
    Ok(BufReader::new(stream))
}

/// From here on the peak is that of what follows.
fn forget_peak(mesh: &Mesh, pod: &PodHandle) -> Check {
    mesh.lab
        .processes(pod)
        .iter()
        .try_for_each(|pid| Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?))
}

/// Reads everything that was sent, block by block, up to the end.
fn arrives(mut back: impl Read) -> Check {
    let (start, mut expected, mut block) = (Instant::now(), pattern(), vec![0; BLOCK]);
    for number in 0..BLOCKS {
        back.read_exact(&mut block).map_err(|error| format!("block {number} of {BLOCKS}: {error}"))?;
        expected[..8].copy_from_slice(&number.to_be_bytes());
        check(block == expected, || format!("block {number} of {BLOCKS} arrived changed"))?;
    }
    let more = back.read(&mut [0; 1])?;
    check(more == 0, || "more came back than was sent".to_owned())?;
    println!("  {} MiB came back in {:?}", (BLOCKS * BLOCK as u64) >> 20, start.elapsed());
    Ok(())
}

/// A block in which no stretch repeats soon, so that bytes lost, doubled or swapped show.
fn pattern() -> Vec<u8> {
    (0..BLOCK as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
