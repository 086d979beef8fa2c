//! Whole conversations over a socket, with ztunnels played by the test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ambit_api::wire::zds::{
    Ack, WorkloadRequest, WorkloadResponse, ZdsHello, workload_request::Payload, workload_response,
};
use prost::Message;

use super::*;
use crate::handover::{Departure, Network};

/// A folder of one test's own.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ambit-zds-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("zds.sock")
    }
}

struct Ztunnel(Socket);

impl Ztunnel {
    fn connect(folder: &Folder) -> Self {
        Self(Socket::connect(&folder.socket()).unwrap())
    }

    async fn greeted(folder: &Folder) -> Self {
        let ztunnel = Self::connect(folder);
        ztunnel.say(&ZdsHello { version: 1, ambit_version: 1 }).await;
        ztunnel
    }

    async fn say(&self, message: &impl Message) {
        self.0.send(&message.encode_to_vec(), None).await.unwrap();
    }

    /// The next message in words; "end" when the agent closed.
    async fn hears(&self) -> String {
        let mut buffer = [0; MESSAGE_LIMIT];
        let (length, fd) = match self.0.recv(&mut buffer).await {
            Ok((0, _)) | Err(_) => return "end".to_owned(),
            Ok(received) => received,
        };
        let request = WorkloadRequest::decode(&buffer[..length]).unwrap();
        match request.payload.unwrap() {
            Payload::Add(add) if fd.is_some() => format!("add {}", add.uid),
            Payload::Add(add) => format!("add {} without descriptor", add.uid),
            Payload::Keep(keep) => format!("keep {}", keep.uid),
            Payload::Del(del) => format!("del {}", del.uid),
            Payload::SnapshotSent(_) => "snapshot".to_owned(),
        }
    }

    async fn answers(&self, error: &str) {
        let ack = workload_response::Payload::Ack(Ack { error: error.to_owned() });
        self.say(&WorkloadResponse { payload: Some(ack) }).await;
    }

    /// Hears these in turn and agrees to each.
    async fn agrees_to(&self, messages: &[&str]) {
        for message in messages {
            assert_eq!(self.hears().await, *message);
            self.answers("").await;
        }
    }
}

fn workload(uid: &str) -> Workload {
    Workload {
        uid: PodUid(uid.into()),
        name: uid.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "default".to_owned(),
        network: Some(Network::open(Path::new("/proc/self/ns/net")).unwrap()),
    }
}

/// A running server and what pods' lives hold of it.
fn serve(folder: &Folder) -> Handover {
    let (handover, prepared) = prepare();
    spawn("server", prepared.listen(&folder.socket()).unwrap().run());
    handover
}

async fn until(follow: &mut watch::Receiver<Standing>, standing: Standing) {
    follow.wait_for(|now| *now == standing).await.unwrap();
}

#[tokio::test]
async fn what_was_collected_is_the_first_list() {
    let folder = Folder::new();
    let (handover, mut prepared) = prepare();
    let orders = async {
        for uid in ["a", "b"] {
            handover.offer(workload(uid)).await.unwrap();
        }
        handover.withdraw(&PodUid("a".into()), Departure::Gone).await.unwrap();
    };
    prepared.collect(orders).await;
    assert!(!folder.socket().exists(), "nobody can connect before the list is complete");
    spawn("server", prepared.listen(&folder.socket()).unwrap().run());
    Ztunnel::greeted(&folder).await.agrees_to(&["add b", "snapshot"]).await;
    drop(handover);
}

#[tokio::test]
async fn a_pod_follows_how_it_stands() {
    let folder = Folder::new();
    let handover = serve(&folder);
    let mut a = handover.offer(workload("a")).await.unwrap();
    assert_eq!(*a.borrow(), Standing::Waiting);
    let ztunnel = Ztunnel::greeted(&folder).await;
    assert_eq!(ztunnel.hears().await, "add a");
    ztunnel.answers("port 15008 is taken").await;
    ztunnel.agrees_to(&["snapshot"]).await;
    until(&mut a, Standing::Refused("port 15008 is taken".to_owned())).await;
    ztunnel.agrees_to(&["add a"]).await;
    until(&mut a, Standing::Accepted).await;
    // Offered again unchanged, there is nothing to say: the next message is another pod's.
    handover.offer(workload("a")).await.unwrap();
    let mut b = handover.offer(workload("b")).await.unwrap();
    ztunnel.agrees_to(&["add b"]).await;
    until(&mut b, Standing::Accepted).await;
}

