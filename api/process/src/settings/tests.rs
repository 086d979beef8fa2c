//! Settings: defaults, overrides, and every fault in one report.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn any() -> SocketAddr {
    "127.0.0.1:15000".parse().unwrap()
}

#[test]
fn defaults_stand_when_nothing_or_nothing_useful_is_set() {
    let environment = environment(&[("CLUSTER_ID", ""), ("WORKERS", "")]);
    let mut reader = Reader::new(&environment);
    assert_eq!(reader.text("CLUSTER_ID", "Kubernetes", "The cluster"), "Kubernetes");
    assert_eq!(reader.number::<usize>("WORKERS", 4, "Threads"), 4);
    assert_eq!(reader.duration("DEADLINE", Duration::from_secs(5), "Drain"), Duration::from_secs(5));
    assert!(reader.flag("IPV6", true, "IPv6"));
    assert_eq!(reader.address("ADMIN", any(), "Admin"), any());
    assert_eq!(reader.path("ROOT", "./root.pem", "Root"), PathBuf::from("./root.pem"));
    assert_eq!(reader.optional("TOKEN", "Token"), None);
    let rows = reader.finish().unwrap();
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row.value == row.default), "{rows:?}");
}

#[test]
fn what_is_set_takes_effect() {
    let environment = environment(&[
        ("CLUSTER_ID", "east"),
        ("WORKERS", "2"),
        ("DEADLINE", "1m30s"),
        ("IPV6", "no"),
        ("ADMIN", "[::1]:1"),
        ("TOKEN", "./t"),
        ("NEEDED", "here"),
    ]);
    let mut reader = Reader::new(&environment);
    assert_eq!(reader.text("CLUSTER_ID", "Kubernetes", ""), "east");
    assert_eq!(reader.number::<usize>("WORKERS", 4, ""), 2);
    assert_eq!(reader.duration("DEADLINE", Duration::from_secs(5), ""), Duration::from_secs(90));
    assert!(!reader.flag("IPV6", true, ""));
    assert_eq!(reader.address("ADMIN", any(), ""), "[::1]:1".parse().unwrap());
    assert_eq!(reader.optional("TOKEN", ""), Some("./t".to_owned()));
    assert_eq!(reader.required("NEEDED", ""), "here");
    let rows = reader.finish().unwrap();
    assert_eq!((rows[2].value.as_str(), rows[2].default.as_str()), ("90s", "5s"));
}

#[test]
fn every_fault_is_reported_at_once() {
    let environment = environment(&[
        ("WORKERS", "-1"),
        ("GOOD", "1"),
        ("DEADLINE", "soon"),
        ("IPV6", "maybe"),
        ("ADMIN", "localhost"),
        ("PORT", "65536"),
    ]);
    let mut reader = Reader::new(&environment);
    reader.number::<usize>("WORKERS", 4, "");
    reader.number::<usize>("GOOD", 4, "");
    reader.duration("DEADLINE", Duration::ZERO, "");
    reader.flag("IPV6", false, "");
    reader.address("ADMIN", any(), "");
    reader.parsed::<u16>("PORT", 1, "");
    reader.required("MISSING", "");
    reader.fault("GOOD", "1", "needs OTHER");
    let error = reader.finish().unwrap_err();
    let names: Vec<_> = error.faults.iter().map(|fault| fault.name).collect();
    assert_eq!(names, ["WORKERS", "DEADLINE", "IPV6", "ADMIN", "PORT", "MISSING", "GOOD"]);
    let text = error.to_string();
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(text.contains("IPV6=\"maybe\": expected true or false"), "{text}");
}

#[test]
fn the_table_stars_what_is_not_the_default() {
    let environment = environment(&[("A", "2")]);
    let mut reader = Reader::new(&environment);
    reader.number("A", 1, "First");
    reader.text("LONGER", "x", "Second");
    let table = format_table(&reader.finish().unwrap());
    assert_eq!(table, "A       2 *  First (default \"1\")\nLONGER  x    Second\n");
}
