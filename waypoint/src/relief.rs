//! The last resort of overload: whose connections end when memory is used up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Open connections by client; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Relief {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    named: Arc<watch::Sender<Option<IpAddr>>>,
}

/// One connection of a client, until dropped.
#[derive(Debug)]
pub struct Held {
    of: Relief,
    client: IpAddr,
    named: watch::Receiver<Option<IpAddr>>,
}

impl Relief {
    /// Counts a connection.
    pub fn hold(&self, client: IpAddr) -> Held {
        *self.lock().entry(client).or_default() += 1;
        // What was sent before is not meant for it.
        Held { of: self.clone(), client, named: self.named.subscribe() }
    }

    /// Ends the connections of the client that has the most, and says whose and how many.
    pub fn relieve(&self) -> Option<String> {
        let (client, count) =
            self.lock().iter().map(|(client, count)| (*client, *count)).max_by_key(|one| one.1)?;
        self.named.send_replace(Some(client));
        Some(format!("{count} connections of {client}"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Resolves when this connection must end.
    pub async fn ended(&mut self) {
        while self.named.changed().await.is_ok() {
            if *self.named.borrow_and_update() == Some(self.client) {
                return;
            }
        }
        std::future::pending().await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.of.lock();
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_has_the_most_loses_them_and_later_ones_stay() {
        let relief = Relief::default();
        assert_eq!(relief.relieve(), None);
        let [modest, greedy] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut held = [modest, greedy, greedy].map(|client| relief.hold(client));
        assert_eq!(relief.relieve().as_deref(), Some("2 connections of 10.0.0.2"));
        let ended = held.each_mut().map(|held| held.ended().now_or_never().is_some());
        assert_eq!(ended, [false, true, true]);
        let mut later = relief.hold(greedy);
        assert!(later.ended().now_or_never().is_none());
        drop((held, later));
        assert!(relief.lock().is_empty(), "nothing is kept of clients that have gone");
    }
}
