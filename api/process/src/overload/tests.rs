//! Levels as a table, and what is admitted between two looks.

use super::*;

const MIB: u64 = 1 << 20;

/// A guard as a look at so much memory leaves it.
fn guard(before: Level, used: u64, ceiling: u64) -> Overload {
    let overload = Overload::new(Asked::Off);
    overload.state.level.store(before as u8, Ordering::Relaxed);
    overload.find(used, Some(ceiling));
    overload
}

#[test]
fn a_level_begins_high_and_ends_low() {
    use Level::{Clear, Full, Tight};
    let cases = [
        // (before, percent in use, after)
        (Clear, 0, Clear),
        (Clear, 79, Clear),
        (Clear, 80, Tight),
        (Clear, 95, Full),
        (Clear, 300, Full),
        (Tight, 79, Tight),
        (Tight, 70, Tight),
        (Tight, 69, Clear),
        (Tight, 90, Full),
        (Full, 89, Full),
        (Full, 80, Full),
        (Full, 79, Tight),
        (Full, 69, Clear),
    ];
    for (before, percent, after) in cases {
        assert_eq!(before.after(percent * MIB, 100 * MIB), after, "{before} at {percent} %");
    }
}

#[test]
fn a_burst_is_bounded_before_the_next_look() {
    let clear = guard(Level::Clear, 76 * MIB, 100 * MIB);
    let admitted =
        |work: Work, standing| (0..100_000).filter(|_| clear.charge(work.cost(), standing)).count();
    // A thirty-second of the ceiling until the next look.
    assert_eq!(admitted(Work::Tunnel, Standing::Greedy), 12);
    assert_eq!(admitted(Work::Connection, Standing::Greedy), 2, "the tunnels took nearly all");
    assert_eq!(admitted(Work::Connection, Standing::Modest), 160, "10 MiB more for those who have little");
    assert!(clear.admits(Work::Request, Standing::Greedy), "requests on open connections go on");
}

#[test]
fn what_has_cost_less_than_it_might_leaves_room_for_more() {
    let overload = Overload::new(Asked::Bytes(1 << 40));
    overload.find(799 << 30, Some(1 << 40));
    assert_eq!(overload.level(), Level::Clear);
    overload.state.room.store(0, Ordering::Relaxed);
    assert!(!overload.charge(1, Standing::Greedy));
    assert!(
        overload.admits(Work::Tunnel, Standing::Greedy),
        "a new look finds what this process really uses"
    );
    assert!(overload.used() < 100 << 30);
}

#[test]
fn the_modest_are_refused_last() {
    // (level before, percent in use) -> (greedy connection, modest connection, request)
    let cases = [
        (Level::Clear, 50, [true, true, true]),
        (Level::Clear, 80, [false, true, true]),
        (Level::Tight, 75, [false, true, true]),
        (Level::Clear, 91, [false, false, false]),
        (Level::Full, 85, [false, false, false]),
    ];
    for (before, percent, expected) in cases {
        let overload = guard(before, percent * MIB, 100 * MIB);
        let admitted = [
            overload.admits(Work::Connection, Standing::Greedy),
            overload.admits(Work::Connection, Standing::Modest),
            overload.admits(Work::Request, Standing::Greedy),
        ];
        assert_eq!(admitted, expected, "{before} at {percent} %");
    }
}

#[test]
fn without_a_ceiling_everything_is_taken_on() {
    let overload = Overload::new(Asked::Off);
    assert_eq!((overload.ceiling(), overload.level()), (None, Level::Clear));
    assert!((0..10_000).all(|_| overload.admits(Work::Tunnel, Standing::Greedy)));
}

#[test]
fn a_ceiling_below_what_the_process_needs_refuses_from_the_first_moment_and_is_shown() {
    let overload = Overload::new(Asked::Bytes(4096));
    assert_eq!(overload.level(), Level::Full);
    assert!(!overload.admits(Work::Request, Standing::Modest));
    let metrics = Metrics::new();
    overload.register(&metrics);
    overload.shed(Work::Tunnel);
    overload.shed(Work::Request);
    let text = metrics.encode();
    for line in [
        "ambit_connections_shed_total 1\n",
        "ambit_requests_shed_total 1\n",
        "ambit_memory_ceiling_bytes 4096\n",
        "ambit_overload_level 2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
