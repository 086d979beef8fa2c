//! Tells what is open on a worker that the configuration has changed, so that it is judged again (policy.md rule 16).
//!
//! Nothing is registered for a request that never waits: only who would sleep through a change leaves a waker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One worker's count of changes.
#[derive(Debug, Default)]
pub struct Changes {
    count: Cell<u64>,
    places: Cell<u64>,
    asleep: RefCell<HashMap<u64, Waker>>,
}

/// The configuration that something open was judged by.
#[derive(Debug)]
pub struct Seen {
    changes: Rc<Changes>,
    count: u64,
    place: Option<u64>,
}

impl Changes {
    /// The configuration has changed.
    pub fn announce(&self) {
        self.count.set(self.count.get() + 1);
        self.asleep.take().into_values().for_each(Waker::wake);
    }

    /// Follows from now on.
    pub fn follow(self: &Rc<Self>) -> Seen {
        Seen { changes: self.clone(), count: self.count.get(), place: None }
    }
}

impl Seen {
    /// Whether something changed since the last time this said so.
    pub fn take(&mut self) -> bool {
        let now = self.changes.count.get();
        std::mem::replace(&mut self.count, now) != now
    }

    /// What begins now for something that was judged by the configuration this one began with.
    pub fn again(&self) -> Self {
        Self { changes: self.changes.clone(), count: self.count, place: None }
    }

    /// As [`Seen::take`], and wakes the task at the next change.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        let place = *self.place.get_or_insert_with(|| {
            let place = self.changes.places.get();
            self.changes.places.set(place + 1);
            place
        });
        let mut asleep = self.changes.asleep.borrow_mut();
        match asleep.get_mut(&place) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => drop(asleep.insert(place, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Resolves at the next change.
    pub async fn changed(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.changes.asleep.borrow_mut().remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_change_wakes_once_and_what_ended_leaves_nothing_behind() {
        let changes = Rc::<Changes>::default();
        let mut seen = changes.follow();
        assert_eq!(seen.changed().now_or_never(), None);
        assert_eq!(changes.asleep.borrow().len(), 1);
        changes.announce();
        assert!(changes.asleep.borrow().is_empty());
        assert_eq!(seen.changed().now_or_never(), Some(()));
        assert_eq!(seen.changed().now_or_never(), None, "once a change");
        drop(seen);
        assert!(changes.asleep.borrow().is_empty());
    }

    #[test]
    fn what_begins_after_a_change_has_seen_it() {
        let changes = Rc::<Changes>::default();
        changes.announce();
        let mut late = changes.follow();
        assert!(!late.take());
        changes.announce();
        changes.announce();
        let mut since = late.again();
        assert!(late.take());
        assert!(!late.take());
        assert!(since.take(), "it was judged before these changes too");
    }
}
