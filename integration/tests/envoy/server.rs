//! Client in the mesh → our ztunnel → Envoy on port 15008 of a pod that is not ours → application.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::flows::{First, Way, tunnels};
use crate::peer::{Config, Envoy};
use crate::support::{Check, check};
use crate::{MANY, Named, World, carry_both_ways, identity, many_at_once};

/// Trials of this half.
pub(crate) const TRIALS: &[Named] = &[
    ("envoy_server_carries_and_half_closes", carries),
    ("envoy_server_many_streams", many),
    ("envoy_server_resets", resets),
    ("envoy_server_with_a_wrong_identity_is_refused", wrong_identity),
    ("envoy_server_goaway_loses_no_connection", goaway),
];

/// Streams a tunnel takes before Envoy closes it gracefully.
const BEFORE_GOAWAY: u32 = 5;

/// An application behind Envoy.
struct Back {
    envoy: Envoy,
    way: Way,
}

impl Back {
    /// In the pod of this name, as this identity.
    fn new(world: &World, pod: &str, account: &str, requests: Option<u32>) -> Result<Self, Failed> {
        let (client, at) = (world.lab.pod("mesh/client")?, world.lab.pod(&format!("peers/{pod}"))?);
        let way = Way::direct(&world.lab, &client, &at)?;
        let port = way.port()?;
        let authority = format!("{}:{port}", at.address.v4);
        let tls = world.authority.context(&identity("peers", account), Some(&identity("mesh", "client")))?;
        let mut config = Config::default();
        config.server("hbone", (&authority, SocketAddr::from(([127, 0, 0, 1], port))), requests, tls);
        let envoy = Envoy::start(&world.program, &world.lab, &at, &config)?;
        Ok(Back { envoy, way })
    }

    fn authority(&self, world: &World) -> Result<String, Failed> {
        Ok(format!("{}:{}", world.lab.pod("peers/good")?.address.v4, self.way.port()?))
    }

    fn of_streams(&self, name: &str) -> Result<u64, Failed> {
        self.envoy.counter(&format!("http.hbone.{name}"))
    }
}

fn carries(world: &World) -> Check {
    let back = Back::new(world, "good", "good", None)?;
    let mut kept = back.way.open()?;
    kept.talk()?;
    back.way.open()?.half_close(First::Client)?;
    // Envoy ends both directions when the application has ended its own; what that said still arrives, and no reset.
    back.way.open()?.last_words(First::App)?;
    carry_both_ways(&back.way)?;
    back.envoy.silence();
    kept.talk()?;
    let open = tunnels(&world.lab, &world.lab.pod("mesh/client")?)?;
    check(open == 1, || format!("{open} tunnels"))?;
    drop(kept);
    back.envoy.wait("four lines of the access log", |envoy| Ok(envoy.ended()?.len() == 4))?;
    let requests = back.envoy.ended()?;
    let authority = back.authority(world)?;
    println!("Envoy saw {} CONNECTs, the last one {}", requests.len(), requests[3]);
    requests.iter().try_for_each(|request| as_specified(request, &authority))
}

/// A CONNECT has an authority and neither path nor scheme; our headers are there.
fn as_specified(request: &Value, authority: &str) -> Check {
    let wanted = [
        ("method", "CONNECT"),
        ("authority", authority),
        ("protocol", "HTTP/2"),
        ("tls", "TLSv1.3"),
        ("peer", "spiffe://cluster.local/ns/mesh/sa/client"),
    ];
    for (field, value) in wanted {
        check(request[field] == value, || format!("{field} is not {value}: {request}"))?;
    }
    for absent in ["path", "sni"] {
        check(request[absent].is_null(), || format!("{absent} was sent: {request}"))?;
    }
    let starts = [("baggage", "k8s.cluster.name="), ("forwarded", "for="), ("traceparent", "00-")];
    for (field, start) in starts {
        check(request[field].as_str().is_some_and(|value| value.starts_with(start)), || {
            format!("{field}: {request}")
        })?;
    }
    Ok(())
}

fn many(world: &World) -> Check {
    let back = Back::new(world, "good", "good", None)?;
    let open = many_at_once(&back.way)?;
    let (streams, connections) =
        (back.of_streams("downstream_rq_active")?, back.of_streams("downstream_cx_active")?);
    println!("{streams} streams at once over {connections} tunnels");
    check(streams == MANY, || format!("{streams} streams of {MANY}"))?;
    // Envoy takes a hundred on each; workers that dial at the same moment may need one more.
    let fewest = MANY.div_ceil(100);
    check((fewest..=fewest + 2).contains(&connections), || format!("{connections} tunnels"))?;
    drop(open);
    back.way.open()?.talk()
}

fn resets(world: &World) -> Check {
    let back = Back::new(world, "good", "good", None)?;
    let seen = back.way.open()?.reset(First::App)?;
    let kind = seen.as_ref().map_err(std::io::Error::kind);
    check(kind == Err(ErrorKind::ConnectionReset), || {
        format!("the application was reset, the client saw {seen:?}")
    })?;
    let seen = back.way.open()?.reset(First::Client)?;
    back.envoy.wait_counter("http.hbone.downstream_rq_rx_reset", 1)?;
    println!("the client's reset reached Envoy as a reset, its application as {seen:?}");
    back.way.open()?.talk()?;
    let tunnels = back.of_streams("downstream_cx_total")?;
    check(tunnels == 1, || format!("{tunnels} tunnels"))
}

fn wrong_identity(world: &World) -> Check {
    let back = Back::new(world, "impostor", "somebody-else", None)?;
    let seen = back.way.dial()?.read(&mut [0; 1]);
    let kind = seen.as_ref().map_err(std::io::Error::kind);
    check(kind == Err(ErrorKind::ConnectionReset), || format!("the client saw {seen:?}"))?;
    let asked = back.of_streams("downstream_rq_total")?;
    check(asked == 0, || format!("{asked} streams were opened to an impostor"))?;
    drop(back);
    // The same pod with the identity it should have.
    Back::new(world, "impostor", "impostor", None)?.way.open()?.talk()
}

fn goaway(world: &World) -> Check {
    let back = Back::new(world, "leaving", "leaving", Some(BEFORE_GOAWAY))?;
    let mut open = Vec::new();
    for _ in 0..6 * BEFORE_GOAWAY {
        let mut ends = back.way.open()?;
        ends.talk()?;
        open.push(ends);
    }
    // Those on tunnels that take no more streams go on.
    open.iter_mut().try_for_each(crate::flows::Ends::talk)?;
    let (connections, ended) =
        (back.of_streams("downstream_cx_total")?, back.of_streams("downstream_cx_max_requests_reached")?);
    println!("{} streams over {connections} tunnels, of which Envoy ended {ended} with GOAWAY", open.len());
    check(ended >= 5, || format!("{ended} graceful ends"))
}
