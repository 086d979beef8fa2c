//! Ends, resets and back-pressure through a whole path: client, relay, tunnel, relay, application.

use std::io::ErrorKind;
use std::time::Duration;

use ambit_api::reason::Reason;
use ambit_process::spawn::spawn_local;
use ambit_transport::hbone::Settings;
use ambit_transport::relay::{Counters, Ended, Far, Side, Tally, relay};
use ambit_transport::socket::abort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{PATIENCE, World, on_a_worker, pair};

/// Reads until nothing more arrives for a while.
async fn settle(mut read: impl AsyncFnMut() -> u64) -> u64 {
    let mut last = read().await;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = read().await;
        if now == last {
            return now;
        }
        last = now;
    }
}

#[test]
fn half_close_passes_both_ways() {
    for first in [Side::Near, Side::Far] {
        on_a_worker(async move {
            let world = World::new(&Settings::default()).await;
            let carried = world.carry().await;
            let (mut one, mut other) = match first {
                Side::Near => (carried.client, carried.app),
                Side::Far => (carried.app, carried.client),
            };
            one.write_all(b"question").await.unwrap();
            one.shutdown().await.unwrap();
            let mut text = String::new();
            other.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "question");
            // The reverse direction goes on after the first has ended.
            other.write_all(b"answer").await.unwrap();
            other.shutdown().await.unwrap();
            text.clear();
            one.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "answer");
            let outbound = carried.outbound.await.unwrap();
            let (sent, received) = if first == Side::Near { (8, 6) } else { (6, 8) };
            assert_eq!(outbound, Tally { sent, received, ended: Ended::Clean });
            assert_eq!(carried.inbound.await.unwrap().ended, Ended::Clean);
        });
    }
}

#[test]
fn a_reset_arrives_as_a_reset_both_ways() {
    for from in [Side::Near, Side::Far] {
        on_a_worker(async move {
            let world = World::new(&Settings::default()).await;
            let carried = world.carry().await;
            let (one, mut other) = match from {
                Side::Near => (carried.client, carried.app),
                Side::Far => (carried.app, carried.client),
            };
            abort(one);
            let cause = other.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(cause.kind(), ErrorKind::ConnectionReset, "{from:?}");
            let far = if from == Side::Near { Side::Far } else { Side::Near };
            assert_eq!(carried.outbound.await.unwrap().ended, Ended::Reset(from));
            assert_eq!(carried.inbound.await.unwrap().ended, Ended::Reset(far));
        });
    }
}

#[test]
fn a_client_that_resets_a_stalled_upload_is_noticed() {
    on_a_worker(async {
        let world = World::new(&Settings::default()).await;
        let carried = world.carry().await;
        let mut client = carried.client;
        let counters = carried.counters.clone();
        // The application never reads: the upload fills every window and buffer, then stops.
        let full = async { while client.write_all(&[0; 65536]).await.is_ok() {} };
        tokio::select! {
            () = full => {}
            _ = settle(async || counters.sent()) => {}
        }
        abort(client);
        assert_eq!(carried.outbound.await.unwrap().ended, Ended::Reset(Side::Near));
        assert_eq!(carried.inbound.await.unwrap().ended, Ended::Reset(Side::Far));
        drop(carried.app);
    });
}

#[test]
fn a_reset_passes_between_plain_sockets() {
    on_a_worker(async {
        let (client, near) = pair().await;
        let (far, mut app) = pair().await;
        let counters = Counters::default();
        let relayed = relay(near, Far::Tcp(far), &counters, std::future::pending(), PATIENCE);
        let ends = async {
            abort(client);
            app.read(&mut [0; 1]).await.unwrap_err().kind()
        };
        let (tally, seen) = tokio::join!(relayed, ends);
        assert_eq!((tally.ended, seen), (Ended::Reset(Side::Near), ErrorKind::ConnectionReset));
    });
}