#[tokio::test]
async fn an_answer_about_a_network_that_was_left_says_nothing_about_the_new_one() {
    let folder = Folder::new();
    let handover = serve(&folder);
    let ztunnel = Ztunnel::greeted(&folder).await;
    ztunnel.agrees_to(&["snapshot"]).await;
    let mut a = handover.offer(workload("a")).await.unwrap();
    ztunnel.agrees_to(&["add a"]).await;
    until(&mut a, Standing::Accepted).await;
    // Made anew twice: any file serves as another network.
    for name in ["second", "third"] {
        let path = folder.0.join(name);
        std::fs::write(&path, "").unwrap();
        let network = Some(Network::open(&path).unwrap());
        handover.offer(Workload { network, ..workload("a") }).await.unwrap();
        assert_eq!(*a.borrow(), Standing::Waiting, "{name}");
    }
    assert_eq!(ztunnel.hears().await, "add a");
    ztunnel.answers("").await;
    assert_eq!(ztunnel.hears().await, "add a");
    assert_eq!(*a.borrow(), Standing::Waiting, "that was about the second");
    ztunnel.answers("").await;
    until(&mut a, Standing::Accepted).await;
}

#[tokio::test]
async fn pods_go_to_the_newest_and_departures_to_all() {
    let folder = Folder::new();
    let handover = serve(&folder);
    handover.offer(workload("a")).await.unwrap();
    let old = Ztunnel::greeted(&folder).await;
    old.agrees_to(&["add a", "snapshot"]).await;
    let new = Ztunnel::greeted(&folder).await;
    new.agrees_to(&["add a", "snapshot"]).await;
    let mut b = handover.offer(workload("b")).await.unwrap();
    new.agrees_to(&["add b"]).await;
    until(&mut b, Standing::Accepted).await;
    let uid = PodUid("a".into());
    let both = async {
        tokio::join!(old.agrees_to(&["del a"]), new.agrees_to(&["del a"]));
    };
    let (gone, ()) = tokio::join!(handover.withdraw(&uid, Departure::LeftMesh), both);
    gone.unwrap();
    // The heir of a ztunnel that went is told of everything, since it may have missed some.
    drop(new);
    old.agrees_to(&["add b"]).await;
}

/// Takes the deadline's five seconds, once for both.
#[tokio::test]
async fn who_does_not_answer_is_dropped_and_holds_nobody_up() {
    let folder = Folder::new();
    let handover = serve(&folder);
    let mute = Ztunnel::connect(&folder);
    let slow = Ztunnel::greeted(&folder).await;
    slow.agrees_to(&["snapshot"]).await;
    handover.offer(workload("a")).await.unwrap();
    assert_eq!(slow.hears().await, "add a");
    let uid = PodUid("a".into());
    let (gone, slow, mute) =
        tokio::join!(handover.withdraw(&uid, Departure::Gone), slow.hears(), mute.hears());
    gone.unwrap();
    assert_eq!((slow.as_str(), mute.as_str()), ("end", "end"), "no answer to add, and no hello");
}

#[tokio::test]
async fn one_that_breaks_the_protocol_is_dropped_and_the_pods_stay() {
    let folder = Folder::new();
    let handover = serve(&folder);
    handover.offer(workload("a")).await.unwrap();
    let foreign = Ztunnel::connect(&folder);
    foreign.say(&ZdsHello { version: 7, ambit_version: 0 }).await;
    assert_eq!(foreign.hears().await, "end");
    let garbled = Ztunnel::greeted(&folder).await;
    assert_eq!(garbled.hears().await, "add a");
    garbled.0.send(&[0xff; 3], None).await.unwrap();
    assert_eq!(garbled.hears().await, "end");
    Ztunnel::greeted(&folder).await.agrees_to(&["add a", "snapshot"]).await;
}

#[tokio::test]
async fn one_ztunnel_too_many_is_turned_away() {
    let folder = Folder::new();
    let _handover = serve(&folder);
    let mut taken = Vec::new();
    for _ in 0..CONNECTIONS {
        let ztunnel = Ztunnel::greeted(&folder).await;
        ztunnel.agrees_to(&["snapshot"]).await;
        taken.push(ztunnel);
    }
    assert_eq!(Ztunnel::connect(&folder).hears().await, "end");
    taken.pop();
    // The server hears of the end before, or as, it takes the next one.
    loop {
        let next = Ztunnel::connect(&folder);
        if next.0.send(&ZdsHello { version: 1, ambit_version: 1 }.encode_to_vec(), None).await.is_ok()
            && next.hears().await == "snapshot"
        {
            break;
        }
    }
}
