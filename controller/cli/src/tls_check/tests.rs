//! Connections of a small mesh, and what becomes of them.

use super::{Transport, Verdict, check};
use crate::golden::{self, MORE, SHOP};

#[test]
fn verdicts() {
    use Transport::{MutualTls, PlainText, Refused};
    let mesh = golden::mesh(&[SHOP, MORE]);
    let rows: [(&str, &str, Verdict, &[Transport]); 10] = [
        ("shop/ann", "web", Verdict::MutualTls, &[MutualTls, MutualTls]),
        ("shop/ann", "shop/free", Verdict::MutualTls, &[MutualTls]),
        ("ann", "other/web", Verdict::MutualTls, &[MutualTls]),
        ("shop/ann", "plain/eve:80", Verdict::PlainText, &[PlainText]),
        ("shop/ann", "192.0.2.1:443", Verdict::PlainText, &[PlainText]),
        ("plain/eve", "shop/web", Verdict::PlainText, &[PlainText]),
        ("plain/eve", "shop/empty", Verdict::NoConnection, &[Refused]),
        ("shop/ann", "empty", Verdict::NoConnection, &[Refused]),
        ("shop/ann", "mixed", Verdict::Depends, &[MutualTls, PlainText]),
        // Past the waypoint, and its pod all the same.
        ("shop/ann", "10.244.9.1:5678", Verdict::MutualTls, &[MutualTls]),
    ];
    for (from, to, verdict, legs) in rows {
        let checked =
            check(&mesh, from, to, "--lab x").unwrap_or_else(|failure| panic!("{from} {to}: {failure}"));
        let seen: Vec<Transport> = checked.legs.iter().map(|leg| leg.transport).collect();
        assert_eq!((checked.verdict, seen.as_slice()), (verdict, legs), "{from} {to}: {checked:?}");
    }
}

#[test]
fn plain_text_is_refused_by_whoever_says_so() {
    let mesh = golden::mesh(&[SHOP, MORE]);
    let rows = [
        // (what is called, the pod, whether it takes plain text, its mode there, who decides)
        ("web", "shop/web-v1-0", false, Some("STRICT"), "PeerAuthentication shop/default"),
        ("free", "shop/free", false, Some("PERMISSIVE"), "AuthorizationPolicy shop/reads denies it"),
        ("other/web", "other/web", true, Some("PERMISSIVE"), "no PeerAuthentication asks for anything else"),
        ("other/vault", "other/vault", false, Some("PERMISSIVE"), "locked: no waypoint is named"),
        (
            "other/safe",
            "other/safe",
            false,
            Some("PERMISSIVE"),
            "locked: only waypoint other/waypoint may reach it",
        ),
        ("mixed", "shop/mixed-in", false, Some("STRICT"), "PeerAuthentication shop/default"),
        ("mixed", "shop/mixed-out", true, None, "not in the mesh: nobody judges there"),
    ];
    for (to, pod, accepted, mode, because) in rows {
        let checked =
            check(&mesh, "shop/ann", to, "--lab x").unwrap_or_else(|failure| panic!("{to}: {failure}"));
        let row =
            checked.plaintext.iter().find(|row| row.pod == pod).unwrap_or_else(|| panic!("{checked:?}"));
        assert_eq!((row.accepted, row.mode.as_deref()), (accepted, mode), "{to}: {row:?}");
        assert!(row.because.contains(because), "{to}: {row:?}");
    }
}

#[test]
fn answers_as_people_read_them() {
    let mesh = golden::mesh(&[SHOP, MORE]);
    for (name, from, to) in [
        ("tls-check-waypoint", "shop/ann", "web"),
        ("tls-check-uncaptured", "plain/eve", "shop/free"),
        ("tls-check-mixed", "shop/ann", "mixed"),
    ] {
        let checked = check(&mesh, from, to, "--lab x").unwrap_or_else(|failure| panic!("{name}: {failure}"));
        golden::check(name, &checked);
    }
}

#[test]
fn names_that_are_none() {
    let mesh = golden::mesh(&[SHOP, MORE]);
    let rows = [
        ("shop/nobody", "web", "there is no pod nobody in namespace shop (there is pod shop/ann, "),
        ("shop/nobody", "web", "); ambit tls-check shop/ann web --lab x"),
        ("nobody", "web", "there is no pod nobody; name its namespace too"),
        (
            "other/batch",
            "web",
            "other/batch may be any of 2 (pod other/batch-0, pod other/batch-1); ambit tls-check other/batch-0 web --lab x",
        ),
        ("shop/ann", "nothing", "there is no Service or running pod shop/nothing; there is shop/empty"),
        ("shop/ann", "web:none", "\"none\" is no port"),
        ("shop/ann", "ann", "write its port too"),
        ("plain/eve", "web", "there is no Service or running pod plain/web; there is other/web, shop/web"),
    ];
    for (from, to, says) in rows {
        let failure =
            check(&mesh, from, to, "--lab x").err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(failure.contains(says), "{from} {to}: {failure}");
    }
}
