//! The golden script, and what must be true of all.

use super::*;
use crate::probes::kubelet::Group;

fn openings() -> Openings {
    [("10.244.1.5", 8080), ("10.244.1.5", 9000), ("fd00::5", 8080)]
        .map(|(address, port)| (address.parse().unwrap(), port))
        .into()
}

fn kubelet(group: Option<&str>) -> Kubelet {
    Kubelet { pid: 1, uid: 0, group: group.map(|path| Group { path: path.to_owned(), level: 2, inode: 1 }) }
}

#[test]
fn the_script_is_the_golden_one() {
    let script = Script::new(&openings(), Some(&kubelet(Some("system.slice/kubelet.service"))));
    assert_eq!(script.inet + &script.bridge, include_str!("testdata/node.nft"));
}

#[test]
fn without_a_group_the_user_decides_and_without_openings_nobody_passes() {
    let script = Script::new(&openings(), Some(&kubelet(None))).inet;
    assert_eq!(
        (script.matches("meta skuid 0").count(), script.matches("cgroupv2").count()),
        (2, 0),
        "{script}"
    );
    let script = Script::new(&openings(), None).inet;
    assert_eq!(script.matches("meta skuid 0").count(), 2, "{script}");
    let script = Script::new(&Openings::new(), None).inet;
    assert!(!script.contains("update @"), "{script}");
    assert_eq!(script.matches(" drop").count(), 4, "the source address stays guarded: {script}");
}

#[test]
fn a_chain_is_never_deleted_while_probes_may_be_under_way() {
    let script = Script::new(&openings(), None);
    assert!(!script.inet.contains("delete") && !script.bridge.contains("delete"));
    assert!(
        removal().contains("delete table inet ambit-node")
            && removal().contains("delete table bridge ambit-node")
    );
}
