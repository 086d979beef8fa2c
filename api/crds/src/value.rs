//! Small values that several kinds share: durations, percentages, matches, addresses.

mod duration;

use std::num::NonZeroU16;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub use duration::parse as parse_duration;
pub(crate) use duration::{optional_duration, optional_gateway_duration};

/// How a text is compared, in Istio's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "RawMatch")]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Begins with it.
    Prefix(String),
    /// The whole text matches the expression (RE2 syntax).
    Regex(String),
    /// Any text; written as an empty match.
    Present,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMatch {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

/// A share of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "RawPercent")]
pub struct Percent {
    millionths: u32,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPercent {
    value: f64,
}

/// A number with a fraction, exact to the millionth and never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal {
    millionths: u64,
}

/// A port by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSelector {
    /// The number.
    #[serde(deserialize_with = "port")]
    pub number: NonZeroU16,
}

impl StringMatch {
    /// Whether it asks for presence alone; Istio also writes that as the expression `*`.
    pub fn is_presence(&self) -> bool {
        matches!(self, Self::Present) || matches!(self, Self::Regex(text) if text == "*")
    }
}

impl TryFrom<RawMatch> for StringMatch {
    type Error = String;

    fn try_from(raw: RawMatch) -> Result<Self, String> {
        match (raw.exact, raw.prefix, raw.regex) {
            (None, None, None) => Ok(Self::Present),
            (Some(text), None, None) => Ok(Self::Exact(text)),
            (None, Some(text), None) => Ok(Self::Prefix(text)),
            (None, None, Some(text)) => Ok(Self::Regex(text)),
            _ => Err("several of exact, prefix and regex are set; keep one of them".to_owned()),
        }
    }
}

impl Percent {
    /// Everything.
    pub const ALL: Self = Self { millionths: 1_000_000 };
    /// Nothing.
    pub const NONE: Self = Self { millionths: 0 };

    /// Of whole percents; more than 100 counts as 100.
    pub fn whole(percent: u32) -> Self {
        Self { millionths: percent.min(100) * 10_000 }
    }

    /// In millionths of the whole.
    pub fn millionths(self) -> u32 {
        self.millionths
    }

    /// A number from 0 to 100, rounded to the millionth of the whole.
    pub fn new(percent: f64) -> Result<Self, String> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("{percent} is not a percentage; write a number from 0 to 100"));
        }
        // In range, so the conversion is exact up to rounding.
        Ok(Self { millionths: (percent * 10_000.0).round() as u32 })
    }
}

impl TryFrom<RawPercent> for Percent {
    type Error = String;

    fn try_from(raw: RawPercent) -> Result<Self, String> {
        Self::new(raw.value).map_err(|error| format!("value: {error}"))
    }
}

impl Decimal {
    /// As a floating number.
    pub fn get(self) -> f64 {
        self.millionths as f64 / 1_000_000.0
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if !(0.0..=1e12).contains(&number) {
            return Err(D::Error::custom(format!("{number} is out of range; write a number from 0")));
        }
        Ok(Self { millionths: (number * 1_000_000.0).round() as u64 })
    }
}

/// A share written as a plain number of percents, which may be absent.
pub(crate) fn optional_percent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Percent>, D::Error> {
    Percent::new(f64::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

/// A port that must not be 0.
pub(crate) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.ok_or_else(|| D::Error::custom(format!("{number} is not a port; write a number from 1 to 65535")))
}

/// A port that may be absent.
pub(crate) fn optional_port<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZeroU16>, D::Error> {
    port(deserializer).map(Some)
}

struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>().map(|network| network.trunc()));
        network.map(Self).map_err(|_| {
            D::Error::custom(format!(
                "{text:?} is neither an IP address nor a CIDR; write for example 10.0.0.0/8"
            ))
        })
    }
}

/// Addresses and CIDRs; bits behind a prefix are dropped.
pub(crate) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Ok(Vec::<Network>::deserialize(deserializer)?.into_iter().map(|network| network.0).collect())
}

/// Bytes written in base64.
pub(crate) fn optional_base64<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64_STANDARD
        .decode(text)
        .map_err(|_| D::Error::custom("not base64; encode the bytes, or write the text as string"))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
