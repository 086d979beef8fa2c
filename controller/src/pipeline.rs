//! Source → objects → translation → snapshot, one batch at a time, and the facts that identity depends on.

use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ambit_crds::kind::Kind;
use ambit_crds::meta::{ObjectMeta, ObjectRef};
use ambit_crds::object::Object;
use ambit_crds::pod::Pod;
use ambit_crds::source::SourceEvent;
use ambit_process::readiness::Hold;
use tokio::sync::{mpsc, oneshot, watch};

use crate::ca::grant::Waypoints;
use crate::ca::pods::{Phase, PodFact};
use crate::ca::tokens::Account;
use crate::gate::Facts;
use crate::objects::{Change, Inbox};
use crate::snapshot::Snapshot;
use crate::translate::{Shape, is_left_over};

/// A batch is closed when it has grown to this, so that a flood is told in parts.
const MAX_BATCH: usize = 10_000;

/// Takes changes and returns the snapshot after them.
pub trait Translate: Send {
    /// One batch.
    fn take(&mut self, changes: Vec<Change>) -> Arc<Snapshot>;
}

/// What the source was asked to look at, and how far that has come.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    inner: Arc<(Mutex<u64>, Condvar)>,
}

/// The task that owns the objects.
pub struct Pipeline<T> {
    /// The translation.
    pub translate: T,
    /// Where snapshots go.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Where pods and trust domain go.
    pub facts: Arc<RwLock<Facts>>,
    /// How far the source has been taken.
    pub taken: Taken,
    /// What waypoints are, so that replicas are told from others.
    pub shape: Shape,
    /// How long changes are gathered.
    pub gather: Duration,
    /// Where the hold on readiness goes when the first listing is translated.
    pub listed: Option<(oneshot::Sender<Hold>, Hold)>,
}

impl Taken {
    /// Waits until the look numbered `number` is translated, at most `within`; whether it is.
    pub fn wait(&self, number: u64, within: Duration) -> Settled {
        let (taken, changed) = &*self.inner;
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, _) = changed
            .wait_timeout_while(taken, within, |taken| *taken < number)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken >= number { Settled::Yes } else { Settled::NotYet }
    }

    fn reached(&self, number: u64) {
        let (taken, changed) = &*self.inner;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = number.max(*taken);
        changed.notify_all();
    }
}

/// Whether a look is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is.
    Yes,
    /// It took too long.
    NotYet,
}

impl<T: Translate> Pipeline<T> {
    /// Runs until the source ends.
    pub async fn run(mut self, mut events: mpsc::Receiver<SourceEvent>) {
        let mut inbox = Inbox::default();
        let mut listed = Listed::NotYet;
        while let Some(first) = events.recv().await {
            let (mut changes, mut looked) = (Vec::new(), None);
            let closes = Instant::now() + self.gather;
            let mut next = Some(first);
            while let Some(event) = next {
                match &event {
                    SourceEvent::Rescanned(number) => looked = Some(*number),
                    SourceEvent::InitDone => listed = Listed::Complete,
                    SourceEvent::Reported(fault) => {
                        tracing::warn!(%fault, code = %fault.code, "in the source")
                    }
                    _ => {}
                }
                changes.extend(inbox.take(event));
                if changes.len() >= MAX_BATCH {
                    break;
                }
                next = tokio::time::timeout_at(closes.into(), events.recv()).await.ok().flatten();
            }
            self.apply(changes, listed);
            if let Some(number) = looked {
                self.taken.reached(number);
            }
        }
    }

    /// Proxies are told nothing before the first listing is complete: half a mesh looks like deletions.
    fn apply(&mut self, changes: Vec<Change>, listed: Listed) {
        if !changes.is_empty() {
            self.note(&changes);
            let snapshot = self.translate.take(changes);
            self.note_waypoints(&snapshot);
            self.snapshots.send_if_modified(|held| {
                let changed = held.generation != snapshot.generation;
                *held = snapshot;
                changed
            });
        }
        if listed == Listed::Complete
            && let Some((listed, hold)) = self.listed.take()
        {
            // Nobody waiting means that we are stopping already.
            let _ = listed.send(hold);
        }
    }

    /// The accepted waypoints come out of the translation, and are known here before any proxy hears of them.
    fn note_waypoints(&self, snapshot: &Snapshot) {
        if self.snapshots.borrow().waypoints.ptr_eq(&snapshot.waypoints) {
            return;
        }
        let accounts = snapshot.waypoints.iter().map(|(gateway, own)| (own.account.clone(), gateway.clone()));
        let waypoints: Waypoints = accounts.collect();
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        if facts.waypoints != waypoints {
            facts.waypoints = waypoints;
            facts.changed.send_replace(());
        }
    }

