//! What is admitted between two looks, and what is shown.

use super::*;

const MIB: u64 = 1 << 20;

/// A guard under a ceiling, as a look at so much memory leaves it.
fn guard(used: u64, ceiling: u64) -> Overload {
    let overload = Overload::with(Asked::Off, Memory::find(Asked::Off));
    let overload = Overload { sizes: Sizes::within(Some(ceiling)), ..overload };
    overload.find(used, Some(ceiling));
    overload
}

/// How much of something is let in at once, up to a thousand.
fn burst(overload: &Overload, work: Work, standing: Standing) -> Vec<Charge> {
    std::iter::from_fn(|| overload.admit(work, standing)).take(1000).collect()
}

#[test]
fn a_burst_is_bounded_by_what_it_may_take_and_ended_work_makes_room() {
    let overload = guard(20 * MIB, 64 * MIB);
    let cost = |work| overload.sizes.cost(work);
    let greedy = burst(&overload, Work::Connection, Standing::Greedy);
    let room = part(64 * MIB, 80) - 20 * MIB;
    assert_eq!(greedy.len() as u64, room / cost(Work::Connection));
    assert_eq!(overload.level(), Level::Tight, "somebody was refused");
    let modest = burst(&overload, Work::Connection, Standing::Modest);
    assert!(!modest.is_empty(), "who has little is let in yet");
    assert!(overload.used() + overload.charged() <= part(64 * MIB, 90));
    assert!(overload.admit(Work::Request, Standing::Greedy).is_none());
    drop(modest);
    assert!(overload.admit(Work::Request, Standing::Greedy).is_some(), "requests on open connections go on");
    assert!(overload.admit(Work::Connection, Standing::Greedy).is_none(), "tight until a third is free");
    drop(greedy);
    assert_eq!(overload.charged(), 0);
    assert!(overload.admit(Work::Tunnel, Standing::Greedy).is_some());
}

#[test]
fn what_follows_from_work_is_charged_too_and_stays_so_until_it_shows() {
    let overload = guard(20 * MIB, 64 * MIB);
    overload.charge(Work::Tunnel).spend();
    assert_eq!(overload.charged(), overload.sizes.cost(Work::Tunnel));
}

#[test]
fn what_does_not_fit_is_cause_for_a_look() {
    let overload = Overload::new(Asked::Bytes(1 << 40)).unwrap();
    overload.find(850 << 30, Some(1 << 40));
    assert!(overload.admit(Work::Tunnel, Standing::Greedy).is_none(), "it has just looked");
    overload.watched().looked -= 2 * FRESH;
    assert!(
        overload.admit(Work::Tunnel, Standing::Greedy).is_some(),
        "a new look finds what this process really uses"
    );
    assert!(overload.used() < 100 << 30);
}

#[test]
fn without_a_ceiling_everything_is_taken_on() {
    let overload = Overload::new(Asked::Off).unwrap();
    assert_eq!((overload.ceiling(), overload.level()), (None, Level::Clear));
    assert_eq!(burst(&overload, Work::Tunnel, Standing::Greedy).len(), 1000);
    assert_eq!(overload.charged(), 0);
    assert_eq!(*overload.sizes(), Sizes::within(None));
}

#[test]
fn a_ceiling_below_what_the_process_needs_is_refused_with_what_that_is() {
    let low = Overload::new(Asked::Bytes(20 * MIB)).unwrap_err();
    assert_eq!((low.ceiling, low.origin), (20 * MIB, Origin::Configured));
    assert!(low.needed >= sizes::LEAST);
    let told = low.to_string();
    for part in ["20 MiB (AMBIT_MEMORY_CEILING)", "are needed at least", "AMBIT_MEMORY_CEILING=off"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let enough = low.needed.next_multiple_of(MIB) + 16 * MIB;
    assert!(Overload::new(Asked::Bytes(enough)).is_ok());
}

#[test]
fn what_is_refused_is_shown() {
    let overload = guard(61 * MIB, 64 * MIB);
    assert_eq!(overload.level(), Level::Full);
    assert!(overload.admit(Work::Request, Standing::Modest).is_none());
    let metrics = Metrics::new();
    overload.register(&metrics);
    overload.shed(Work::Tunnel);
    overload.shed(Work::Request);
    let text = metrics.encode();
    for line in [
        "ambit_connections_shed_total 1\n",
        "ambit_requests_shed_total 1\n",
        "ambit_memory_charged_bytes 0\n",
        "ambit_memory_ceiling_bytes 67108864\n",
        "ambit_overload_level 2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
