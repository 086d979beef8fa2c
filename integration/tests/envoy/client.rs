//! Envoy → our ztunnel's port 15008 → application.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_lab::{PodHandle, key_of};
use libtest_mimic::Failed;

use crate::flows::{First, Way};
use crate::peer::{Config, Envoy};
use crate::support::{Check, check};
use crate::{MANY, Named, World, carry_both_ways, identity, many_at_once};

/// Trials of this half.
pub(crate) const TRIALS: &[Named] = &[
    ("envoy_client_carries_and_half_closes", carries),
    ("envoy_client_many_streams", many),
    ("envoy_client_resets", resets),
    ("envoy_client_refuses_a_wrong_identity", wrong_identity),
    ("envoy_client_wrong_authority", wrong_authority),
    ("envoy_client_denied_by_policy", denied),
    ("envoy_client_goaway_of_a_deleted_pod", goaway),
];

/// Port on which Envoy takes connections inside its pod.
const PORT: u16 = 17000;

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-envoy, namespace: mesh}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/peers/sa/dialler]}}]}]
";

/// Envoy in front of an application of a pod of the mesh.
struct Front {
    envoy: Envoy,
    way: Way,
}

impl Front {
    /// With the application's right identity and authority.
    fn new(world: &World, to: &str) -> Result<Self, Failed> {
        let at = world.lab.pod(&format!("mesh/{to}"))?;
        Self::with(world, &at, &identity("mesh", to), None)
    }

    fn with(world: &World, at: &PodHandle, expected: &str, authority: Option<&str>) -> Result<Self, Failed> {
        let dialler = world.lab.pod("peers/dialler")?;
        let way = Way::direct(&world.lab, &dialler, at)?;
        let right = format!("{}:{}", at.address.v4, way.port()?);
        let tls = world.authority.context(&identity("peers", "dialler"), Some(expected))?;
        let mut config = Config::default();
        let server = SocketAddr::new(at.address.v4.into(), 15008);
        config.tunnel("hbone", PORT, (server, authority.unwrap_or(&right)), tls);
        let envoy = Envoy::start(&world.program, &world.lab, &dialler, &config)?;
        Ok(Front { envoy, way: way.by(([127, 0, 0, 1], PORT).into()) })
    }

    fn of_cluster(&self, name: &str) -> Result<u64, Failed> {
        self.envoy.counter(&format!("cluster.hbone.{name}"))
    }

    /// A connection that Envoy cannot bring through ends without a byte.
    fn fails(&self) -> Check {
        let heard = self.way.dial()?.read(&mut [0; 1]);
        let ended = match &heard {
            Ok(count) => *count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        check(ended, || format!("{heard:?} instead of an end"))
    }
}

fn carries(world: &World) -> Check {
    let front = Front::new(world, "server")?;
    let mut kept = front.way.open()?;
    kept.talk()?;
    front.way.open()?.half_close(First::Client)?;
    front.way.open()?.half_close(First::App)?;
    carry_both_ways(&front.way)?;
    // One tunnel so far, with the key exchange we prefer, and every ping answered.
    front.envoy.silence();
    kept.talk()?;
    let tunnels = front.of_cluster("upstream_cx_total")?;
    check(tunnels == 1, || format!("{tunnels} tunnels"))?;
    let hybrid = front.of_cluster("ssl.curves.X25519MLKEM768")?;
    check(hybrid == 1, || format!("{hybrid} handshakes with X25519MLKEM768"))?;
    let silent = front.of_cluster("http2.keepalive_timeout")?;
    check(silent == 0, || format!("{silent} pings without an answer"))
}

fn many(world: &World) -> Check {
    let front = Front::new(world, "server")?;
    let open = many_at_once(&front.way)?;
    let tunnels = front.of_cluster("upstream_cx_active")?;
    println!("{MANY} streams at once over {tunnels} tunnels");
    drop(open);
    front.way.open()?.talk()
}

fn resets(world: &World) -> Check {
    let front = Front::new(world, "server")?;
    let seen = front.way.open()?.reset(First::Client)?;
    let kind = seen.as_ref().map_err(std::io::Error::kind);
    check(kind == Err(ErrorKind::ConnectionReset), || {
        format!("the client was reset, the application saw {seen:?}")
    })?;
    let sent = front.of_cluster("http2.tx_reset")?;
    check(sent == 1, || format!("Envoy sent {sent} resets"))?;
    let seen = front.way.open()?.reset(First::App)?;
    front.envoy.wait_counter("cluster.hbone.http2.rx_reset", 1)?;
    println!("the application's reset reached Envoy as a reset, its client as {seen:?}");
    // The tunnel has lost nothing but those streams.
    front.way.open()?.talk()?;
    let tunnels = front.of_cluster("upstream_cx_total")?;
    check(tunnels == 1, || format!("{tunnels} tunnels"))
}

fn wrong_identity(world: &World) -> Check {
    let at = world.lab.pod("mesh/server")?;
    let front = Front::with(world, &at, &identity("mesh", "somebody-else"), None)?;
    front.fails()?;
    front.envoy.wait_counter("cluster.hbone.ssl.fail_verify_san", 1)?;
    drop(front);
    Front::new(world, "server")?.way.open()?.talk()
}

fn wrong_authority(world: &World) -> Check {
    let at = world.lab.pod("mesh/server")?;
    let other = format!("{}:80", world.lab.pod("mesh/doomed")?.address.v4);
    for (authority, status) in [(other.as_str(), 400), ("no-port", 400), ("no.such.service:80", 503)] {
        let front = Front::with(world, &at, &identity("mesh", "server"), Some(authority))?;
        front.fails()?;
        front.envoy.wait_answer(status)?;
    }
    Ok(())
}

fn denied(world: &World) -> Check {
    let front = Front::new(world, "server")?;
    let mut before = front.way.open()?;
    before.talk()?;
    world.lab.apply(DENY)?;
    world.lab.settled()?;
    let seen = before.client.read(&mut [0; 1]);
    check(!matches!(seen, Ok(1..)), || format!("the open connection went on: {seen:?}"))?;
    front.fails()?;
    front.envoy.wait_answer(401)?;
    world.lab.delete(&[key_of("AuthorizationPolicy", "mesh/no-envoy")])?;
    world.lab.settled()?;
    front.way.open()?.talk()?;
    println!("denied with 401, the open connection cut; allowed again without the policy");
    Ok(())
}

fn goaway(world: &World) -> Check {
    let front = Front::new(world, "doomed")?;
    let mut open = front.way.open()?;
    open.talk()?;
    // The pod's program does not end when asked, so the network stays a while after the object has gone.
    let lab = Arc::clone(&world.lab);
    let deletion = std::thread::spawn(move || lab.delete(&[key_of("Pod", "mesh/doomed")]));
    front.envoy.wait_counter("cluster.hbone.upstream_cx_close_notify", 1)?;
    open.talk()?;
    println!("GOAWAY arrived when the pod was deleted, and the open connection went on");
    deletion.join().map_err(|_panic| "the deletion failed")??;
    let seen = open.client.read(&mut [0; 1]);
    check(!matches!(seen, Ok(1..)), || format!("the pod is gone, its connection is not: {seen:?}"))?;
    front
        .envoy
        .wait("the end of the tunnel", |envoy| Ok(envoy.counter("cluster.hbone.upstream_cx_active")? == 0))?;
    front.fails()
}
