//! Ten seconds, by a paused clock.

use std::io;
use std::sync::Arc;

use ambit_crds::status::{Condition, StatusWriter};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;

/// Tells of events and annotations.
struct Writer(mpsc::UnboundedSender<String>);

impl StatusWriter for Writer {
    fn annotate(&self, object: &ObjectRef, key: &str, value: Option<&str>) -> io::Result<()> {
        self.0.send(format!("{object} {key}={value:?}")).map_err(io::Error::other)
    }

    fn event(&self, event: &Event) -> io::Result<()> {
        self.0.send(format!("{} {}", event.object, event.reason)).map_err(io::Error::other)
    }

    fn conditions(&self, _: &ObjectRef, _: &[Condition]) -> io::Result<()> {
        Ok(())
    }

    fn own(&self, _: &ObjectRef, _: Option<&Value>) -> io::Result<()> {
        Ok(())
    }
}

fn started() -> (Outages, Backlog, mpsc::UnboundedReceiver<String>) {
    let (sender, written) = mpsc::unbounded_channel();
    let backlog = Backlog::default();
    spawn("status", backlog.clone().run(Arc::new(Writer(sender))));
    (Outages::default(), backlog, written)
}

fn absent(names: &[&str]) -> BTreeSet<Key> {
    names.iter().map(|name| Key::new("shop", name)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_for_ten_seconds_is_withdrawn() {
    let (mut outages, backlog, mut written) = started();
    let begun = Instant::now();
    outages.follow(absent(&["waypoint"]), &backlog);
    assert_eq!(written.recv().await.as_deref(), Some("Gateway shop/waypoint WaypointLost"));
    // Another batch of changes in between begins nothing anew.
    tokio::time::advance(Duration::from_secs(9)).await;
    outages.follow(absent(&["waypoint"]), &backlog);
    let mut told = [written.recv().await, written.recv().await].map(Option::unwrap);
    told.sort();
    assert_eq!(
        told,
        [
            "Gateway shop/waypoint WaypointWithdrawn",
            "Gateway shop/waypoint ambit.mesh/waypoint-down=Some(\"true\")"
        ]
    );
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(outages.metrics.withdrawn.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_in_time_is_not_and_waits_anew_the_next_time() {
    let (mut outages, backlog, mut written) = started();
    outages.follow(absent(&["waypoint"]), &backlog);
    assert_eq!(written.recv().await.as_deref(), Some("Gateway shop/waypoint WaypointLost"));
    tokio::time::advance(Duration::from_secs(9)).await;
    outages.follow(absent(&[]), &backlog);
    tokio::time::advance(Duration::from_secs(9)).await;
    let lost_again = Instant::now();
    outages.follow(absent(&["waypoint"]), &backlog);
    assert_eq!(written.recv().await.as_deref(), Some("Gateway shop/waypoint WaypointLost"));
    assert!(written.recv().await.is_some());
    assert_eq!(lost_again.elapsed().as_secs(), 10, "the first loss does not count");
}

#[test]
fn a_return_is_told_by_what_is_noted() {
    let note = |key, value: Option<&str>| Annotation {
        object: gateway(&Key::new("shop", "waypoint")),
        key,
        value: value.map(str::to_owned),
    };
    let reasons =
        |notes: &[Annotation]| returned(notes).into_iter().map(|one| one.reason).collect::<Vec<_>>();
    assert_eq!(reasons(&[note(PROGRAMMED, Some("true"))]), ["WaypointReady"]);
    assert_eq!(reasons(&[note(DOWN, None)]), ["WaypointReady"]);
    assert_eq!(reasons(&[note(DOWN, Some("true"))]), Vec::<String>::new());
}

#[test]
fn every_state_is_counted_even_if_nothing_is_in_it() {
    let metrics = Metrics::new();
    let outages = Outages::register(&metrics);
    outages.count(Census { ready: 2, withdrawn: 1, ..Census::default() });
    let text = metrics.encode();
    for line in ["ambit_waypoints{state=\"ready\"} 2", "{state=\"withdrawn\"} 1", "{state=\"absent\"} 0"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