#[test]
fn plain_sockets_are_joined_with_half_close() {
    on_a_worker(async {
        let (mut client, near) = pair().await;
        let (far, mut app) = pair().await;
        let relayed = spawn_local("relay", async move {
            relay(near, Far::Tcp(far), &Counters::default(), std::future::pending(), PATIENCE).await
        });
        let body = vec![7; 3 << 20];
        let upload = async {
            client.write_all(&body).await.unwrap();
            client.shutdown().await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        };
        let serve = async {
            let mut got = Vec::new();
            app.read_to_end(&mut got).await.unwrap();
            app.write_all(b"thanks").await.unwrap();
            drop(app);
            got
        };
        let (text, got) = tokio::join!(upload, serve);
        assert_eq!((text.as_str(), got == body), ("thanks", true));
        assert_eq!(relayed.await.unwrap(), Tally { sent: 3 << 20, received: 6, ended: Ended::Clean });
    });
}

#[test]
fn a_cut_and_silence_reset_both_sides() {
    let cases = [
        (Duration::from_millis(20), PATIENCE, Reason::PolicyChanged),
        (PATIENCE, Duration::from_millis(40), Reason::IdleTimeout),
    ];
    for (cut_after, idle, reason) in cases {
        on_a_worker(async move {
            let (mut client, near) = pair().await;
            let (far, mut app) = pair().await;
            let until = async {
                tokio::time::sleep(cut_after).await;
                Reason::PolicyChanged
            };
            let tally = relay(near, Far::Tcp(far), &Counters::default(), until, idle).await;
            assert_eq!(tally.ended, Ended::Cut(reason));
            assert_eq!(client.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(app.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn bytes_arrive_whole_and_in_order() {
    on_a_worker(async {
        let world = World::new(&Settings::default()).await;
        let mut carried = world.carry().await;
        let body: Vec<u8> =
            (0..20_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sent = body.clone();
        let writer = spawn_local("writer", async move {
            carried.client.write_all(&sent).await.unwrap();
            carried.client.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        carried.app.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == body);
        assert_eq!(world.tunnel.load().queued(), 0);
    });
}

#[test]
fn many_small_writes_pass() {
    on_a_worker(async {
        let world = World::new(&Settings::default()).await;
        let Carried2 { mut client, mut app } = world.carry().await.into();
        let writer = spawn_local("writer", async move {
            for _ in 0..100_000 {
                client.write_all(&[1; 20]).await.unwrap();
            }
            client.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        app.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert_eq!(got.len(), 2_000_000);
    });
}

struct Carried2 {
    client: TcpStream,
    app: TcpStream,
}

impl From<super::support::Carried> for Carried2 {
    fn from(carried: super::support::Carried) -> Self {
        Self { client: carried.client, app: carried.app }
    }
}

#[test]
fn a_stalled_reader_holds_a_bounded_amount_and_stops_nobody() {
    on_a_worker(async {
        let settings = Settings::default();
        let world = World::new(&settings).await;
        let stalled = world.carry().await;
        let mut slow = stalled.client;
        let counters = stalled.counters.clone();
        spawn_local("stalled", async move { while slow.write_all(&[0; 65536]).await.is_ok() {} });
        let held = settle(async || counters.sent()).await;
        // What the far application's sockets buffer is the kernel's; beyond it a window and the send buffer.
        let mut fast = world.carry().await;
        let body = vec![3; 64 << 20];
        let writer = spawn_local("writer", async move {
            fast.client.write_all(&body).await.unwrap();
            fast.client.shutdown().await.unwrap();
        });
        let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            match fast.app.read(&mut buffer).await.unwrap() {
                0 => break,
                read => got += read,
            }
        }
        writer.await.unwrap();
        assert_eq!(got, 64 << 20);
        let kernel = 16 << 20;
        assert!(
            held <= kernel + u64::from(settings.stream_window) + settings.max_send_buffer as u64,
            "{held}"
        );
        assert_eq!(counters.sent(), held, "the stalled stream stays where it was");
        drop(stalled.app);
    });
}
