//! Sessions over a socket, with an agent played by the test.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use ambit_api::wire::zds::{
    AddWorkload, KeepWorkload, SnapshotSent, WorkloadInfo, workload_request::Payload,
};
use ambit_process::readiness::Readiness;
use ambit_transport::fdpass::Listener;

use super::*;
use crate::pods::tests::Bench;

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Place {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ambit-ztunnel-{}-{name}.sock", std::process::id())))
    }
}

/// The agent's end of one session.
struct Agent(Socket);

impl Agent {
    async fn accepts(listener: &Listener) -> Self {
        let agent = Self(listener.accept().await.unwrap());
        let mut packet = [0; PACKET];
        let (length, fd) = agent.0.recv(&mut packet).await.unwrap();
        let hello = ZdsHello::decode(&packet[..length]).unwrap();
        assert_eq!((hello.version, hello.ambit_version, fd.is_none()), (1, AMBIT_VERSION, true));
        agent
    }

    async fn says(&self, payload: Option<Payload>, fd: Option<&File>) {
        let message = WorkloadRequest { payload }.encode_to_vec();
        // An empty packet would be the end; a message without content has none.
        let message = if message.is_empty() { vec![0x7a, 0] } else { message };
        self.0.send(&message, fd.map(AsFd::as_fd)).await.unwrap();
    }

    /// The error of the next answer; `None` when the session has ended.
    async fn hears(&self) -> Option<String> {
        let mut packet = [0; PACKET];
        let (length, _) = self.0.recv(&mut packet).await.unwrap();
        let answer = WorkloadResponse::decode(&packet[..length]).unwrap();
        answer.payload.map(|workload_response::Payload::Ack(ack)| ack.error)
    }

    async fn is_agreed_with(&self, payload: Payload) {
        self.says(Some(payload), None).await;
        assert_eq!(self.hears().await, Some(String::new()));
    }
}

fn keep(uid: &str) -> Payload {
    Payload::Keep(KeepWorkload { uid: uid.to_owned() })
}

fn add(uid: &str) -> Payload {
    let workload_info = WorkloadInfo {
        name: uid.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "default".to_owned(),
    };
    Payload::Add(AddWorkload { uid: uid.to_owned(), workload_info: Some(workload_info) })
}

fn del(uid: &str, departure: zds::Departure) -> Payload {
    Payload::Del(DelWorkload { uid: uid.to_owned(), departure: departure.into() })
}

const END: Payload = Payload::SnapshotSent(SnapshotSent {});

/// Runs sessions against an agent's script until it ends.
async fn played(name: &str, bench: &Bench, script: impl AsyncFnOnce(Listener, &Readiness)) {
    let place = Place::new(name);
    let listener = Listener::bind(&place.0).unwrap();
    let readiness = Readiness::new();
    let (_trigger, drain) = ambit_process::drain::channel();
    tokio::select! {
        () = run(&place.0, &bench.pods, readiness.hold("pods"), drain) => panic!("it runs until the drain"),
        () = script(listener, &readiness) => {}
    }
}

#[tokio::test]
async fn the_list_keeps_what_it_names_and_drops_the_rest() {
    let bench = Bench::new("0s");
    let (_kept, mut dropped, mut gone) =
        (bench.serving("kept"), bench.serving("dropped"), bench.serving("gone"));
    played("list", &bench, async |listener, readiness| {
        let agent = Agent::accepts(&listener).await;
        agent.is_agreed_with(keep("kept")).await;
        agent.is_agreed_with(keep("gone")).await;
        assert!(!readiness.is_ready(), "the list is not complete");
        agent.is_agreed_with(END).await;
        assert!(readiness.is_ready());
        dropped.wait_for(|phase| *phase == crate::pods::Phase::Left).await.unwrap();
        agent.is_agreed_with(del("gone", zds::Departure::PodGone)).await;
        gone.wait_for(|phase| *phase == crate::pods::Phase::Gone).await.unwrap();
        agent.is_agreed_with(del("never-seen", zds::Departure::Unspecified)).await;
    })
    .await;
    assert_eq!(bench.served(), ["kept"]);
}

#[tokio::test]
async fn a_pod_that_cannot_be_served_is_answered_with_the_reason_and_the_session_goes_on() {
    let bench = Bench::new("600s");
    played("refused", &bench, async |listener, _| {
        let agent = Agent::accepts(&listener).await;
        let no_namespace = File::open("/dev/null").unwrap();
        agent.says(Some(add("p")), Some(&no_namespace)).await;
        let error = agent.hears().await.unwrap();
        assert!(error.contains("shop/p"), "{error}");
        agent.is_agreed_with(END).await;
    })
    .await;
}

#[tokio::test]
async fn a_broken_session_ends_is_begun_anew_and_costs_no_pod() {
    let bench = Bench::new("0s");
    let phase = bench.serving("p");
    let file = File::open("/dev/null").unwrap();
    played("broken", &bench, async |listener, _| {
        let without_info = Payload::Add(AddWorkload { uid: "x".to_owned(), workload_info: None });
        let wrong = [
            ("no content", None, None),
            ("a stray descriptor", Some(keep("p")), Some(&file)),
            ("no namespace", Some(add("x")), None),
            ("no info", Some(without_info), Some(&file)),
        ];
        for (name, payload, fd) in wrong {
            let agent = Agent::accepts(&listener).await;
            agent.says(payload, fd).await;
            assert!(agent.hears().await.is_some_and(|error| !error.is_empty()), "{name}");
            assert_eq!(agent.hears().await, None, "{name}: the session ends");
        }
        for late in [keep("p"), END] {
            let agent = Agent::accepts(&listener).await;
            agent.is_agreed_with(keep("p")).await;
            agent.is_agreed_with(END).await;
            agent.says(Some(late), None).await;
            assert!(agent.hears().await.is_some_and(|error| !error.is_empty()));
            assert_eq!(agent.hears().await, None);
        }
        let agent = Agent::accepts(&listener).await;
        agent.0.send(&[0xff; 3], None).await.unwrap();
        assert_eq!(agent.hears().await, None, "what cannot be read has no answer");
        Agent::accepts(&listener).await;
    })
    .await;
    assert_eq!((bench.served(), *phase.borrow()), (vec!["p".to_owned()], crate::pods::Phase::Serving));
}
