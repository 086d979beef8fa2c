//! Tables of values.

use std::time::Duration;

use super::{Percent, parse_duration};

#[test]
fn durations_are_sums_of_numbers_with_units() {
    let table = [
        ("10s", Some(Duration::from_secs(10))),
        ("0", Some(Duration::ZERO)),
        ("0s", Some(Duration::ZERO)),
        ("2.5s", Some(Duration::from_millis(2500))),
        (".5s", Some(Duration::from_millis(500))),
        ("1h30m", Some(Duration::from_secs(5400))),
        ("1m0.5s", Some(Duration::from_millis(60_500))),
        ("100ms", Some(Duration::from_millis(100))),
        ("7us", Some(Duration::from_micros(7))),
        ("7µs", Some(Duration::from_micros(7))),
        ("", None),
        ("10", None),
        ("s", None),
        (".s", None),
        ("1.2.3s", None),
        ("-1s", None),
        ("10 s", None),
        ("10sec", None),
        ("1d", None),
        ("99999999999999999999s", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_duration(text), expected, "{text:?}");
    }
}

#[test]
fn percentages_are_exact_to_the_millionth() {
    let table = [(0.0, Some(0)), (0.0001, Some(1)), (12.5, Some(125_000)), (100.0, Some(1_000_000))];
    for (percent, millionths) in table {
        assert_eq!(Percent::new(percent).ok().map(Percent::millionths), millionths);
    }
    for percent in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
        assert!(Percent::new(percent).is_err(), "{percent}");
    }
    assert_eq!(Percent::whole(10), Percent::new(10.0).unwrap());
    assert_eq!(Percent::whole(200), Percent::ALL);
}
