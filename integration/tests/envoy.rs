//! Envoy, written by other people, as HBONE client and server against our ztunnels.

#[path = "envoy/client.rs"]
mod client;
#[path = "support/flows.rs"]
mod flows;
#[path = "envoy/peer.rs"]
mod peer;
#[path = "envoy/server.rs"]
mod server;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_lab::{Component, Lab, LabOptions};
use flows::{Way, carry};
use libtest_mimic::{Arguments, Failed, Trial};
use peer::Authority;
use support::{Check, check};

const MANIFESTS: &str = include_str!("manifests/envoy.yaml");
/// Applied once the agents run: what an agent finds at its start it takes for its own.
const SERVERS: &str = include_str!("manifests/envoy-servers.yaml");
/// Streams open at once: more than fit on one connection of a peer that takes 100.
const MANY: u64 = 250;
const LARGE: u64 = 100 << 20;

/// A trial's name and its body.
type Named = (&'static str, fn(&World) -> Check);

/// What every trial works with.
struct World {
    program: PathBuf,
    lab: Arc<Lab>,
    authority: Authority,
}

fn main() -> std::process::ExitCode {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let Some(program) = variable("AMBIT_ENVOY").map(PathBuf::from) else {
        let reason = variable("AMBIT_ENVOY_MISSING").map(|reason| reason.to_string_lossy().into_owned());
        let reason =
            reason.unwrap_or_else(|| "AMBIT_ENVOY names no program; cargo xtask test fetches it".to_owned());
        println!("SKIPPED envoy: {}", reason.replace('\n', " "));
        return std::process::ExitCode::SUCCESS;
    };
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let world = Arc::new(OnceLock::new());
    let all = client::TRIALS.iter().chain(server::TRIALS);
    let trials = all.map(|(name, run)| {
        let (world, program) = (Arc::clone(&world), program.clone());
        let up = || World::up(program).map_err(|error| format!("the lab did not come up: {error:?}"));
        Trial::test(*name, move || {
            let world = world.get_or_init(up).as_ref()?;
            run(world).map_err(|failed| world.told(&failed))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

impl World {
    fn up(program: PathBuf) -> Result<Self, Failed> {
        let lab = Arc::new(Lab::up(support::named(LabOptions::inline(MANIFESTS)))?);
        lab.settled()?;
        let faults = lab.apply(SERVERS)?;
        check(faults.is_empty(), || format!("{faults:?}"))?;
        lab.wait_pods_ready(Duration::from_secs(20))?;
        lab.settled()?;
        let authority = Authority::of(&lab)?;
        Ok(World { program, lab, authority })
    }

    /// A failure with the last lines of both ztunnels.
    fn told(&self, failed: &Failed) -> Failed {
        let nodes = [1, 2].map(ambit_lab::NodeNumber);
        let logs = nodes.map(|node| self.lab.logs(Component::Ztunnel(node)));
        let tail =
            |log: &String| log.lines().rev().take(8).map(|line| format!("\n{line}")).collect::<String>();
        let text = failed.message().unwrap_or("no reason given");
        format!("{text}\nztunnels, latest line first:{}\n{}", tail(&logs[0]), tail(&logs[1])).into()
    }
}

/// An identity of the lab's trust domain.
fn identity(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// A large body each way, every byte checked.
fn carry_both_ways(way: &Way) -> Check {
    let ends = way.open()?;
    let (up, down) = (carry(&ends.client, &ends.app, LARGE)?, carry(&ends.app, &ends.client, LARGE)?);
    println!("{LARGE} bytes each way: {:.2} Gbit/s up, {:.2} Gbit/s down", up * 8e-9, down * 8e-9);
    Ok(())
}

/// Many connections open at once, each with bytes of its own both ways; returned open.
fn many_at_once(way: &Way) -> Result<Vec<TcpStream>, Failed> {
    let mut clients = (0..MANY).map(|_| way.dial()).collect::<Result<Vec<_>, _>>()?;
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u64).to_be_bytes())?;
    }
    let mut apps = (0..MANY).map(|_| way.accept()).collect::<Result<Vec<_>, _>>()?;
    for app in &mut apps {
        let heard = number(app)?;
        app.write_all(&(heard + 1000).to_be_bytes())?;
    }
    for (sent, client) in clients.iter_mut().enumerate() {
        let heard = number(client)?;
        check(heard == sent as u64 + 1000, || format!("connection {sent} heard {heard}"))?;
    }
    clients.extend(apps);
    Ok(clients)
}

fn number(from: &mut TcpStream) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}
