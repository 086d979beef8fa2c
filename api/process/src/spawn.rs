//! Tasks with a name: the one place that calls tokio's spawn, so that a panic says whose it was.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

pin_project_lite::pin_project! {
    /// A future with a name. By hand, because an `async` block around a future takes its size twice, and there is
    /// one of these per connection.
    struct Named<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

/// Reports the task's name when a poll unwinds.
struct Unwinding(&'static str);

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _unwinding = Unwinding(this.name);
        this.future.poll(context)
    }
}

impl Drop for Unwinding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "task panicked");
        }
    }
}

/// Runs a future on the current runtime under a name.
///
/// Whoever calls this owns the handle: a task that must end with the program holds a drain watch.
#[expect(clippy::disallowed_methods, reason = "this is the function everybody else must use")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Named { name, future })
}

/// Runs a future that must stay on this worker, under a name. Only inside a worker (or a `LocalSet`).
pub fn spawn_local<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(Named { name, future })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outcome_and_panic_reach_the_owner() {
        assert_eq!(spawn("seven", async { 7 }).await.unwrap(), 7);
        let failed = spawn("doomed", async { panic!("on purpose") }).await;
        assert!(failed.unwrap_err().is_panic());
    }

    #[test]
    fn a_name_costs_two_words() {
        let future = async {
            let bytes = [0_u8; 1024];
            tokio::task::yield_now().await;
            bytes.len()
        };
        let bare = size_of_val(&future);
        assert_eq!(size_of_val(&Named { name: "sized", future }), bare + 16);
    }

    #[tokio::test]
    async fn local_tasks_need_not_be_send() {
        let local = tokio::task::LocalSet::new();
        let value = std::rc::Rc::new(5);
        let outcome = local.run_until(async { spawn_local("five", async move { *value }).await });
        assert_eq!(outcome.await.unwrap(), 5);
    }
}
