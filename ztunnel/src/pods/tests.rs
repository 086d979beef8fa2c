//! How pods come and go, without their listeners: those need a network namespace of their own.

use std::collections::BTreeMap;
use std::fs::File;

use ambit_discovery::credentials::Credentials;
use ambit_discovery::view::view;
use ambit_process::drain;
use ambit_process::metrics::Metrics;
use ambit_process::overload::{Asked, Overload};
use ambit_process::workers::Workers;
use ambit_transport::hbone;
use ambit_transport::hbone::pool::Directory;
use ambit_transport::trust::Accepted;

use super::*;
use crate::limit::{Handshakes, Limits};
use crate::report::Report;
use crate::settings::Settings;

/// A list of pods in a process that is told nothing; it ends with `trigger`.
pub(crate) struct Bench {
    pub(crate) pods: Pods,
    pub(crate) trigger: drain::Trigger,
}

impl Bench {
    pub(crate) fn new(linger: &str) -> Self {
        let environment = [("AMBIT_LEAVE_LINGER", linger), ("AMBIT_GONE_GRACE", "20ms")];
        let environment: BTreeMap<String, String> =
            environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&environment).unwrap();
        let (trigger, watch) = drain::channel();
        let workers = Workers::start(1, "test").unwrap();
        let mesh = Mesh {
            report: Report::new(&Metrics::new(), workers.len()),
            limits: Limits::new(0, 0, 1024),
            handshakes: Handshakes::new(8),
            hbone: hbone::Settings::default(),
            credentials: Credentials::new(Accepted::only(settings.control.trust_domain.clone())),
            settings,
            view: view().1,
            workers,
            directory: Directory::default(),
            drain: watch,
            open: Arc::default(),
            overload: Overload::new(Asked::Off).unwrap(),
            relief: watch::Sender::default(),
        };
        Self { pods: Pods::new(Arc::new(mesh)), trigger }
    }

    /// A pod as it stands once its listeners are open.
    pub(crate) fn serving(&self, uid: &str) -> watch::Receiver<Phase> {
        let Handed { uid, namespace, name, service_account, netns } = handed(uid);
        let local = LocalPod { namespace, name, service_account };
        let mesh = &self.pods.mesh;
        let identity = Identity::new(&mesh.settings.control.trust_domain, "shop", "default").unwrap();
        let (phase, followed) = watch::channel(Phase::Serving);
        let pod = Arc::new(Pod {
            uid: uid.clone(),
            local: mesh.view.watch(&local),
            credentials: mesh.credentials.watch(&identity),
            name: local,
            identity,
            netns: Netns::from_fd(netns).unwrap(),
            phase: followed.clone(),
            open: Arc::default(),
        });
        self.pods.lock().insert(uid, Entry { pod, phase, lingering: None });
        followed
    }

    pub(crate) fn served(&self) -> Vec<String> {
        let mut uids: Vec<_> = self.pods.list().iter().map(|pod| pod.uid.to_string()).collect();
        uids.sort();
        uids
    }
}

pub(crate) fn handed(uid: &str) -> Handed {
    Handed {
        uid: uid.into(),
        namespace: "shop".into(),
        name: uid.into(),
        service_account: "default".into(),
        netns: File::open("/proc/self/ns/net").unwrap().into(),
    }
}

async fn reaches(phase: &mut watch::Receiver<Phase>, last: Phase) {
    phase.wait_for(|phase| *phase == last).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_left_lingers_and_one_that_comes_back_stays() {
    let bench = Bench::new("20ms");
    let (mut leaves, stays) = (bench.serving("leaves"), bench.serving("stays"));
    for uid in ["leaves", "stays", "unknown"] {
        bench.pods.remove(uid, Departure::LeftMesh);
    }
    assert_eq!((*leaves.borrow(), bench.served().len()), (Phase::Serving, 2), "it lingers");
    bench.pods.add(handed("stays")).unwrap();
    reaches(&mut leaves, Phase::Left).await;
    assert_eq!((bench.served(), *stays.borrow()), (vec!["stays".to_owned()], Phase::Serving));
    // It left twice and came back in between: the first departure's timer is not the second's.
    bench.pods.remove("stays", Departure::LeftMesh);
    reaches(&mut stays.clone(), Phase::Left).await;
    assert!(bench.served().is_empty());
}

#[tokio::test]
async fn a_pod_that_is_gone_leaves_at_once_and_is_cut_after_its_grace() {
    let bench = Bench::new("600s");
    for departure in [Departure::PodGone, Departure::Unknown] {
        let mut phase = bench.serving("p");
        bench.pods.remove("p", departure);
        assert_eq!((*phase.borrow(), bench.served().len()), (Phase::Leaving, 0), "{departure:?}");
        reaches(&mut phase, Phase::Gone).await;
    }
}

#[tokio::test]
async fn what_the_complete_list_does_not_name_leaves() {
    let bench = Bench::new("20ms");
    let (_named, mut unnamed) = (bench.serving("named"), bench.serving("unnamed"));
    bench.pods.retain(&HashSet::from(["named".into(), "never-seen".into()]));
    reaches(&mut unnamed, Phase::Left).await;
    assert_eq!(bench.served(), ["named"]);
}

#[tokio::test]
async fn a_drain_with_nothing_open_ends_at_once_and_cuts_lingering_short() {
    let bench = Bench::new("600s");
    for uid in ["serving", "lingering", "gone"] {
        // Nobody keeps the phase: no connection is open.
        drop(bench.serving(uid));
    }
    bench.pods.remove("lingering", Departure::LeftMesh);
    bench.pods.remove("gone", Departure::PodGone);
    let Bench { pods, trigger } = bench;
    drop(pods);
    assert_eq!(trigger.drain(Duration::from_secs(600)).await, drain::Drained::Clean);
}

#[tokio::test]
async fn one_that_cannot_be_served_says_why_and_leaves_nothing_behind() {
    let bench = Bench::new("600s");
    let unusable = Handed { netns: File::open("/dev/null").unwrap().into(), ..handed("p") };
    let refused = bench.pods.add(unusable).unwrap_err().to_string();
    assert!(refused.contains("shop/p") && refused.contains("15001"), "{refused}");
    let unnamed = Handed { service_account: "".into(), ..handed("p") };
    assert!(matches!(bench.pods.add(unnamed), Err(Refused::Identity { .. })));
    assert!(bench.served().is_empty());
}
