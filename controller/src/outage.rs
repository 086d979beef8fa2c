//! Waypoints that lost all their replicas: after ten seconds that is noted on the Gateway, and traffic that needs no waypoint
//! goes direct (policy.md rule 12).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_process::spawn::spawn;
use tokio::task::JoinHandle;

use crate::objects::Key;
use crate::translate::DOWN;
use crate::write_back::{Annotation, Backlog};

/// How long a waypoint may be without a ready replica.
const PATIENCE: Duration = Duration::from_secs(10);

/// The waypoints that are waited for.
#[derive(Debug, Default)]
pub struct Outages {
    waiting: BTreeMap<Key, JoinHandle<()>>,
}

impl Outages {
    /// These, and no others, are without a replica now.
    pub fn follow(&mut self, absent: BTreeSet<Key>, backlog: &Backlog) {
        self.waiting.retain(|key, waiting| {
            let is_still = absent.contains(key);
            if !is_still {
                waiting.abort();
            }
            is_still
        });
        for key in absent {
            self.waiting
                .entry(key)
                .or_insert_with_key(|key| spawn("outage", note(key.clone(), backlog.clone())));
        }
    }
}

impl Drop for Outages {
    fn drop(&mut self) {
        self.waiting.values().for_each(JoinHandle::abort);
    }
}

async fn note(key: Key, backlog: Backlog) {
    tokio::time::sleep(PATIENCE).await;
    tracing::warn!(gateway = %key.name, namespace = %key.namespace, "no replica is ready for ten seconds");
    let object = ObjectRef::new(Kind::Gateway, &key.namespace, &key.name);
    backlog.annotate(vec![Annotation { object, key: DOWN, value: Some("true".to_owned()) }]);
}
