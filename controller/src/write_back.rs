//! Writing back: verdicts, annotations, events and objects of our own. The newest per place waits its turn, so a slow writer holds
//! back nobody and writes nothing that is out of date.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Condition, Details, Event, StatusWriter};
use ambit_process::backoff::Backoff;
use serde_json::Value;
use tokio::sync::Notify;

use crate::status::Verdict;

/// First and longest wait after a failed write.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What waits to be written. Cheap to clone.
#[derive(Clone, Default)]
pub struct Backlog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<BTreeMap<Place, Entry>>,
    more: Notify,
}

/// Where something is written; of two for one place only the newer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// An object of ours, which is there before anything is said about it.
    Own(ObjectRef),
    /// The conditions of an object.
    Conditions(ObjectRef),
    /// One annotation of an object.
    Annotation(ObjectRef, String),
    /// What happened to an object, by its reason.
    Event(ObjectRef, String),
}

/// What is written there.
#[derive(Clone, Debug)]
enum Entry {
    Own(Option<Arc<Value>>),
    Conditions(Vec<Condition>, Details),
    Annotation(Option<String>),
    Event(Event),
}

/// An annotation of ours to be set, or removed (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The object.
    pub object: ObjectRef,
    /// Its key.
    pub key: &'static str,
    /// Its value.
    pub value: Option<String>,
}

/// An object of ours to be written, or removed (`None`).
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// The object.
    pub object: ObjectRef,
    /// The whole of it.
    pub manifest: Option<Arc<Value>>,
}

impl Backlog {
    /// Puts verdicts in line, each instead of an older one of the same object.
    pub fn put(&self, verdicts: Vec<Verdict>) {
        let entry = |verdict: Verdict| {
            (Place::Conditions(verdict.object), Entry::Conditions(verdict.conditions, verdict.details))
        };
        self.extend(verdicts.into_iter().map(entry).collect());
    }

    /// Puts objects of ours in line.
    pub fn own(&self, objects: Vec<Owned>) {
        self.extend(
            objects.into_iter().map(|one| (Place::Own(one.object), Entry::Own(one.manifest))).collect(),
        );
    }

    /// Puts annotations in line.
    pub fn annotate(&self, annotations: Vec<Annotation>) {
        let entry = |one: Annotation| {
            (Place::Annotation(one.object, one.key.to_owned()), Entry::Annotation(one.value))
        };
        self.extend(annotations.into_iter().map(entry).collect());
    }

    /// Puts events in line.
    pub fn report(&self, events: Vec<Event>) {
        let entry = |one: Event| (Place::Event(one.object.clone(), one.reason.clone()), Entry::Event(one));
        self.extend(events.into_iter().map(entry).collect());
    }

    fn extend(&self, entries: Vec<(Place, Entry)>) {
        if entries.is_empty() {
            return;
        }
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
        self.shared.more.notify_one();
    }

    /// Writes for ever.
    pub async fn run(self, writer: Arc<dyn StatusWriter>) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut last = None;
        loop {
            let Some((place, entry)) = self.pop(last.as_ref()) else {
                self.shared.more.notified().await;
                continue;
            };
            last = Some(place.clone());
            let (writer, at, what) = (writer.clone(), place.clone(), entry.clone());
            let written = tokio::task::spawn_blocking(move || write(&*writer, &at, &what)).await;
            match written {
                Ok(Ok(())) => backoff.reset(),
                Ok(Err(error)) => {
                    let wait = backoff.delay();
                    tracing::warn!(place = %place.object(), %error, wait_ms = wait.as_millis() as u64, "could not be written");
                    self.put_back(place, entry);
                    tokio::time::sleep(wait).await;
                }
                Err(error) => tracing::error!(place = %place.object(), %error, "the status writer failed"),
            }
        }
    }

    /// The next in order after the last one, so that one that cannot be written does not stand in everybody's way.
    fn pop(&self, last: Option<&Place>) -> Option<(Place, Entry)> {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = last.and_then(|last| waiting.range((Bound::Excluded(last), Bound::Unbounded)).next());
        match next.map(|(place, _)| place.clone()) {
            Some(place) => waiting.remove_entry(&place),
            None => waiting.pop_first(),
        }
    }

    fn put_back(&self, place: Place, entry: Entry) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(place).or_insert(entry);
    }
}

impl Place {
    fn object(&self) -> &ObjectRef {
        match self {
            Self::Own(object)
            | Self::Conditions(object)
            | Self::Annotation(object, _)
            | Self::Event(object, _) => object,
        }
    }
}

fn write(writer: &dyn StatusWriter, place: &Place, entry: &Entry) -> io::Result<()> {
    match (place, entry) {
        (Place::Own(object), Entry::Own(manifest)) => writer.own(object, manifest.as_deref()),
        (Place::Conditions(object), Entry::Conditions(conditions, details)) => {
            writer.status(object, conditions, details)
        }
        (Place::Event(..), Entry::Event(event)) => writer.event(event),
        (Place::Annotation(object, key), Entry::Annotation(value)) => {
            match writer.annotate(object, key, value.as_deref()) {
                // The object went meanwhile, and what was to be noted on it with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                written => written,
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ambit_crds::kind::Kind;
    use ambit_crds::status::ConditionStatus;
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

        fn own(&self, _: &ObjectRef, _: Option<&Value>) -> io::Result<()> {
            Ok(())
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
        let conditions = reasons.iter().map(condition).collect();
        Verdict { object, conditions, details: Details::None }
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
