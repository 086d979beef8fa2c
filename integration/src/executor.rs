//! hyper's own tasks on the thread that uses it.

/// Starts tasks where they are born.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here;

impl<F> hyper::rt::Executor<F> for Here
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, task: F) {
        ambit_process::spawn::spawn_local("http", task);
    }
}
