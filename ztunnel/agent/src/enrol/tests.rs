//! The planner as a table of events and what they change.

use ambit_crds::enrolment::DATAPLANE_MODE;
use ambit_crds::pod::PodSpec;

use super::*;

const MODE: &str = DATAPLANE_MODE;

fn namespace(mode: &str) -> SourceEvent {
    let mut namespace = Namespace::default();
    namespace.meta.name = "shop".to_owned();
    namespace.meta.labels.insert(MODE.to_owned(), mode.to_owned());
    SourceEvent::Applied(Arc::new(Object::Namespace(namespace)))
}

fn pod(uid: &str, edit: impl FnOnce(&mut Pod)) -> SourceEvent {
    let spec = PodSpec { node_name: "n1".to_owned(), ..PodSpec::default() };
    let mut pod = Pod { spec, ..Pod::default() };
    pod.meta.name = "web".to_owned();
    pod.meta.namespace = "shop".to_owned();
    pod.meta.uid = uid.to_owned();
    pod.status.pod_ip = "10.0.0.9".to_owned();
    edit(&mut pod);
    SourceEvent::Applied(Arc::new(Object::Pod(Box::new(pod))))
}

fn gone() -> SourceEvent {
    SourceEvent::Deleted(ObjectRef::new(Kind::Pod, "shop", "web"))
}

fn listed(events: impl IntoIterator<Item = SourceEvent>) -> (Planner, String) {
    let mut planner = Planner::new("n1");
    assert!(said(&planner.take(&SourceEvent::Init)).is_empty());
    for event in events {
        assert_eq!(said(&planner.take(&event)), "", "nothing is decided during the listing");
    }
    let changes = said(&planner.take(&SourceEvent::InitDone));
    (planner, changes)
}

fn said(changes: &[Change]) -> String {
    let wanted = |wanted: &Wanted| match wanted {
        Wanted::In(membership) => format!("In({:?})", membership.inbound),
        other => format!("{other:?}"),
    };
    let line = |change: &Change| format!("{} {}", change.pod.uid, wanted(&change.wanted));
    changes.iter().map(line).collect::<Vec<_>>().join(", ")
}

#[test]
fn labels_act_live() {
    let (mut planner, first) = listed([pod("a", |_| {})]);
    assert_eq!(first, "a Out", "its namespace is not known");
    let optout = |pod: &mut Pod| drop(pod.meta.labels.insert(MODE.to_owned(), "none".to_owned()));
    let bypass =
        |pod: &mut Pod| drop(pod.meta.annotations.insert(BYPASS_INBOUND.to_owned(), "true".to_owned()));
    let steps = [
        (namespace("ambient"), "a In(On)"),
        (namespace("ambient"), ""),
        (pod("a", bypass), "a In(Bypassed)"),
        (pod("a", optout), "a Out"),
        (pod("a", |_| {}), "a In(On)"),
        (namespace("none"), "a Out"),
        (gone(), "a Gone"),
        (gone(), ""),
    ];
    for (step, (event, expected)) in steps.into_iter().enumerate() {
        assert_eq!(said(&planner.take(&event)), expected, "step {step}");
    }
}

#[test]
fn a_successor_of_the_same_name_is_another_pod() {
    let (mut planner, first) = listed([namespace("ambient"), pod("a", |_| {})]);
    assert_eq!(first, "a In(On)");
    assert_eq!(said(&planner.take(&pod("b", |_| {}))), "a Gone, b In(On)");
    assert_eq!(said(&planner.take(&gone())), "b Gone");
}

#[test]
fn a_pod_that_ended_is_gone_once() {
    let (mut planner, _) = listed([namespace("ambient"), pod("a", |_| {})]);
    let ended = || pod("a", |pod| pod.status.phase = ambit_crds::pod::Phase::Succeeded);
    assert_eq!(said(&planner.take(&ended())), "a Gone");
    assert_eq!(said(&planner.take(&gone())), "");
}

#[test]
fn other_pods_are_not_ours() {
    let elsewhere = pod("a", |pod| pod.spec.node_name = "n2".to_owned());
    let host = pod("a", |pod| pod.spec.host_network = true);
    for event in [elsewhere, host] {
        let (_, first) = listed([namespace("ambient"), event]);
        assert_eq!(first, "");
    }
}

#[test]
fn a_listing_forgets_what_it_does_not_name() {
    let (mut planner, _) = listed([namespace("ambient"), pod("a", |_| {})]);
    planner.take(&SourceEvent::Init);
    planner.take(&namespace("ambient"));
    assert_eq!(said(&planner.take(&SourceEvent::InitDone)), "a Gone");
}

#[test]
fn the_annotation_is_believed_in_the_first_listing_only() {
    let enabled =
        |pod: &mut Pod| drop(pod.meta.annotations.insert(REDIRECTION.to_owned(), "enabled".to_owned()));
    let mut planner = Planner::new("n1");
    planner.take(&SourceEvent::Init);
    planner.take(&namespace("ambient"));
    planner.take(&pod("a", enabled));
    assert!(planner.take(&SourceEvent::InitDone)[0].pod.was_enrolled);
    assert!(!planner.take(&pod("b", enabled))[1].pod.was_enrolled);
}

#[test]
fn a_pod_without_an_address_is_expected_and_its_address_is_news() {
    let (mut planner, first) = listed([namespace("ambient"), pod("a", |pod| pod.status.pod_ip.clear())]);
    assert_eq!(first, "a In(On)");
    let changes = planner.take(&pod("a", |_| {}));
    let [Change { wanted: Wanted::In(membership), .. }] = &*changes else { panic!("{changes:?}") };
    assert_eq!(membership.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
}

#[test]
fn who_asks_about_a_pod_is_told_how_it_stands() {
    let object = ObjectRef::new(Kind::Pod, "shop", "web");
    let uid = |text: &str| PodUid(text.into());
    let by = |planner: &Planner, asked: &str| planner.known(&object, Some(&uid(asked)));
    let (mut planner, _) = listed([namespace("ambient"), pod("a", |_| {})]);
    assert_eq!(by(&planner, "a"), Known::Lives(uid("a")));
    assert_eq!(planner.known(&object, None), Known::Lives(uid("a")), "the runtime did not say the UID");
    assert_eq!(by(&planner, "b"), Known::NotYet, "a successor of the same name");
    planner.take(&pod("b", |pod| pod.spec.host_network = true));
    assert_eq!(by(&planner, "b"), Known::Outside);
    planner.take(&pod("c", |pod| {
        pod.meta.annotations.insert("kubernetes.io/config.mirror".to_owned(), "5cd0".to_owned());
    }));
    assert_eq!(by(&planner, "5cd0"), Known::Outside, "its copy has another UID");
    planner.take(&namespace("none"));
    planner.take(&pod("d", |_| {}));
    assert_eq!(by(&planner, "d"), Known::Outside);
    planner.take(&gone());
    assert_eq!(by(&planner, "d"), Known::NotYet);
    let mut listing = Planner::new("n1");
    listing.take(&SourceEvent::Init);
    listing.take(&pod("a", |_| {}));
    assert_eq!(by(&listing, "a"), Known::NotYet, "its namespace may come later in the listing");
}
