//! Lives on a node whose tools do not work: what must hold all the same.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::status::{Event, StatusWriter};
use ambit_process::metrics::Metrics;
use ambit_process::readiness::Readiness;
use ambit_process::spawn::spawn;
use ambit_transport::fdpass::Socket;
use prost::Message;

use super::node::Tools;
use super::*;
use crate::handover::PodUid;
use crate::handover::server::prepare;
use crate::metrics::AgentMetrics;
use crate::networks::Networks;
use crate::probes::Probes;
use crate::redirect::apply::Redirector;
use crate::redirect::rules::{InboundCapture, ProbePorts};

/// Remembers what was written.
#[derive(Default)]
struct Writer(Mutex<Vec<String>>);

impl StatusWriter for Writer {
    fn annotate(&self, _: &ObjectRef, _: &str, value: Option<&str>) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("annotation {}", value.unwrap_or("removed")));
        Ok(())
    }

    fn event(&self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("event {}", event.reason));
        Ok(())
    }

    fn conditions(&self, _: &ObjectRef, _: &[ambit_crds::status::Condition]) -> io::Result<()> {
        Ok(())
    }

    fn own(&self, _: &ObjectRef, _: Option<&serde_json::Value>) -> io::Result<()> {
        Ok(())
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where the pod's network is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounted {
    Yes,
    No,
}

/// A node whose tools are nowhere.
fn node(folder: &Folder, writer: Arc<Writer>) -> Arc<Node> {
    let nowhere = Path::new("/nonexistent");
    let redirector =
        Redirector { nft: nowhere.join("nft"), ip: nowhere.join("ip"), within: Duration::from_secs(5) };
    let tools = Tools { redirector, networks: Networks::Mounted(folder.0.clone()), probes: Probes::None };
    Arc::new(Node::new(tools, Duration::from_secs(600), AgentMetrics::new(&Metrics::new()), writer))
}

/// The first look at one pod whose rules can be neither read nor written: what was written back, and the list that a
/// ztunnel which connects then is told.
async fn first_look(name: &str, was_enrolled: bool, mounted: Mounted) -> (Vec<String>, Vec<String>) {
    let folder = Folder(std::env::temp_dir().join(format!("ambit-life-{name}-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    if mounted == Mounted::Yes {
        std::os::unix::fs::symlink("/proc/self/ns/net", folder.0.join("uid-1")).unwrap();
    }
    let writer = Arc::new(Writer::default());
    let node = node(&folder, writer.clone());
    let pod = Identity {
        uid: PodUid("uid-1".into()),
        object: ObjectRef::new(Kind::Pod, "shop", "web"),
        service_account: "default".to_owned(),
        was_enrolled,
    };
    let (handover, mut prepared) = prepare();
    let membership = Membership {
        inbound: InboundCapture::On,
        probes: ProbePorts::default(),
        addresses: vec!["10.0.0.9".parse().unwrap()],
    };
    let (_wanted, follow) = watch::channel(Wanted::In(membership));
    let (_given, given) = watch::channel(Given::Unsaid);
    let orders = Orders { wanted: follow, given, progress: watch::Sender::default() };
    let (looks, (looked, done)) = (Readiness::new(), tokio::sync::oneshot::channel::<()>());
    let first = looks.hold("first look");
    let life = spawn("life", live(pod, orders, node, handover.clone(), first));
    let watched = async move {
        while !looks.is_ready() {
            tokio::task::yield_now().await;
        }
        drop(looked);
    };
    spawn("watched", watched);
    prepared
        .collect(async {
            let _ = done.await;
        })
        .await;
    let socket = folder.0.join("zds.sock");
    spawn("server", prepared.listen(&socket).unwrap().run());
    let list = list(&Socket::connect(&socket).unwrap()).await;
    life.abort();
    let mut written = writer.0.lock().unwrap().clone();
    // What goes wrong next is another trouble with an event of its own.
    written.dedup();
    (written, list)
}

/// The list, by a ztunnel that agrees to all.
async fn list(ztunnel: &Socket) -> Vec<String> {
    use ambit_api::wire::zds::{
        Ack, WorkloadRequest, WorkloadResponse, ZdsHello, workload_request::Payload, workload_response,
    };
    let hello = ZdsHello { version: 1, ambit_version: 1 };
    ztunnel.send(&hello.encode_to_vec(), None).await.unwrap();
    let agreed = workload_response::Payload::Ack(Ack { error: String::new() });
    let agreed = WorkloadResponse { payload: Some(agreed) }.encode_to_vec();
    let mut list = Vec::new();
    loop {
        let mut packet = [0; 1024];
        let (length, _) = ztunnel.recv(&mut packet).await.unwrap();
        match WorkloadRequest::decode(&packet[..length]).unwrap().payload {
            Some(Payload::Add(add)) => list.push(format!("add {}", add.uid)),
            Some(Payload::Keep(keep)) => list.push(format!("keep {}", keep.uid)),
            _ => return list,
        }
        ztunnel.send(&agreed, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_that_was_enrolled_stays_published_and_on_the_list_whatever_fails() {
    let (written, list) = first_look("enrolled", true, Mounted::Yes).await;
    assert_eq!((written, list), (vec!["event RulesFailed".to_owned()], vec!["add uid-1".to_owned()]));
    let (written, list) = first_look("unmounted", true, Mounted::No).await;
    assert_eq!((written, list), (vec!["event NetworkMissing".to_owned()], vec!["keep uid-1".to_owned()]));
}

#[tokio::test]
async fn a_new_pod_that_cannot_be_redirected_is_pending_and_not_offered() {
    let (written, list) = first_look("new", false, Mounted::Yes).await;
    assert_eq!(written, ["event RulesFailed", "annotation pending"]);
    assert!(list.is_empty(), "{list:?}");
}

#[tokio::test]
async fn a_pod_that_is_expected_takes_the_network_it_is_handed_and_gives_it_up_again() {
    let folder = Folder(std::env::temp_dir().join(format!("ambit-life-handed-{}", std::process::id())));
    let pod = Identity {
        uid: PodUid("uid-1".into()),
        object: ObjectRef::new(Kind::Pod, "shop", "web"),
        service_account: "default".to_owned(),
        was_enrolled: false,
    };
    let expected =
        Membership { inbound: InboundCapture::On, probes: ProbePorts::default(), addresses: Vec::new() };
    let (_wanted, wanted) = watch::channel(Wanted::In(expected));
    let (give, given) = watch::channel(Given::Unsaid);
    let progress = watch::Sender::default();
    let mut follow = progress.subscribe();
    let (handover, _prepared) = prepare();
    let looks = Readiness::new();
    let first = looks.hold("first look");
    let node = node(&folder, Arc::default());
    let life = spawn("life", live(pod, Orders { wanted, given, progress }, node, handover, first));
    // It waits by then, without complaint.
    while !looks.is_ready() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*follow.borrow_and_update(), Progress::Begun);
    let network = Network::open(Path::new("/proc/self/ns/net")).unwrap();
    let id = network.netns().id();
    give.send_replace(Given::Handed(Handed { network, addresses: Vec::new() }));
    let within = Duration::from_secs(10);
    let looked_into = follow.wait_for(|progress| matches!(progress, Progress::Waiting(_)));
    let reason = tokio::time::timeout(within, looked_into).await.unwrap().unwrap().to_string();
    assert!(reason.contains("/nonexistent/nft"), "{reason}");
    give.send_replace(Given::Parted(id));
    let parted = follow.wait_for(|progress| *progress == Progress::Parted(id));
    tokio::time::timeout(within, parted).await.unwrap().unwrap();
    life.abort();
}
