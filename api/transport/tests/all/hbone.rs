//! Tunnels: asking, refusing, draining, dying.

use std::time::Duration;

use ambit_api::reason::Reason;
use ambit_transport::hbone::{ConnectError, ConnectRequest, Settings, TunnelError};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Mesh, World, client_identity, on_a_worker};

fn to(authority: &str) -> ConnectRequest {
    ConnectRequest { authority: authority.to_owned(), headers: HeaderMap::new() }
}

#[test]
fn streams_echo_side_by_side() {
    on_a_worker(async {
        let world = World::new(&Settings::default()).await;
        let mut open = Vec::new();
        for _ in 0..20 {
            open.push(world.carry().await);
        }
        assert_eq!(world.tunnel.load().streams(), 20);
        for (number, carried) in open.iter_mut().enumerate() {
            carried.client.write_all(&[number as u8; 100]).await.unwrap();
        }
        for (number, carried) in open.iter_mut().enumerate() {
            let mut got = [0; 100];
            carried.app.read_exact(&mut got).await.unwrap();
            carried.app.write_all(&got).await.unwrap();
            carried.client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [number as u8; 100]);
        }
    });
}

#[test]
fn the_answer_carries_headers_and_refusals_carry_their_status() {
    on_a_worker(async {
        let world = World::new(&Settings::default()).await;
        let request = world.request();
        let (stream, _app) = tokio::join!(world.tunnel.open(&request), world.app.accept());
        assert_eq!(stream.unwrap().headers()["baggage"], "service.name=app");
        let refused = world.tunnel.open(&to("denied:1")).await.err().unwrap();
        assert!(matches!(refused, ConnectError::Refused(StatusCode::UNAUTHORIZED)));
        assert_eq!(refused.reason(), Reason::Refused);
        assert!(matches!(world.tunnel.open(&to("no host")).await, Err(ConnectError::Invalid(_))));
    });
}

#[test]
fn an_unanswered_connect_ends_in_time_and_frees_its_place() {
    on_a_worker(async {
        let settings = Settings { connect_timeout: Duration::from_millis(50), ..Settings::default() };
        let world = World::new(&settings).await;
        assert!(matches!(world.tunnel.open(&to("silent:1")).await, Err(ConnectError::TimedOut(_))));
        assert_eq!(world.tunnel.load().streams(), 0);
        let _still_works = world.carry().await;
    });
}

#[test]
fn goaway_lets_open_streams_finish_and_takes_no_new_ones() {
    on_a_worker(async {
        let world = World::new(&Settings::default()).await;
        let mut carried = world.carry().await;
        drop(world.drain);
        // The announcement arrives in order with the data behind it.
        loop {
            carried.app.write_all(b"x").await.unwrap();
            carried.client.read_exact(&mut [0; 1]).await.unwrap();
            if matches!(world.tunnel.open(&to("denied:1")).await, Err(ConnectError::TunnelClosed)) {
                break;
            }
        }
        assert!(!world.tunnel.is_usable());
        carried.client.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        carried.app.read_exact(&mut late).await.unwrap();
        drop((carried.client, carried.app));
        world.server.await.unwrap().unwrap();
        world.tunnel.closed().await;
    });
}

#[test]
fn a_tunnel_retires_when_the_certificate_ends() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let client = mesh.leaf_between(&client_identity(), Duration::from_secs(60), Duration::from_secs(3));
        let world = World::with(&mesh, client, Settings::default(), Settings::default()).await;
        let mut carried = world.carry().await;
        while world.tunnel.is_usable() {
            let outcome = world.tunnel.open(&to("denied:1")).await;
            assert!(matches!(outcome, Err(ConnectError::Refused(_) | ConnectError::TunnelClosed)));
            tokio::task::yield_now().await;
        }
        carried.client.write_all(b"x").await.unwrap();
        carried.app.read_exact(&mut [0; 1]).await.unwrap();
        drop((carried.client, carried.app));
        world.server.await.unwrap().unwrap();
    });
}

#[test]
fn an_idle_tunnel_closes_on_either_side() {
    let short = || Settings { idle_timeout: Duration::from_millis(60), ..Settings::default() };
    for (ours, theirs) in [(short(), Settings::default()), (Settings::default(), short())] {
        on_a_worker(async {
            let mesh = Mesh::new();
            let client = mesh.leaf(&client_identity());
            let world = World::with(&mesh, client, ours, theirs).await;
            let used = world.carry().await;
            drop((used.client, used.app));
            world.tunnel.closed().await;
            world.server.await.unwrap().unwrap();
        });
    }
}

#[test]
fn a_vanished_peer_is_noticed_by_pings() {
    on_a_worker(async {
        let settings = Settings {
            ping_interval: Duration::from_millis(20),
            ping_timeout: Duration::from_millis(80),
            ..Settings::default()
        };
        let world = World::new(&settings).await;
        // Several rounds of pings on a healthy tunnel.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(world.tunnel.is_usable());
        let carried = world.carry().await;
        world.hangs.set(true);
        let tally = carried.outbound.await.unwrap();
        assert_eq!(tally.ended.reason(), Some(Reason::Reset));
        world.tunnel.closed().await;
    });
}

#[test]
fn a_peer_that_never_speaks_http_is_dropped() {
    on_a_worker(async {
        let mesh = Mesh::new();
        let ours = super::support::End { certificate: mesh.leaf(&client_identity()), roots: &mesh.roots };
        let theirs = super::support::End {
            certificate: mesh.leaf(&super::support::server_identity()),
            roots: &mesh.roots,
        };
        let (_near, far) =
            super::support::handshake(ours, vec![super::support::server_identity()], theirs).await;
        let (stream, peer) = far.unwrap();
        let settings = Settings { preface_timeout: Duration::from_millis(50), ..Settings::default() };
        let outcome =
            ambit_transport::hbone::server::serve(stream, peer, &settings, std::future::pending(), |_| {})
                .await;
        assert!(matches!(outcome, Err(TunnelError::TimedOut(_))));
    });
}
