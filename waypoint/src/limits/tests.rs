//! Limits hold for the process, slots come back, and nobody waits beside a free one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::{Kind, Limits, Overflow, Uses};

fn most(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

#[test]
fn each_kind_has_its_own_count_and_none_is_no_limit() {
    let limits = Arc::new(Limits::default());
    for kind in [Kind::Connections, Kind::Pending, Kind::Requests, Kind::Retries] {
        let first = limits.take(kind, most(2)).unwrap();
        let second = limits.take(kind, most(2)).unwrap();
        assert_eq!(limits.take(kind, most(2)).unwrap_err(), Overflow { kind });
        let above = limits.take(kind, None).unwrap();
        assert_eq!(limits.held(kind), 3);
        drop((first, second, above));
        assert_eq!(limits.held(kind), 0);
    }
}

#[test]
fn a_lowered_limit_lets_nobody_in_until_it_is_met() {
    let limits = Arc::new(Limits::default());
    let mut held: Vec<_> = (0..3).map(|_| limits.take(Kind::Requests, most(3)).unwrap()).collect();
    for _ in 0..2 {
        assert!(limits.take(Kind::Requests, most(2)).is_err());
        held.pop();
    }
    assert!(limits.take(Kind::Requests, most(2)).is_ok());
}

#[test]
fn threads_together_never_exceed_the_limit() {
    const MOST: u32 = 5;
    let limits = Arc::new(Limits::default());
    let (inside, peak) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let Ok(_slot) = limits.take(Kind::Requests, most(MOST)) else {
                        continue;
                    };
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    peak.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(peak.into_inner() <= MOST);
    assert_eq!(limits.held(Kind::Requests), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_slot_that_comes_free_and_one_who_gave_up_loses_none() {
    let limits = Arc::new(Limits::default());
    let slot = limits.connection(most(1)).await;
    assert!(timeout(Duration::from_secs(1), limits.connection(most(1))).await.is_err());
    let (one, two) = (limits.connection(most(1)), limits.connection(most(1)));
    let both = async {
        tokio::join!(async { drop(one.await) }, async { drop(two.await) }, async {
            tokio::task::yield_now().await;
            drop(slot);
        })
    };
    timeout(Duration::from_secs(1), both).await.expect("both were served in turn");
    assert_eq!(limits.held(Kind::Connections), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_when_another_worker_waits_for_its_slot() {
    let limits = Arc::new(Limits::default());
    let idle = limits.connection(most(1)).await;
    assert!(timeout(Duration::from_secs(1), limits.wanted()).await.is_err(), "nobody waits");
    let keeper = async {
        limits.wanted().await;
        drop(idle);
    };
    let (_, slot) =
        timeout(Duration::from_secs(1), async { tokio::join!(keeper, limits.connection(most(1))) })
            .await
            .expect("the idle one gave way");
    assert_eq!(limits.held(Kind::Connections), 1);
    drop(slot);
    assert!(timeout(Duration::from_secs(1), limits.wanted()).await.is_err(), "an old wish closes nothing");
}

#[test]
fn waiters_on_other_threads_are_all_served() {
    let limits = Arc::new(Limits::default());
    let served = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (limits, served) = (limits.clone(), served.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..2_000 {
                        let slot = limits.connection(most(2)).await;
                        tokio::task::yield_now().await;
                        drop(slot);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(served.load(Ordering::SeqCst), 8_000);
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    let mut uses = Uses::new(most(2));
    assert_eq!([uses.spend(), uses.spend(), uses.spend()], [true, true, false]);
    assert!(uses.is_spent());
    let mut endless = Uses::new(None);
    assert!((0..1000).all(|_| endless.spend()) && !endless.is_spent());
}
