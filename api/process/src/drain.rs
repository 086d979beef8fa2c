//! Ending in order: a signal that work should finish, proof that it has, and a deadline after which it is cut.
//!
//! Modelled on a watch channel: every piece of work holds a [`Watch`]; the last one dropped is the proof.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

/// How long work that is cut may take to write its last line.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where the program stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Graceful,
    Forced,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything finished by itself.
    Clean,
    /// The deadline passed while this many holders were still at work.
    Forced {
        /// Watches that were alive when the deadline passed.
        remaining: usize,
    },
}

/// Starts the drain. Dropping it without [`Trigger::drain`] forces everything at once.
#[derive(Debug)]
pub struct Trigger {
    phase: watch::Sender<Phase>,
    holders: Weak<()>,
}

/// Held by everything that must be waited for; also tells it when to stop.
#[derive(Debug, Clone)]
pub struct Watch {
    phase: watch::Receiver<Phase>,
    // Counts the watches alone: a waiting future clones the receiver for as long as it waits.
    _held: Arc<()>,
}

/// A connected trigger and watch.
#[must_use]
pub fn channel() -> (Trigger, Watch) {
    let (sender, receiver) = watch::channel(Phase::Running);
    let held = Arc::new(());
    let trigger = Trigger { phase: sender, holders: Arc::downgrade(&held) };
    (trigger, Watch { phase: receiver, _held: held })
}

impl Trigger {
    /// Asks for a graceful end, waits until every [`Watch`] is dropped or `deadline` has passed, then forces
    /// what is left (which has a moment for its last words).
    ///
    /// The caller must have dropped its own watch, or it waits for itself.
    pub async fn drain(self, deadline: Duration) -> Drained {
        // `send_replace`, not `send`: having nobody left to tell is fine.
        self.phase.send_replace(Phase::Graceful);
        if tokio::time::timeout(deadline, self.phase.closed()).await.is_ok() {
            return Drained::Clean;
        }
        let remaining = self.holders.strong_count();
        self.phase.send_replace(Phase::Forced);
        // Whether they made it or not, we are leaving.
        let _ = tokio::time::timeout(LAST_WORDS, self.phase.closed()).await;
        Drained::Forced { remaining }
    }
}

impl Watch {
    /// Returns once a graceful end has begun (at once when it already has).
    pub async fn signalled(&self) {
        // An error means that the trigger is gone, which is an end too.
        let _ = self.phase.clone().wait_for(|phase| *phase != Phase::Running).await;
    }

    /// Returns once the deadline has passed and work is to be cut.
    pub async fn forced(&self) {
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Forced).await;
    }

    /// Whether new work should be refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Running || self.phase.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn graceful_work_ends_the_drain_early() {
        let (trigger, watch) = channel();
        let second = watch.clone();
        assert!(!watch.is_draining());
        let work = crate::spawn::spawn("work", async move {
            watch.signalled().await;
            assert!(watch.is_draining());
        });
        drop(second);
        assert_eq!(trigger.drain(NEVER).await, Drained::Clean);
        work.await.unwrap();
    }

    #[tokio::test]
    async fn stubborn_work_is_forced_at_the_deadline_and_counted() {
        let (trigger, watch) = channel();
        let mute = watch.clone();
        let began = std::time::Instant::now();
        let work = crate::spawn::spawn("work", async move {
            watch.forced().await;
            began.elapsed()
        });
        let deadline = Duration::from_millis(30);
        assert_eq!(trigger.drain(deadline).await, Drained::Forced { remaining: 2 });
        assert!(work.await.unwrap() >= deadline);
        assert!(mute.is_draining());
    }

    #[tokio::test]
    async fn nothing_to_wait_for_is_clean_at_once() {
        let (trigger, watch) = channel();
        drop(watch);
        assert_eq!(trigger.drain(Duration::ZERO).await, Drained::Clean);
    }

    #[tokio::test]
    async fn a_lost_trigger_forces() {
        let (trigger, watch) = channel();
        drop(trigger);
        assert!(watch.is_draining());
        watch.signalled().await;
        watch.forced().await;
    }

    #[tokio::test]
    async fn graceful_is_not_forced() {
        let (trigger, watch) = channel();
        let draining = crate::spawn::spawn("drain", trigger.drain(NEVER));
        watch.signalled().await;
        tokio::select! {
            biased;
            () = watch.forced() => panic!("forced before the deadline"),
            () = std::future::ready(()) => {}
        }
        drop(watch);
        assert_eq!(draining.await.unwrap(), Drained::Clean);
    }
}
