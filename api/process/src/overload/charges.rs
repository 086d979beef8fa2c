//! What was let in and may still take memory: counted from the moment it is admitted until it is over, or until its memory
//! must show in what is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Time of one slot, and how many there are: work that was let in is reckoned with for most of a second. What it then has
/// taken is seen in use.
pub(super) const TURN: Duration = Duration::from_millis(100);
const SLOTS: u32 = 8;

/// The sum of what is counted, by the time when it was let in.
#[derive(Debug, Default)]
pub(super) struct Charges {
    turn: AtomicU32,
    slots: [AtomicU64; SLOTS as usize],
}

/// Memory reckoned with for one piece of work; given back when dropped.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the memory back"]
pub struct Charge(Option<Taken>);

#[derive(Debug)]
struct Taken {
    charges: Arc<Charges>,
    turn: u32,
    bytes: u64,
}

impl Charges {
    /// Counts so many bytes.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Charge {
        let turn = self.turn.load(Ordering::Acquire);
        self.slot(turn).fetch_add(bytes, Ordering::Relaxed);
        Charge(Some(Taken { charges: self.clone(), turn, bytes }))
    }

    /// Bytes counted.
    pub(super) fn sum(&self) -> u64 {
        self.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).sum()
    }

    /// Forgets the oldest slot. To be called by one alone, once in [`TURN`] and after memory was looked at.
    pub(super) fn turn(&self) {
        let next = self.turn.load(Ordering::Relaxed).wrapping_add(1);
        self.slot(next).store(0, Ordering::Relaxed);
        self.turn.store(next, Ordering::Release);
    }

    fn slot(&self, turn: u32) -> &AtomicU64 {
        &self.slots[(turn % SLOTS) as usize]
    }
}

impl Charge {
    /// The work goes on without us: it is counted until it shows.
    pub fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(Taken { charges, turn, bytes }) = self.0.take() else { return };
        if charges.turn.load(Ordering::Acquire).wrapping_sub(turn) < SLOTS {
            // At the very moment of a turn the slot may have been emptied already.
            let less = |sum: u64| Some(sum.saturating_sub(bytes));
            let _ = charges.slot(turn).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_until_over_or_until_it_shows() {
        let charges: Arc<Charges> = Arc::default();
        let short = charges.take(10);
        let long = charges.take(100);
        charges.take(1).spend();
        assert_eq!(charges.sum(), 111);
        drop(short);
        assert_eq!(charges.sum(), 101);
        for _ in 1..SLOTS {
            charges.turn();
            assert_eq!(charges.sum(), 101);
        }
        charges.turn();
        assert_eq!(charges.sum(), 0, "it shows");
        let later = charges.take(7);
        drop(long);
        assert_eq!(charges.sum(), 7, "what was forgotten is not given back again");
        drop(later);
        assert_eq!(charges.sum(), 0);
        drop(Charge::default());
    }

    #[test]
    fn threads_leave_nothing_behind() {
        let charges: Arc<Charges> = Arc::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| drop(charges.take(3))));
            }
        });
        assert_eq!(charges.sum(), 0);
    }
}
