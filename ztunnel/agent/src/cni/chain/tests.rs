//! Folders of configuration, before and after.

use super::*;

const LISTED: &str = r#"{ "name": "pods", "cniVersion": "1.0.0",
  "plugins": [{"type": "ptp"}, {"type": "portmap"}] }"#;
const SINGLE: &str = r#"{"cniVersion": "0.4.0", "name": "one", "type": "bridge", "isGateway": true}"#;

fn entry() -> Value {
    json!({"type": NAME, "socket": "/s"})
}

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn apply(mut files: Files, wish: &Wish) -> Files {
    for edit in plan(&files, wish).unwrap() {
        match edit {
            Edit::Write(name, bytes) => drop(files.insert(name, bytes)),
            Edit::Remove(name) => drop(files.remove(&name).unwrap()),
        }
    }
    assert_eq!(plan(&files, wish), Ok(Vec::new()), "a second look finds nothing to do");
    assert_eq!(is_chained(&files), *wish != Wish::Absent);
    files
}

fn chained(files: Files) -> Files {
    apply(files, &Wish::Chained(entry()))
}

/// The types of the plugins in a file.
fn types(files: &Files, name: &str) -> String {
    let list: Value = serde_json::from_slice(&files[name]).unwrap();
    list["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["type"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn the_first_file_is_chained_and_comes_back_as_it_was() {
    let other = r#"{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "other"}]}"#;
    let rows = [
        (files(&[("10-pods.conflist", LISTED)]), "10-pods.conflist", "ptp,portmap,ambit-cni"),
        (files(&[("10-one.conf", SINGLE)]), "10-one.conflist", "bridge,ambit-cni"),
        (files(&[("10-one.json", SINGLE)]), "10-one.conflist", "bridge,ambit-cni"),
        (
            files(&[
                ("00-notes.txt", "x"),
                ("05-broken.conflist", "{"),
                ("05-empty.conf", "{}"),
                ("20-pods.conflist", LISTED),
                ("30-other.conflist", other),
            ]),
            "20-pods.conflist",
            "ptp,portmap,ambit-cni",
        ),
    ];
    for (before, name, expected) in rows {
        let during = chained(before.clone());
        assert_eq!(types(&during, name), expected);
        assert!(
            !during.contains_key("10-one.conf") && !during.contains_key("10-one.json"),
            "it would be read first"
        );
        assert_eq!(apply(during, &Wish::Absent), before);
    }
}

#[test]
fn a_list_keeps_its_name_and_version() {
    let during = chained(files(&[("10-one.conf", SINGLE)]));
    let list: Value = serde_json::from_slice(&during["10-one.conflist"]).unwrap();
    let expected = json!({"cniVersion": "0.4.0", "name": "one", "plugins": [{"type": "bridge", "isGateway": true}, entry()]});
    assert_eq!(list, expected);
}

#[test]
fn other_plugins_in_the_chain_stay() {
    let mesh = r#"{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "ptp"}, {"type": "istio-cni", "a": 1}]}"#;
    let during = chained(files(&[("10-pods.conflist", mesh)]));
    assert_eq!(types(&during, "10-pods.conflist"), "ptp,istio-cni,ambit-cni");
}

#[test]
fn a_file_that_was_rewritten_is_chained_again_and_comes_back_as_rewritten() {
    let mut during = chained(files(&[("10-pods.conflist", LISTED)]));
    let newer = LISTED.replace("portmap", "bandwidth");
    during.insert("10-pods.conflist".to_owned(), newer.clone().into_bytes());
    let during = chained(during);
    assert_eq!(types(&during, "10-pods.conflist"), "ptp,bandwidth,ambit-cni");
    assert_eq!(apply(during, &Wish::Absent), files(&[("10-pods.conflist", &newer)]));
    // A single plugin, written anew beside the list that was made of it.
    let mut during = chained(files(&[("10-one.conf", SINGLE)]));
    let newer = SINGLE.replace("true", "false");
    during.insert("10-one.conf".to_owned(), newer.clone().into_bytes());
    let during = chained(during);
    assert!(!during.contains_key("10-one.conf"));
    assert_eq!(apply(during, &Wish::Absent), files(&[("10-one.conf", &newer)]));
}

#[test]
fn what_somebody_added_while_we_were_in_it_stays_when_we_leave() {
    let mut during = chained(files(&[("10-pods.conflist", LISTED)]));
    let mut list: Value = serde_json::from_slice(&during["10-pods.conflist"]).unwrap();
    list["plugins"].as_array_mut().unwrap().push(json!({"type": "tuning"}));
    during.insert("10-pods.conflist".to_owned(), list.to_string().into_bytes());
    // Our place is the last one.
    let during = chained(during);
    assert_eq!(types(&during, "10-pods.conflist"), "ptp,portmap,tuning,ambit-cni");
    let after = apply(during, &Wish::Absent);
    assert_eq!(types(&after, "10-pods.conflist"), "ptp,portmap,tuning");
    assert_eq!(after.len(), 1, "{after:?}");
}

#[test]
fn a_file_that_comes_first_later_takes_the_entry_over() {
    let mut during = chained(files(&[("10-pods.conflist", LISTED)]));
    during.insert("05-new.conflist".to_owned(), LISTED.replace("ptp", "calico").into_bytes());
    let during = chained(during);
    assert_eq!(types(&during, "05-new.conflist"), "calico,portmap,ambit-cni");
    assert_eq!(during["10-pods.conflist"], LISTED.as_bytes());
}

#[test]
fn an_entry_of_another_version_of_ours_is_renewed() {
    let during = chained(files(&[("10-pods.conflist", LISTED)]));
    let later = Wish::Chained(json!({"type": NAME, "socket": "/elsewhere"}));
    let during = apply(during, &later);
    assert_eq!(types(&during, "10-pods.conflist"), "ptp,portmap,ambit-cni");
    assert_eq!(apply(during, &Wish::Absent), files(&[("10-pods.conflist", LISTED)]));
}

#[test]
fn where_nothing_can_be_chained_nothing_is_changed() {
    let wish = Wish::Chained(entry());
    assert_eq!(plan(&files(&[]), &wish), Err(ChainError::Nothing));
    assert_eq!(plan(&files(&[("10.conflist.before-ambit", LISTED)]), &wish), Err(ChainError::Nothing));
    let old = files(&[("10-old.conf", r#"{"cniVersion": "0.2.0", "name": "x", "type": "bridge"}"#)]);
    assert!(matches!(plan(&old, &wish), Err(ChainError::TooOld { .. })));
    assert_eq!(plan(&old, &Wish::Absent), Ok(Vec::new()));
}
