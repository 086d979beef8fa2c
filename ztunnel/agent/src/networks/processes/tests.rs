//! Paths of control groups as kubelets and runtimes name them, and pods found through a `/proc` of files.

use super::*;

const UID: &str = "0f3c1b2a-7d4e-4c55-9a61-1b2c3d4e5f60";
const OTHER: &str = "aaaaaaaa-7d4e-4c55-9a61-1b2c3d4e5f60";
const HASH: &str = "5cd0c9332ba67bb2aa1d8ee6f9f0c2aa";

#[test]
fn every_way_of_naming_a_pods_group_is_read() {
    let under = UID.replace('-', "_");
    let rows = [
        (format!("0::/kubepods/burstable/pod{UID}/0123abcd"), Some(UID)),
        (format!("0::/kubepods/pod{UID}/0123abcd"), Some(UID)),
        (format!("0::/kubepods/besteffort/pod{HASH}/0123abcd"), Some(HASH)),
        (
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-0a.scope"
            ),
            Some(UID),
        ),
        (format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-0a.scope"), Some(UID)),
        (
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-0a.scope"
            ),
            Some(UID),
        ),
        // Seen from within a control group namespace of our own.
        (format!("0::/../../besteffort/pod{UID}/0a"), Some(UID)),
        (format!("0::/../../../kubepods-pod{under}.slice/cri-containerd-0a.scope"), Some(UID)),
        // The runtime was told another driver than the kubelet.
        (
            format!(
                "0::/system.slice/containerd.service/kubepods-besteffort-pod{under}.slice:cri-containerd:0a"
            ),
            Some(UID),
        ),
        // First hierarchy: one line for each, some of them without the pod.
        (
            format!(
                "9:name=systemd:/\n8:pids:/node2/kubepods/pod{UID}/0a\n4:memory:/node2/kubepods/pod{UID}/0a\n0::/"
            ),
            Some(UID),
        ),
        // Named by the pod itself, within its group.
        (format!("0::/kubepods/pod{UID}/0a/pod{OTHER}/x"), Some(UID)),
        (format!("4:memory:/kubepods/pod{UID}/0a\n5:pids:/kubepods/pod{OTHER}/0a"), None),
        ("0::/system.slice/containerd.service".to_owned(), None),
        ("0::/user.slice/podman-1234.scope".to_owned(), None),
        ("0::/kubepods/podinfo/0a".to_owned(), None),
        (String::new(), None),
    ];
    for (groups, expected) in rows {
        let found = pod_of(&groups).map(|uid| uid.to_string());
        assert_eq!(found.as_deref(), expected, "{groups}");
    }
}

#[test]
fn the_start_is_found_behind_any_name() {
    let fields = |start| format!("S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 {start} 1 1");
    assert_eq!(start_of(&format!("7 (pause) {}", fields(420))), Some(420));
    assert_eq!(start_of(&format!("7 (a) S 1 (b ) c) {}", fields(421))), Some(421));
    assert_eq!(start_of("7 (short) S"), None);
}

struct Proc(PathBuf);

impl Drop for Proc {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Proc {
    /// With a node that lives in a network of its own.
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ambit-processes-{name}-{}", std::process::id()));
        let proc = Self(folder);
        proc.put(1, "0::/init.scope", 1, "node");
        proc
    }

    fn put(&self, pid: u32, groups: &str, start: u64, network: &str) {
        let folder = self.0.join(pid.to_string());
        fs::create_dir_all(folder.join("ns")).unwrap();
        fs::write(folder.join("cgroup"), groups).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(folder.join("stat"), format!("{pid} (x) S {zeros}{start} 0")).unwrap();
        let networks = self.0.join("networks");
        fs::create_dir_all(&networks).unwrap();
        fs::write(networks.join(network), "").unwrap();
        let _ = fs::remove_file(folder.join("ns/net"));
        fs::hard_link(networks.join(network), folder.join("ns/net")).unwrap();
    }

    fn id(&self, network: &str) -> NetnsId {
        let found = fs::metadata(self.0.join("networks").join(network)).unwrap();
        NetnsId { dev: found.dev(), inode: found.ino() }
    }

    fn open(&self, uid: &str) -> Result<NetnsId, NetworkError> {
        let processes = Processes::new(self.0.clone());
        processes.open(&PodUid(uid.into())).map(|network| network.netns().id())
    }
}

#[test]
fn the_first_process_of_a_pod_tells_its_network() {
    let proc = Proc::new("first");
    let group = format!("0::/kubepods/pod{UID}/0a");
    // A program of the pod that has made itself another network, with a lower number since numbers wrapped round.
    proc.put(20, &group, 900, "nested");
    proc.put(30, &group, 100, "pod");
    proc.put(40, &format!("0::/kubepods/pod{OTHER}/0a"), 50, "other");
    assert_eq!(proc.open(UID).unwrap(), proc.id("pod"));
    assert_eq!(proc.open(OTHER).unwrap(), proc.id("other"));
    assert!(matches!(proc.open(HASH), Err(NetworkError::NoProcess)));
}

#[test]
fn the_nodes_own_network_is_never_given_out() {
    let proc = Proc::new("host");
    proc.put(30, &format!("0::/kubepods/pod{UID}/0a"), 100, "node");
    assert!(matches!(proc.open(UID), Err(NetworkError::OfTheNode)));
}

#[test]
fn without_the_nodes_processes_nothing_is_opened() {
    let proc = Proc::new("alone");
    proc.put(30, &format!("0::/kubepods/pod{UID}/0a"), 100, "pod");
    fs::remove_dir_all(proc.0.join("1")).unwrap();
    assert!(matches!(proc.open(UID), Err(NetworkError::Processes { .. })));
}
