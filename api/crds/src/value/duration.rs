//! Durations: Go's notation, which Istio's objects use, and the narrower one of Gateway API.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Units and how many nanoseconds they have; longer names first where one begins with another.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

/// Reads `1h30m`, `2.5s`, `100ms`.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let (name, scale) = UNITS.iter().find(|(name, _)| tail.starts_with(name))?;
        total = total.checked_add(nanoseconds(number, *scale)?)?;
        rest = &tail[name.len()..];
    }
    let whole = u64::try_from(total / 1_000_000_000).ok()?;
    let fraction = u32::try_from(total % 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(whole, fraction))
}

fn nanoseconds(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut total =
        if whole.is_empty() { 0 } else { whole.parse::<u64>().ok().map(u128::from)?.checked_mul(scale)? };
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        total += unit * u128::from(digit - b'0');
    }
    Some(total)
}

/// Gateway API: up to four numbers of at most five digits, each with one of h, m, s, ms, in any order.
fn is_gateway_form(text: &str) -> bool {
    let mut parts = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = ["ms", "h", "m", "s"].into_iter().find(|unit| rest[digits..].starts_with(unit));
        let Some(unit) = unit else { return false };
        if !(1..=5).contains(&digits) {
            return false;
        }
        parts += 1;
        rest = &rest[digits + unit.len()..];
    }
    (1..=4).contains(&parts)
}

/// An Istio duration that may be absent.
pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = parse(&text).ok_or_else(|| {
        D::Error::custom(format!("{text:?} is not a duration; write for example 10s or 500ms"))
    });
    parsed.map(Some)
}

/// A Gateway API duration that may be absent.
pub(crate) fn optional_gateway_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = is_gateway_form(&text).then(|| parse(&text)).flatten().ok_or_else(|| {
        D::Error::custom(format!("{text:?} is not a duration; write for example 10s, 500ms or 1h30m"))
    });
    parsed.map(Some)
}
