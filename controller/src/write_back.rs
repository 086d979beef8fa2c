//! Writing verdicts to objects: the newest per object waits its turn, so a slow writer holds back nobody and writes
//! nothing that is out of date.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Condition, StatusWriter};
use ambit_process::backoff::Backoff;
use tokio::sync::Notify;

use crate::status::Verdict;

/// First and longest wait after a failed write.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Verdicts that wait to be written. Cheap to clone.
#[derive(Clone, Default)]
pub struct Backlog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<BTreeMap<ObjectRef, Vec<Condition>>>,
    more: Notify,
}

impl Backlog {
    /// Puts verdicts in line, each instead of an older one of the same object.
    pub fn put(&self, verdicts: Vec<Verdict>) {
        if verdicts.is_empty() {
            return;
        }
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(verdicts.into_iter().map(|verdict| (verdict.object, verdict.conditions)));
        drop(waiting);
        self.shared.more.notify_one();
    }

    /// Writes for ever.
    pub async fn run(self, writer: Arc<dyn StatusWriter>) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            let Some((object, conditions)) = self.pop() else {
                self.shared.more.notified().await;
                continue;
            };
            let (writer, about, said) = (writer.clone(), object.clone(), conditions.clone());
            let written = tokio::task::spawn_blocking(move || writer.conditions(&about, &said)).await;
            match written {
                Ok(Ok(())) => backoff.reset(),
                Ok(Err(error)) => {
                    let wait = backoff.delay();
                    tracing::warn!(%object, %error, wait_ms = wait.as_millis() as u64, "status could not be written");
                    self.put_back(object, conditions);
                    tokio::time::sleep(wait).await;
                }
                Err(error) => tracing::error!(%object, %error, "the status writer failed"),
            }
        }
    }

    fn pop(&self) -> Option<(ObjectRef, Vec<Condition>)> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    fn put_back(&self, object: ObjectRef, conditions: Vec<Condition>) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(object).or_insert(conditions);
    }
}
