//! Why a message from the wire is not taken into the model: which field, and what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A field that does not hold what it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field's name in the message, with its place inside lists where that helps to find it.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The field is required.
    #[error("is missing or empty")]
    Missing,
    /// An address has 4 or 16 bytes.
    #[error("{0} bytes are not an IP address")]
    Address(usize),
    /// A prefix is at most as long as its address.
    #[error("/{length} is too long for {address}")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// The prefix length given.
        length: u32,
    },
    /// A port has 16 bits.
    #[error("{0} is not a port")]
    Port(u32),
    /// An enumeration's value that this version does not know.
    #[error("value {0} is not known")]
    Value(i32),
    /// A name of the form `namespace/name`.
    #[error("{0:?} is not of the form namespace/name")]
    Name(String),
    /// A value that is known and not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A value that cannot be used, and why.
    #[error("{0}")]
    Unusable(String),
    /// A trust domain or identity that breaks the SPIFFE rules.
    #[error("{0}")]
    Identity(#[from] crate::identity::InvalidIdentity),
}

impl InvalidField {
    /// The same fault, seen from the message around it.
    pub(crate) fn under(self, outer: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        Self { field: format!("{outer}{dot}{}", self.field), ..self }
    }
}

impl Problem {
    pub(crate) fn of(self, field: impl Into<String>) -> InvalidField {
        InvalidField { field: field.into(), problem: self }
    }
}

/// An address of 4 or 16 bytes; IPv4-mapped IPv6 is folded to IPv4.
pub(crate) fn address(bytes: &[u8]) -> Result<IpAddr, Problem> {
    unfolded(bytes).map(|address| address.to_canonical())
}

/// A prefix; of an IPv4-mapped IPv6 address, the IPv4 prefix when it is long enough to be one.
pub(crate) fn prefix(bytes: &[u8], length: u32) -> Result<IpNet, Problem> {
    let given = unfolded(bytes)?;
    let address = given.to_canonical();
    let too_long = Problem::Prefix { address: given, length };
    let short = u8::try_from(length).map_err(|_| too_long.clone())?;
    match (given, address, short.checked_sub(96)) {
        (IpAddr::V6(_), IpAddr::V4(_), Some(rest)) => IpNet::new(address, rest),
        _ => IpNet::new(given, short),
    }
    .map_err(|_| too_long)
}

/// A port; 0 is left to the caller, who knows whether it has a meaning.
pub(crate) fn port(number: u32) -> Result<u16, Problem> {
    u16::try_from(number).map_err(|_| Problem::Port(number))
}

/// The two halves of `namespace/name`; the namespace may be empty, the name may not.
pub(crate) fn name(text: &str) -> Result<(&str, &str), Problem> {
    text.split_once('/')
        .filter(|(_, name)| !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| Problem::Name(text.to_owned()))
}

/// The bytes of an address, as messages carry it.
pub(crate) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn unfolded(bytes: &[u8]) -> Result<IpAddr, Problem> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).map_err(|_| Problem::Address(bytes.len()))?;
    Ok(Ipv6Addr::from(sixteen).into())
}
