//! When to stop: SIGTERM, SIGINT, or a request from within (`POST /quitquitquit`).

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// What asked the program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM: the ordinary way.
    Terminate,
    /// SIGINT: somebody at a terminal.
    Interrupt,
    /// A request to the admin port.
    Asked,
}

/// A request to stop that arrives through the program itself; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Quit {
    asked: Arc<Notify>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Asked => "a request to the admin port",
        })
    }
}

impl Quit {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the program to stop. One who starts to wait afterwards hears it too.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Returns once somebody has asked. One waiter only: the program's main function.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// Returns on SIGTERM or SIGINT.
pub async fn shutdown() -> Cause {
    shutdown_or(&Quit::new()).await
}

/// Returns on SIGTERM, SIGINT or when `quit` is asked.
pub async fn shutdown_or(quit: &Quit) -> Cause {
    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate()), handler(SignalKind::interrupt()));
    tokio::select! {
        () = arrives(&mut terminate) => Cause::Terminate,
        () = arrives(&mut interrupt) => Cause::Interrupt,
        () = quit.asked() => Cause::Asked,
    }
}

fn handler(kind: SignalKind) -> Option<Signal> {
    // Without a handler the signal's default action still ends the program, only less politely.
    signal(kind)
        .inspect_err(
            |error| tracing::error!(%error, ?kind, "cannot handle a signal; it will end us without a drain"),
        )
        .ok()
}

async fn arrives(handler: &mut Option<Signal>) {
    match handler {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asked_before_waiting_is_heard() {
        let quit = Quit::new();
        quit.clone().ask();
        assert_eq!(shutdown_or(&quit).await, Cause::Asked);
    }

    #[tokio::test]
    async fn terminate_is_heard() {
        let waiting = crate::spawn::spawn("wait", shutdown());
        // The handler must stand before the signal is sent, or it would end the test; the current-thread
        // runtime polls the task at the first yield.
        tokio::task::yield_now().await;
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(waiting.await.unwrap(), Cause::Terminate);
    }
}
