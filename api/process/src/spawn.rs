//! Tasks with a name: the one place that calls tokio's spawn, so that a panic says whose it was.

use tokio::task::JoinHandle;

/// Reports the task's name when the task unwinds.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "task panicked");
        }
    }
}

/// Runs a future on the current runtime under a name.
///
/// Whoever calls this owns the handle: a task that must end with the program holds a drain watch.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the function everybody else must use"
)]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(named(name, future))
}

/// Runs a future that must stay on this worker, under a name. Only inside a worker (or a `LocalSet`).
pub fn spawn_local<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(named(name, future))
}

fn named<F: Future>(name: &'static str, future: F) -> impl Future<Output = F::Output> {
    async move {
        let _named = Named(name);
        future.await
    }
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

    #[tokio::test]
    async fn local_tasks_need_not_be_send() {
        let local = tokio::task::LocalSet::new();
        let value = std::rc::Rc::new(5);
        let outcome = local.run_until(async { spawn_local("five", async move { *value }).await });
        assert_eq!(outcome.await.unwrap(), 5);
    }
}
