//! Waypoints that lost all their replicas: after ten seconds that is noted on the Gateway, and traffic that needs no waypoint
//! goes direct (policy.md rule 12). Events and metrics tell of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Event, EventSeverity};
use ambit_process::metrics::Metrics;
use ambit_process::spawn::spawn;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinHandle;

use crate::objects::Key;
use crate::translate::{Census, DOWN, PROGRAMMED};
use crate::write_back::{Annotation, Backlog};

/// How long a waypoint may be without a ready replica.
const PATIENCE: Duration = Duration::from_secs(10);

/// The waypoints that are waited for.
#[derive(Debug, Default)]
pub struct Outages {
    waiting: BTreeMap<Key, JoinHandle<()>>,
    metrics: Counts,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    waypoints: Family<StateLabels, Gauge>,
    withdrawn: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl Outages {
    /// Registers the metrics.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.with(|registry| {
            let help = "Gateways that ask to be waypoints, by how they are";
            registry.register("ambit_waypoints", help, own.metrics.waypoints.clone());
            let help = "Waypoints that traffic no longer goes to because they have been without a replica for too long";
            registry.register("ambit_waypoints_withdrawn", help, own.metrics.withdrawn.clone());
        });
        own
    }

    /// How waypoints are now.
    pub fn count(&self, census: Census) {
        let Census { ready, starting, absent, withdrawn, refused } = census;
        let all = [
            ("ready", ready),
            ("starting", starting),
            ("absent", absent),
            ("withdrawn", withdrawn),
            ("refused", refused),
        ];
        for (state, count) in all {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.waypoints.get_or_create(&StateLabels { state }).set(count);
        }
    }

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
            self.waiting.entry(key).or_insert_with_key(|key| {
                let message = "no replica is ready; unless one is within ten seconds, traffic that needs no waypoint goes direct";
                backlog.report(vec![event(key, "WaypointLost", message, EventSeverity::Warning)]);
                spawn("outage", note(key.clone(), backlog.clone(), self.metrics.withdrawn.clone()))
            });
        }
    }
}

impl Drop for Outages {
    fn drop(&mut self) {
        self.waiting.values().for_each(JoinHandle::abort);
    }
}

/// What is to be told of waypoints that are (again) ready, by what is noted on them.
pub fn returned(notes: &[Annotation]) -> Vec<Event> {
    let each = notes.iter().filter_map(|note| {
        let message = match (note.key, &note.value) {
            (PROGRAMMED, Some(_)) => "a replica is ready: traffic goes to it from now on",
            (DOWN, None) => "a replica is ready again: traffic goes to it again",
            _ => return None,
        };
        let key = Key::new(&note.object.namespace, &note.object.name);
        Some(event(&key, "WaypointReady", message, EventSeverity::Normal))
    });
    each.collect()
}

async fn note(key: Key, backlog: Backlog, withdrawn: Counter) {
    tokio::time::sleep(PATIENCE).await;
    tracing::warn!(gateway = %key.name, namespace = %key.namespace, "no replica is ready for ten seconds");
    withdrawn.inc();
    let message = "no replica has been ready for ten seconds: traffic that needs no waypoint goes direct, and what needs one is refused";
    backlog.report(vec![event(&key, "WaypointWithdrawn", message, EventSeverity::Warning)]);
    backlog.annotate(vec![Annotation { object: gateway(&key), key: DOWN, value: Some("true".to_owned()) }]);
}

fn event(key: &Key, reason: &str, message: &str, severity: EventSeverity) -> Event {
    Event { object: gateway(key), reason: reason.to_owned(), message: message.to_owned(), severity }
}

fn gateway(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::Gateway, &key.namespace, &key.name)
}

#[cfg(test)]
mod tests;
