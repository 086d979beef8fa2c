//! The protocol as tables: what is sent in which order, and what ends a connection.

use std::path::Path;

use ambit_api::wire::zds::Ack;

use super::*;
use crate::handover::Network;

fn pod(uid: &str) -> Arc<Workload> {
    let network = Some(Network::open(Path::new("/proc/self/ns/net")).unwrap());
    Arc::new(Workload { network, ..bare(uid) })
}

fn bare(uid: &str) -> Workload {
    Workload {
        uid: PodUid(uid.into()),
        name: "web".to_owned(),
        namespace: "shop".to_owned(),
        service_account: "default".to_owned(),
        network: None,
    }
}

fn hello(ambit_version: u32) -> Vec<u8> {
    ZdsHello { version: 1, ambit_version }.encode_to_vec()
}

fn ack(error: &str) -> Vec<u8> {
    let ack = Ack { error: error.to_owned() };
    WorkloadResponse { payload: Some(workload_response::Payload::Ack(ack)) }.encode_to_vec()
}

fn no_pods() -> impl Iterator<Item = &'static Arc<Workload>> {
    [].into_iter()
}

fn said(effects: &[Effect]) -> String {
    let name = |command: &Command| match command {
        Command::Add(workload) => format!("add {}", workload.uid),
        Command::Keep(uid) => format!("keep {uid}"),
        Command::SnapshotSent => "snapshot".to_owned(),
        Command::Del(uid, departure) => format!("del {uid} {departure:?}"),
    };
    let line = |effect: &Effect| match effect {
        Effect::Send(command, _) => format!("send {}", name(command)),
        Effect::Answered(command, Ok(())) => format!("ok {}", name(command)),
        Effect::Answered(command, Err(error)) => format!("no {}: {error}", name(command)),
        Effect::Close(broken) => format!("close: {broken}"),
    };
    effects.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn live() -> Session {
    let mut session = Session::default();
    session.received(&hello(1), no_pods());
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok snapshot");
    session
}

#[test]
fn the_whole_list_then_the_end_of_it_one_answer_each() {
    let pods = [pod("a"), Arc::new(bare("b"))];
    let mut session = Session::default();
    assert_eq!(said(&session.received(&hello(0), pods.iter())), "send add a");
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok add a, send keep b");
    assert_eq!(said(&session.received(&ack("busy"), no_pods())), "no keep b: busy, send snapshot");
    assert_eq!(said(&session.add(&pod("c"))), "", "nothing before the answer");
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok snapshot, send add c");
}

#[test]
fn a_pod_that_changes_during_the_list_stays_before_its_end() {
    let pods = [pod("a"), pod("b")];
    let mut session = Session::default();
    session.received(&hello(0), pods.iter());
    session.add(&pods[1]);
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok add a, send add b");
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok add b, send snapshot");
    assert_eq!(said(&session.add(&Arc::new(bare("late")))), "");
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok snapshot", "no keep after the end");
}

#[test]
fn only_the_last_word_about_a_pod_is_sent() {
    let mut session = live();
    assert_eq!(said(&session.add(&pod("a"))), "send add a");
    session.add(&pod("b"));
    session.del(&PodUid("b".into()), Departure::LeftMesh);
    assert!(session.is_withdrawing(&PodUid("b".into())));
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok add a, send del b LeftMesh");
    session.add(&pod("b"));
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok del b LeftMesh, send add b");
    assert!(!session.is_withdrawing(&PodUid("b".into())));
}

#[test]
fn an_older_ztunnel_hears_of_departures_only() {
    let mut session = live();
    session.add(&pod("a"));
    session.add(&pod("b"));
    session.del(&PodUid("c".into()), Departure::Gone);
    session.supersede();
    assert_eq!(said(&session.received(&ack(""), no_pods())), "ok add a, send del c Gone");
}

#[test]
fn what_ends_a_connection() {
    let version = ZdsHello { version: 0, ambit_version: 0 }.encode_to_vec();
    let table: [(&str, Vec<Effect>, &str); 7] = [
        ("version", Session::default().received(&version, no_pods()), "close: the ztunnel speaks version 0"),
        ("garbage hello", Session::default().received(&[0xff], no_pods()), "close: unreadable message"),
        ("garbage answer", live().received(&[0xff], no_pods()), "close: unreadable message"),
        ("unasked", live().received(&ack(""), no_pods()), "close: an answer to nothing"),
        ("empty", live().received(&[], no_pods()), "close: an empty answer"),
        ("late", live().expired(), "close: no answer in time"),
        ("descriptor", live().descriptor(), "close: a descriptor where none belongs"),
    ];
    for (name, effects, expected) in table {
        assert!(said(&effects).starts_with(expected), "{name}: {}", said(&effects));
    }
    let mut session = live();
    session.add(&pod("a"));
    session.expired();
    assert_eq!(said(&session.received(&ack(""), no_pods())), "", "a late answer counts for nothing");
    assert_eq!(said(&session.add(&pod("b"))), "");
}

#[test]
fn departures_are_told_only_to_those_who_know_them() {
    let table = [
        (0, Departure::LeftMesh, zds::Departure::Unspecified),
        (1, Departure::LeftMesh, zds::Departure::LeftMesh),
        (1, Departure::Gone, zds::Departure::PodGone),
        (9, Departure::Gone, zds::Departure::PodGone),
    ];
    for (version, departure, expected) in table {
        let message = Command::Del(PodUid("a".into()), departure).encode(version);
        let request = WorkloadRequest::decode(message.as_slice()).unwrap();
        let Some(workload_request::Payload::Del(del)) = request.payload else { panic!("not a del") };
        assert_eq!(del.departure, i32::from(expected), "{version} {departure:?}");
    }
}

#[test]
fn a_message_that_is_too_long_rejects_its_pod_only() {
    let long = Workload { name: "x".repeat(MESSAGE_LIMIT), network: pod("a").network.clone(), ..bare("a") };
    let mut session = live();
    assert!(said(&session.add(&Arc::new(long))).starts_with("no add a: its message of"));
    assert_eq!(said(&session.add(&pod("b"))), "send add b");
}
