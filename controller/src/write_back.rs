//! Writing verdicts to objects: the newest per object waits its turn, so a slow writer holds back nobody and writes
//! nothing that is out of date.

use std::collections::BTreeMap;
use std::ops::Bound;
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
        let mut last = None;
        loop {
            let Some((object, conditions)) = self.pop(last.as_ref()) else {
                self.shared.more.notified().await;
                continue;
            };
            last = Some(object.clone());
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

    /// The next in order after the last one, so that one that cannot be written does not stand in everybody's way.
    fn pop(&self, last: Option<&ObjectRef>) -> Option<(ObjectRef, Vec<Condition>)> {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = last.and_then(|last| waiting.range((Bound::Excluded(last), Bound::Unbounded)).next());
        match next.map(|(object, _)| object.clone()) {
            Some(object) => waiting.remove_entry(&object),
            None => waiting.pop_first(),
        }
    }

    fn put_back(&self, object: ObjectRef, conditions: Vec<Condition>) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(object).or_insert(conditions);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use ambit_crds::kind::Kind;
    use ambit_crds::status::{ConditionStatus, Event};
    use ambit_process::spawn::spawn;
    use tokio::sync::mpsc;

    use super::*;

    /// Tells what is written; one object never can be.
    struct Writer(mpsc::UnboundedSender<(String, Vec<Condition>)>);

    impl StatusWriter for Writer {
        fn annotate(&self, _: &ObjectRef, _: &str, _: Option<&str>) -> io::Result<()> {
            Ok(())
        }

        fn event(&self, _: &Event) -> io::Result<()> {
            Ok(())
        }

        fn conditions(&self, object: &ObjectRef, conditions: &[Condition]) -> io::Result<()> {
            if object.name == "impossible" {
                return Err(io::Error::other("on purpose"));
            }
            self.0.send((object.name.clone(), conditions.to_vec())).map_err(io::Error::other)
        }
    }

    fn verdict(name: &str, reasons: &[&str]) -> Verdict {
        let condition = |reason: &&str| Condition {
            kind: "Enforced".to_owned(),
            status: ConditionStatus::True,
            reason: (*reason).to_owned(),
            message: String::new(),
            observed_generation: 0,
        };
        let object = ObjectRef::new(Kind::AuthorizationPolicy, "shop", name);
        Verdict { object, conditions: reasons.iter().map(condition).collect() }
    }

    #[tokio::test]
    async fn only_the_newest_is_written_and_what_cannot_be_holds_up_nobody() {
        let backlog = Backlog::default();
        backlog.put(vec![verdict("a", &["Old"]), verdict("impossible", &["Any"]), verdict("z", &["Fine"])]);
        backlog.put(vec![verdict("a", &["New"])]);
        let (sender, mut written) = mpsc::unbounded_channel();
        let task = spawn("status", backlog.clone().run(Arc::new(Writer(sender))));
        let expected = |name: &str, reasons| (name.to_owned(), verdict(name, reasons).conditions);
        assert_eq!(written.recv().await, Some(expected("a", &["New"])));
        assert_eq!(written.recv().await, Some(expected("z", &["Fine"])));
        // What no longer has a verdict has its conditions taken away.
        backlog.put(vec![verdict("a", &[])]);
        assert_eq!(written.recv().await, Some(expected("a", &[])));
        task.abort();
    }
}
