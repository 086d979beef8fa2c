//! A future that is polled only when it was woken itself, not each time its task runs for another cause.
//!
//! A relay's task runs for every piece of data; what may end it (policy, the pod's life, time) almost never has news,
//! and asking costs several locks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

pin_project_lite::pin_project! {
    /// The future and its bell.
    pub(super) struct Gated<F> {
        bell: Arc<Bell>,
        // The waker made from the bell, and the task's waker that it rings.
        waker: Waker,
        task: Option<Waker>,
        #[pin]
        future: F,
    }
}

struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Gated<F> {
    pub(super) fn new(future: F) -> Self {
        // Rung at first: the future has to be polled once before it can ring.
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: Waker::from(bell.clone()), bell, task: None, future }
    }

    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let moved = this.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker()));
        if moved {
            *this.task = Some(cx.waker().clone());
            this.bell.task.register(cx.waker());
        }
        if !this.bell.rung.load(Ordering::Relaxed) || !this.bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        // A ring takes the task's waker away. One from before this line is answered by the poll below.
        this.bell.task.register(cx.waker());
        this.future.poll(&mut Context::from_waker(this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::task::noop_waker;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn polled_once_and_then_only_when_woken() {
        let (send, mut receive) = oneshot::channel::<u8>();
        let polls = Cell::new(0);
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            Pin::new(&mut receive).poll(cx)
        });
        let mut gated = pin!(Gated::new(counted));
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..5 {
            assert!(gated.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(polls.get(), 1);
        send.send(7).unwrap();
        assert_eq!(gated.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
        assert_eq!(polls.get(), 2);
    }

    #[tokio::test]
    async fn rings_again_and_again() {
        let begun = tokio::time::Instant::now();
        let mut gated = pin!(Gated::new(async {
            for _ in 0..3 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }));
        poll_fn(|cx| gated.as_mut().poll(cx)).await;
        assert!(begun.elapsed() >= std::time::Duration::from_millis(15));
    }

    #[tokio::test]
    async fn wakes_the_task_that_polls_it_last() {
        let (send, receive) = oneshot::channel::<u8>();
        let mut gated = Box::pin(Gated::new(receive));
        let waker = noop_waker();
        assert!(gated.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let waiting = poll_fn(|cx| gated.as_mut().poll(cx));
        let (got, ()) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            send.send(3).unwrap();
        });
        assert_eq!(got, Ok(3));
    }
}
