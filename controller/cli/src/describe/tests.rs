//! Pods and Services of a small mesh, described.

use ambit_crds::kind::Kind;

use super::{asked, pod, service};
use crate::golden::{self, MORE, SHOP};
use crate::mesh::Mesh;
use crate::mesh::name::{Found, Sought};

fn command(found: &Found) -> String {
    format!("ambit describe {}", found.told())
}

fn describe(mesh: &Mesh, golden: &str, words: &str) {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let (name, sought) = asked(&words).expect("it is asked well");
    let found = mesh.find(name, sought, &command).unwrap_or_else(|failure| panic!("{words:?}: {failure}"));
    match found.kind {
        Kind::Pod => golden::check(golden, &pod::describe(mesh, &found).expect("it is there")),
        _ => golden::check(golden, &service::describe(mesh, &found).expect("it is there")),
    }
}

#[test]
fn everything_that_concerns_them() {
    let mesh = golden::mesh(&[SHOP, MORE]);
    for (golden, words) in [
        ("describe-pod-behind-a-waypoint", "web-v1-0"),
        ("describe-pod-with-modes", "pod shop/free"),
        ("describe-pod-out", "mixed-out"),
        ("describe-pod-sealed", "pod sealed"),
        ("describe-service-behind-a-waypoint", "shop/web"),
        ("describe-service-sealed", "service sealed"),
        ("describe-service-empty", "svc empty"),
    ] {
        describe(&mesh, golden, words);
    }
}

#[test]
fn names_that_are_none_or_several() {
    let mesh = golden::mesh(&[SHOP, MORE]);
    let rows = [
        (
            "nothing",
            Sought::Either,
            "there is no pod or Service nothing; name its namespace too: NAMESPACE/NAME",
        ),
        ("shop/nothing", Sought::Pod, "in namespace shop (there is pod shop/ann, pod shop/bob, "),
        ("shop/nothing", Sought::Pod, "); ambit describe pod shop/ann"),
        (
            "shop/batch-0",
            Sought::Either,
            "there is no pod or Service batch-0 in namespace shop (there is pod other/batch-0); \
             ambit describe pod other/batch-0",
        ),
        (
            "shop/web-v",
            Sought::Either,
            "(there is pod shop/web-v1-0, pod shop/web-v2-0, service shop/web); ambit describe pod shop/web-v1-0",
        ),
        ("nowhere/x", Sought::Either, "namespace nowhere holds none; name another one"),
        (
            "free",
            Sought::Either,
            "free may be any of 2 (pod shop/free, service shop/free); ambit describe pod shop/free",
        ),
        (
            "web",
            Sought::Service,
            "web may be any of 2 (service other/web, service shop/web); ambit describe service other/web",
        ),
    ];
    for (words, sought, says) in rows {
        let failure =
            mesh.find(words, sought, &command).err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(failure.contains(says), "{words}: {failure}");
    }
    let failure = asked(&["node".to_owned(), "x".to_owned()]).unwrap_err().to_string();
    assert_eq!(failure, "node cannot be described; ambit describe pod x, or ambit describe service x");
    // A set of one pod stands for it.
    assert_eq!(mesh.find("web-v2", Sought::Pod, &command).expect("it is one").full(), "shop/web-v2-0");
}
