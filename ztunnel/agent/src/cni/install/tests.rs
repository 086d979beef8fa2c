//! The plugin on a node that is a folder.

use tokio::time::timeout;

use super::*;

const LISTED: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp"}]}"#;

struct Node(PathBuf);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Node {
    fn new(name: &str) -> Self {
        let node = Self(std::env::temp_dir().join(format!("ambit-install-{name}-{}", std::process::id())));
        fs::create_dir_all(node.0.join("conf")).unwrap();
        fs::write(node.0.join("program"), "first").unwrap();
        node
    }

    fn installation(&self) -> Installation {
        Installation {
            program: self.0.join("program"),
            bin_dir: self.0.join("bin"),
            conf_dir: self.0.join("conf"),
            entry: Entry {
                socket: "/var/run/ambit/cni.sock".into(),
                exempt_namespaces: vec!["kube-system".to_owned()],
                when_away: "refuse".to_owned(),
                within: Duration::from_secs(30),
            },
        }
    }

    fn configure(&self, text: &str) {
        fs::write(self.0.join("conf/10-pods.conflist"), text).unwrap();
    }

    fn configuration(&self) -> String {
        fs::read_to_string(self.0.join("conf/10-pods.conflist")).unwrap()
    }
}

#[test]
fn program_and_entry_come_and_go() {
    let node = Node::new("whole");
    node.configure(LISTED);
    let installation = node.installation();
    for program in ["first", "second"] {
        fs::write(node.0.join("program"), program).unwrap();
        installation.install(None).unwrap();
        assert_eq!(fs::read_to_string(node.0.join("bin/ambit-cni")).unwrap(), program);
    }
    let mode = fs::metadata(node.0.join("bin/ambit-cni")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    // What the plugin reads is what was written for it.
    let list: Value = serde_json::from_str(&node.configuration()).unwrap();
    let mut entry = list["plugins"][1].clone();
    entry["cniVersion"] = list["cniVersion"].clone();
    let read: crate::cni::plugin::Config = serde_json::from_value(entry).unwrap();
    assert_eq!((read.wait_seconds, read.exempt_namespaces), (30, vec!["kube-system".to_owned()]));
    for _twice in 0..2 {
        installation.remove().unwrap();
        assert_eq!(node.configuration(), LISTED);
        assert_eq!(fs::read_dir(node.0.join("conf")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(node.0.join("bin")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_somebody_rewrites_is_chained_again() {
    let node = Node::new("watched");
    let readiness = ambit_process::readiness::Readiness::new();
    let (end, ended) = oneshot::channel();
    let kept = node.installation().keep(readiness.hold("cni"), ended);
    let keeper = ambit_process::spawn::spawn("keeper", kept);
    tokio::task::yield_now().await;
    assert!(!readiness.is_ready(), "there is nothing to chain it to yet");
    for text in [LISTED.to_owned(), LISTED.replace("ptp", "bridge")] {
        node.configure(&text);
        let chained = async {
            while !node.configuration().contains(NAME) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), chained)
            .await
            .expect("chained long before the next look by the clock");
    }
    assert!(readiness.is_ready());
    end.send(()).unwrap();
    timeout(Duration::from_secs(5), keeper).await.unwrap().unwrap();
    node.installation().remove().unwrap();
    assert_eq!(node.configuration(), LISTED.replace("ptp", "bridge"));
}

#[test]
fn our_own_looks_wake_nobody() {
    let node = Node::new("looks");
    node.configure(LISTED);
    let (heard, mut hearing) = mpsc::channel(1);
    let _watcher = watch(&node.0.join("conf"), heard).unwrap();
    let installation = node.installation();
    assert_eq!(installation.files().unwrap().len(), 1);
    // What is heard comes in its order: had the look been heard, it would be heard before this.
    let (told, telling) = std::sync::mpsc::channel();
    let mut other = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let _ = told.send(event.unwrap().kind.is_access());
    })
    .unwrap();
    other.watch(&node.0.join("conf"), RecursiveMode::NonRecursive).unwrap();
    assert_eq!(installation.files().unwrap().len(), 1);
    assert!(telling.recv_timeout(Duration::from_secs(5)).unwrap(), "a look is an event, and one of access");
    assert!(hearing.try_recv().is_err());
    node.configure(LISTED);
    assert_eq!(hearing.blocking_recv(), Some(()));
}
