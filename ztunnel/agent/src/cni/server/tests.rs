//! The socket, with a plugin on one side and whoever knows the pods on the other.

use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::cni::plugin;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Agent {
    folder: Folder,
    events: Arc<Mutex<Vec<String>>>,
}

fn agent(name: &str, within: Duration) -> (Agent, mpsc::Receiver<Question>) {
    let folder = Folder(std::env::temp_dir().join(format!("ambit-cni-{name}-{}", std::process::id())));
    let (sender, questions) = mpsc::channel(4);
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let waiting =
        move |object: &ObjectRef, reason: &str| heard.lock().unwrap().push(format!("{object}: {reason}"));
    let desk = Desk { questions: sender, waiting: Box::new(waiting), within };
    spawn("serve", serve(listen(&folder.0.join("run/cni.sock")).unwrap(), Arc::new(desk)));
    (Agent { folder, events }, questions)
}

/// The plugin's program, as the runtime calls it: the code it ends with, and what it prints.
async fn called(agent: &Agent, command: &str) -> (Option<u64>, Option<serde_json::Value>) {
    let pairs = [
        ("CNI_COMMAND", command),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1"),
    ];
    let environment: std::collections::BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = serde_json::json!({
        "cniVersion": "1.0.0", "prevResult": {"ips": [{"address": "10.0.0.9/24"}]},
        "socket": agent.folder.0.join("run/cni.sock"), "exemptNamespaces": [], "whenAway": "refuse", "waitSeconds": 1,
    });
    let input = config.to_string().into_bytes();
    let (printed, _) = tokio::task::spawn_blocking(move || plugin::run(&environment, &input)).await.unwrap();
    (printed.as_ref().and_then(|printed| printed["code"].as_u64()), printed)
}

#[tokio::test]
async fn a_pod_outside_starts_at_once_and_one_of_the_mesh_when_it_is_served() {
    let (agent, mut questions) = agent("starts", Duration::from_secs(20));
    let here = ambit_transport::socket::Netns::current().unwrap().id();
    let elsewhere = NetnsId { inode: here.inode + 1, ..here };
    let progress = watch::Sender::new(Progress::Served(elsewhere));
    let follow = progress.subscribe();
    let answering = async {
        for stands in [Stands::Outside, Stands::Lives(follow)] {
            let question = questions.recv().await.unwrap();
            let name = (question.object.namespace.as_str(), question.object.name.as_str());
            assert_eq!((name, question.uid), (("shop", "web"), Some(PodUid("u-1".into()))));
            let Happening::Made(handed) = &question.network else { panic!("{:?}", question.network) };
            assert_eq!(handed.addresses, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
            question.answer.send(stands).unwrap();
        }
    };
    let calling = async {
        assert_eq!(called(&agent, "ADD").await.0, None);
        let (add, ()) = tokio::join!(called(&agent, "ADD"), async {
            // Not before it is served in this very network, and its owner hears what it waits for.
            while agent.events.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
            progress.send_replace(Progress::Served(here));
        });
        assert_eq!(add.0, None);
        assert_eq!(add.1.unwrap()["ips"][0]["address"], "10.0.0.9/24");
    };
    tokio::join!(answering, calling);
    assert!(agent.events.lock().unwrap()[0].contains("starts once the ztunnel"));
}

#[tokio::test]
async fn a_pod_that_is_not_served_in_time_is_to_be_tried_again() {
    let (agent, mut questions) = agent("late", Duration::from_millis(50));
    let progress = watch::Sender::new(Progress::Waiting("no ztunnel".to_owned()));
    let (printed, ()) = tokio::join!(called(&agent, "ADD"), async {
        let question = questions.recv().await.unwrap();
        question.answer.send(Stands::Lives(progress.subscribe())).unwrap();
    });
    assert_eq!(printed.0, Some(11));
    assert!(printed.1.unwrap()["msg"].as_str().unwrap().contains("no ztunnel"));
    // One that nobody has heard of.
    let (printed, unheard) = tokio::join!(called(&agent, "ADD"), questions.recv());
    assert_eq!(printed.0, Some(11));
    assert!(unheard.unwrap().answer.is_closed());
}

#[tokio::test]
async fn a_goodbye_waits_for_the_ztunnel_and_never_hinders() {
    let (agent, mut questions) = agent("goodbye", Duration::from_secs(20));
    let here = ambit_transport::socket::Netns::current().unwrap().id();
    let progress = watch::Sender::new(Progress::Served(here));
    let (printed, ()) = tokio::join!(called(&agent, "DEL"), async {
        let question = questions.recv().await.unwrap();
        assert!(matches!(question.network, Happening::Goes(_)));
        question.answer.send(Stands::Lives(progress.subscribe())).unwrap();
        progress.send_replace(Progress::Parted(here));
    });
    assert_eq!(printed, (None, None));
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let (agent, _questions) = agent("refused", Duration::from_secs(20));
    for packet in [&b"x"[..], br#"{"version":9}"#] {
        let socket = Socket::connect(&agent.folder.0.join("run/cni.sock")).unwrap();
        socket.send(packet, None).await.unwrap();
        let mut buffer = [0; 1024];
        let (length, _) = socket.recv(&mut buffer).await.unwrap();
        let response = Response::read(&buffer[..length]).unwrap();
        assert!(matches!(response.answer, Answer::Refused(_)), "{response:?}");
    }
}
