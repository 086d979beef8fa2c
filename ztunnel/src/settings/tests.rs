//! The table: Istio's names, what they default to, and that all faults are said together.

use std::collections::BTreeMap;

use super::*;

type Holds = fn(&Settings) -> bool;

fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let environment: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::read(&environment)
}

#[test]
fn nothing_set_is_a_working_ztunnel() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.control.xds_address, settings.control.ca_address);
    assert_eq!(settings.data.mark, 1337);
    assert_eq!(settings.data.original_source, OriginalSource::BestEffort);
    assert_eq!(settings.data.times.drain, Duration::from_secs(9), "a second less than the grace period");
    assert!(settings.admin.admin.ip().is_loopback(), "what has no authentication is not for the network");
    let mut names: Vec<_> = settings.table.iter().map(|row| row.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), settings.table.len(), "each setting once");
}

#[test]
fn values_that_mean_something_special() {
    let cases: [(&[(&str, &str)], Holds); 6] = [
        (&[("ENABLE_ORIG_SRC", "false")], |read| read.data.original_source == OriginalSource::Off),
        (&[("ENABLE_ORIG_SRC", "true")], |read| read.data.original_source == OriginalSource::Required),
        (&[("AMBIT_IDLE_TIMEOUT", "0s")], |read| read.data.times.idle > Duration::from_secs(86_400 * 365)),
        (&[("XDS_ADDRESS", "https://a:1")], |read| read.control.ca_address == "https://a:1"),
        (&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")], |read| {
            read.data.times.drain == Duration::from_secs(25)
        }),
        (&[("INSTANCE_IP", "10.0.0.7")], |read| read.control.instance_ip == Some([10, 0, 0, 7].into())),
    ];
    for (pairs, holds) in cases {
        assert!(holds(&read(pairs).unwrap()), "{pairs:?}");
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let wrong = [
        ("INSTANCE_IP", "here"),
        ("TRUST_DOMAIN", "no domain"),
        ("ZTUNNEL_WORKER_THREADS", "many"),
        ("AMBIT_CONNECT_TIMEOUT", "soon"),
        ("AMBIT_MAX_HANDSHAKES", "-1"),
        ("IPV6_ENABLED", "perhaps"),
    ];
    let faults = read(&wrong).unwrap_err().to_string();
    for (name, _) in wrong {
        assert!(faults.contains(name), "{name} in {faults}");
    }
}
