//! Lengths of time as people and Istio's manifests write them.

use std::time::Duration;

/// Units from the longest, in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Text that is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 5s, 100ms, 1m30s or plain seconds")]
pub struct InvalidDuration;

/// Reads `5s`, `100ms`, `1.5h`, `1m30s`, or plain seconds.
///
/// # Errors
/// When the text is none of these, is negative, or is too long to hold.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(InvalidDuration)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        total = total.checked_add(part(number, unit)?).ok_or(InvalidDuration)?;
        rest = tail;
    }
    if text.is_empty() { Err(InvalidDuration) } else { Ok(total) }
}

/// The shortest text that [`parse_duration`] reads back as the same length, in one unit.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let (name, unit) = UNITS.iter().find(|(_, unit)| nanoseconds.is_multiple_of(*unit)).unwrap_or(&("ns", 1));
    format!("{}{name}", nanoseconds / unit)
}

/// One number with its unit. Digits only, with at most one point: no signs, exponents or infinities.
fn part(number: &str, unit: &str) -> Result<Duration, InvalidDuration> {
    let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidDuration)?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain {
        return Err(InvalidDuration);
    }
    if let Ok(whole) = number.parse::<u64>() {
        let total = u128::from(whole) * nanoseconds;
        let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| InvalidDuration)?;
        let rest = u32::try_from(total % 1_000_000_000).map_err(|_| InvalidDuration)?;
        return Ok(Duration::new(seconds, rest));
    }
    let fraction: f64 = number.parse().map_err(|_| InvalidDuration)?;
    // The table's units are far below 2^53, so this is exact.
    #[expect(clippy::cast_precision_loss, reason = "at most 3.6e12")]
    let unit = *nanoseconds as f64;
    Duration::try_from_secs_f64(fraction * unit / 1e9).map_err(|_| InvalidDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("5s", 5_000),
            ("100ms", 100),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1m30s", 90_000),
            ("1h0m0.5s", 3_600_500),
            ("1.5h", 5_400_000),
            ("7", 7_000),
            ("0", 0),
            ("0s", 0),
            ("2000us", 2),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        let cases = [
            "",
            "s",
            "5 s",
            "-5s",
            "-5",
            "+5s",
            "5x",
            "5S",
            "1e3s",
            "infs",
            "NaNs",
            "1..5s",
            ".",
            ".s",
            "5s5",
            "1.5",
            "99999999999999999999h",
            "18446744073709551615h",
        ];
        for text in cases {
            assert_eq!(parse_duration(text), Err(InvalidDuration), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let cases = [(0, "0s"), (1_500, "1500ms"), (90_000, "90s"), (120_000, "2m"), (86_400_000, "24h")];
        for (milliseconds, text) in cases {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }
}