    /// Identity first: a proxy may ask for a pod's certificate as soon as it hears of the pod.
    fn note(&self, changes: &[Change]) {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Applied(object) => match &**object {
                    Object::Pod(pod) => {
                        self.warn_of(pod);
                        facts.pods.insert(PodFact {
                            namespace: pod.meta.namespace.clone(),
                            name: pod.meta.name.clone(),
                            uid: pod.meta.uid.clone(),
                            service_account: pod.service_account().to_owned(),
                            node: pod.spec.node_name.clone(),
                            waypoint: self.shape.replica_of(pod).map(|gateway| gateway.name),
                            phase: if pod.is_terminal() { Phase::Terminal } else { Phase::Live },
                        });
                    }
                    Object::ServiceAccount(_) => {
                        let account = account_of(&object.reference());
                        match is_left_over(object) {
                            true => facts.made.insert(account),
                            false => facts.made.remove(&account),
                        };
                    }
                    Object::MeshConfig(mesh) => facts.trust_domain = mesh.spec.trust_domain.clone(),
                    _ => {}
                },
                Change::Deleted(object) if object.kind == Kind::Pod => {
                    facts.pods.remove(&object.namespace, &object.name);
                }
                Change::Deleted(object) if object.kind == Kind::ServiceAccount => {
                    facts.made.remove(&account_of(object));
                }
                Change::Deleted(_) | Change::Invalid(_) => {}
            }
        }
        facts.changed.send_replace(());
    }
}

impl<T> Pipeline<T> {
    /// Says why a pod that is labelled like a waypoint's replica is none.
    fn warn_of(&self, pod: &Pod) {
        if let Some(field) = self.shape.pretence(pod) {
            let ObjectMeta { namespace, name, .. } = &pod.meta;
            tracing::warn!(namespace, name, field, "labelled like a waypoint's pod, and is none");
        }
    }
}

fn account_of(object: &ObjectRef) -> Account {
    Account { namespace: object.namespace.clone(), name: object.name.clone() }
}

/// Whether the first listing is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    NotYet,
    Complete,
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use ambit_crds::directory::DirectorySource;
    use ambit_crds::source::{Source, Started};
    use ambit_process::readiness::Readiness;
    use ambit_process::spawn::spawn;

    use super::*;

    /// Counts batches and changes instead of translating.
    struct Counting(Arc<Mutex<Vec<usize>>>);

    impl Translate for Counting {
        fn take(&mut self, changes: Vec<Change>) -> Arc<Snapshot> {
            let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            batches.push(changes.len());
            Arc::new(Snapshot { generation: batches.len() as u64, ..Snapshot::default() })
        }
    }

    fn pod(name: &str, phase: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: u-{name}}}\nspec: \
             {{nodeName: n1, serviceAccountName: web}}\nstatus: {{phase: {phase}}}\n"
        )
    }

    #[tokio::test]
    async fn a_listing_is_one_batch_identity_comes_first_and_what_was_asked_for_is_taken() {
        let folder = std::env::temp_dir().join(format!("ambit-pipeline-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("in")).unwrap();
        let write = |text: String| {
            std::fs::write(folder.join("new"), text).unwrap();
            std::fs::rename(folder.join("new"), folder.join("in/pods.yaml")).unwrap();
        };
        write(format!("{}---\n{}", pod("a", "Running"), pod("b", "Running")));
        let source = DirectorySource { directories: vec![folder.join("in")], state: folder.join("state") };
        let Started { events, rescan, .. } = Box::new(source).start().unwrap();
        let (batches, facts, taken) = (Arc::default(), Arc::<RwLock<Facts>>::default(), Taken::default());
        let (snapshots, mut followed) = watch::channel(Arc::new(Snapshot::default()));
        let (listed, first) = oneshot::channel();
        let pipeline = Pipeline {
            translate: Counting(Arc::clone(&batches)),
            snapshots,
            facts: Arc::clone(&facts),
            taken: taken.clone(),
            shape: Shape::default(),
            gather: Duration::from_millis(1),
            listed: Some((listed, Readiness::new().hold("listing"))),
        };
        let task = spawn("pipeline", pipeline.run(events));
        drop(first.await.unwrap());
        followed.wait_for(|snapshot| snapshot.generation == 1).await.unwrap();
        let running = || facts.read().unwrap().pods.running("n1", "shop", "web");
        assert_eq!((batches.lock().unwrap().clone(), running()), (vec![2], 2));
        let mut told = facts.read().unwrap().changed.subscribe();
        write(pod("a", "Succeeded"));
        followed.wait_for(|snapshot| snapshot.generation >= 2).await.unwrap();
        told.changed().await.unwrap();
        assert_eq!(running(), 0, "one is gone and one has ended");
        let number = rescan.rescan();
        let settled = tokio::task::spawn_blocking(move || taken.wait(number, Duration::from_secs(30)));
        assert_eq!(settled.await.unwrap(), Settled::Yes);
        task.abort();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
