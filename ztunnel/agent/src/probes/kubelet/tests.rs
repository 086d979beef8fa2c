//! A kubelet among the files of a node.

use super::*;

struct Node(PathBuf);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Node {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ambit-kubelet-{name}-{}", std::process::id())))
    }

    fn process(&self, pid: u32, command: &[&str], groups: &str) {
        let folder = self.0.join("proc").join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cmdline"), command.join("\0")).unwrap();
        fs::write(folder.join("cgroup"), groups).unwrap();
    }

    fn group(&self, path: &str, members: &str) {
        let folder = self.0.join("groups").join(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.procs"), members).unwrap();
    }

    fn find(&self, known: Option<&Kubelet>) -> Option<(u32, Option<String>)> {
        let finder = Finder { proc: self.0.join("proc"), groups: self.0.join("groups") };
        finder.find(known).map(|kubelet| (kubelet.pid, kubelet.group.map(|group| group.path)))
    }
}

#[test]
fn it_is_found_by_its_name_and_never_in_a_pod() {
    let node = Node::new("name");
    assert_eq!(node.find(None), None);
    let pod = "0::/kubepods/pod0f3c1b2a-7d4e-4c55-9a61-1b2c3d4e5f60/0a";
    node.process(10, &["/bin/kubelet", "--config"], pod);
    node.process(11, &["/usr/bin/kubelet-helper"], "0::/");
    node.process(12, &["/bin/sh", "-c", "kubelet"], "0::/");
    assert_eq!(node.find(None), None);
    node.process(20, &["/opt/kube", "kubelet", "--config"], "0::/");
    assert_eq!(node.find(None), Some((20, None)), "one program is many");
    node.process(15, &["/usr/bin/kubelet", "--config"], "0::/");
    assert_eq!(node.find(None), Some((15, None)));
}

#[test]
fn packets_are_told_by_a_group_that_really_holds_it() {
    let node = Node::new("group");
    for shown in ["0::/system.slice/kubelet.service", "0::/../../../../system.slice/kubelet.service"] {
        node.process(15, &["/usr/bin/kubelet"], shown);
        node.group("system.slice/kubelet.service", "14\n15\n");
        let path = "system.slice/kubelet.service".to_owned();
        assert_eq!(node.find(None), Some((15, Some(path))), "{shown}");
        node.group("system.slice/kubelet.service", "14\n");
        assert_eq!(node.find(None), Some((15, None)), "it is not in there");
    }
    node.group("unified/system.slice/kubelet.service", "15\n");
    let path = "unified/system.slice/kubelet.service".to_owned();
    assert_eq!(node.find(None), Some((15, Some(path))), "beside the first hierarchy");
    node.process(15, &["/usr/bin/kubelet"], "4:memory:/system.slice/kubelet.service");
    assert_eq!(node.find(None), Some((15, None)), "the first hierarchy tells packets nothing");
    node.process(15, &["/usr/bin/kubelet"], "0::/");
    node.group("", "15\n");
    assert_eq!(node.find(None), Some((15, None)), "everybody is in the root");
}

#[test]
fn another_one_is_looked_for_when_the_known_one_is_gone() {
    let node = Node::new("again");
    node.process(15, &["/usr/bin/kubelet"], "0::/");
    let known = Kubelet { pid: 15, uid: 0, group: None };
    node.process(9, &["/usr/bin/kubelet"], "0::/");
    assert_eq!(node.find(Some(&known)), Some((15, None)));
    node.process(15, &["/usr/bin/other"], "0::/");
    assert_eq!(node.find(Some(&known)), Some((9, None)));
}
