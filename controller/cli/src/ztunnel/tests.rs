//! Rows of a dump, and of one that another maker's ztunnel writes.

use super::dump::Dump;
use super::{Told, rows};
use crate::golden;
use crate::output::{Row, Rows};

const DUMP: &str = include_str!("../testdata/dump.json");

fn told(text: &str) -> Told {
    let dump: Dump = serde_json::from_str(text).expect("it is a dump");
    Told { node: "node-1".to_owned(), dump }
}

fn check<R: Row + Ord>(name: &str, mut list: Vec<R>) {
    list.sort();
    golden::check(name, &Rows::new(list, "nothing"));
}

#[test]
fn tables() {
    let told = told(DUMP);
    check("ztunnel-workload", rows::workloads(&told, None));
    check("ztunnel-service", rows::services(&told, None));
    check("ztunnel-policy", rows::policies(&told, None));
    check("ztunnel-certificate", rows::certificates(&told, None));
    check("ztunnel-connections", rows::connections(&told, None));
}

#[test]
fn one_namespace_alone() {
    let told = told(DUMP);
    let count = |namespace| {
        let namespace = Some(namespace);
        [
            rows::workloads(&told, namespace).len(),
            rows::services(&told, namespace).len(),
            rows::policies(&told, namespace).len(),
            rows::certificates(&told, namespace).len(),
            rows::connections(&told, namespace).len(),
        ]
    };
    assert_eq!(count("shop"), [2, 1, 2, 3, 2]);
    assert_eq!(count("nowhere"), [0; 5]);
}

#[test]
fn another_makers_dump() {
    let told = told(
        r#"{"workloads": [{"name": "a", "namespace": "n", "workloadIps": ["10.0.0.1"], "protocol": "HBONE",
                           "waypoint": {"destination": "/10.1.1.1", "hboneMtlsPort": 15008}, "node": "x"}],
            "services": [{"name": "s", "namespace": "n", "hostname": "s.n", "vips": ["/10.2.2.2"], "waypoint": null,
                          "endpoints": {"a": {}, "b": {}}}],
            "policies": [{"name": "p", "namespace": "n", "action": "Allow", "scope": "Namespace", "rules": [[[]]]}]}"#,
    );
    let cells = |row: Vec<Vec<String>>| row.concat().join(" ");
    assert_eq!(
        cells(rows::workloads(&told, None).iter().map(Row::cells).collect()),
        "n a 10.0.0.1 x 10.1.1.1 HBONE"
    );
    assert_eq!(cells(rows::services(&told, None).iter().map(Row::cells).collect()), "n s 10.2.2.2 None 2/2");
    assert_eq!(cells(rows::policies(&told, None).iter().map(Row::cells).collect()), "n p Allow Namespace 1");
}

#[test]
fn what_is_no_dump_is_told() {
    assert!(serde_json::from_str::<Dump>("{\"proxies\": []}").is_err(), "the lists must be there");
}
