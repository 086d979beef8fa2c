//! The one form of a request that is matched, judged and forwarded. What two programs could read differently is
//! rejected; what has one meaning in several spellings is brought into one.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, Method, Version, header};

use crate::waypoint::PathNormalization;

mod path;
#[cfg(test)]
mod tests;

pub use path::{BadPath, Normalised, normalise};

/// The authority of a request in canonical form: lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: Cow<'a, str>,
}

/// Why an authority is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthority {
    /// There is none.
    #[error("the host is missing")]
    Missing,
    /// More than one, or two that differ.
    #[error("several hosts are given")]
    Several,
    /// A byte that no host name or address has.
    #[error("the host has a character that no host has")]
    Character,
    /// The port is no number of a port.
    #[error("the host's port is not a port")]
    Port,
}

/// Why a request is rejected before anybody looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The path.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] BadAuthority),
    /// Both `Content-Length` and `Transfer-Encoding`: where the body ends depends on who reads.
    #[error("both Content-Length and Transfer-Encoding are given")]
    TwoLengths,
    /// `Content-Length` is repeated or not a plain number.
    #[error("Content-Length is not one number")]
    ContentLength,
    /// `Transfer-Encoding` is anything but `chunked`, or where it must not be.
    #[error("Transfer-Encoding is not chunked")]
    TransferEncoding,
    /// A CONNECT, or another method this proxy does not carry.
    #[error("the method is not carried")]
    Method,
    /// A line of the head ends without a carriage return, or does not end.
    #[error("a line does not end in CRLF")]
    Line,
    /// The size of a chunk is no number, or the chunk does not end where it says.
    #[error("a chunk is not as long as it says")]
    Chunk,
    /// A header's value has a control byte.
    #[error("a header has a control byte")]
    Header,
}

impl Authority<'_> {
    /// Host, and port if one was sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host alone; an IPv6 address with its brackets.
    pub fn host(&self) -> &str {
        host(&self.text)
    }
}

/// The host of a canonical authority.
pub(crate) fn host(authority: &str) -> &str {
    let end = match authority.rfind(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    &authority[..end]
}

/// Brings an authority into canonical form. Allocates only if it was not.
pub fn authority(text: &str) -> Result<Authority<'_>, BadAuthority> {
    let host = host(text);
    let port = &text[host.len()..];
    if let Some(port) = port.strip_prefix(':') {
        let plain = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err() {
            return Err(BadAuthority::Port);
        }
    } else if !port.is_empty() {
        return Err(BadAuthority::Character);
    }
    match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_err() => {
            return Err(BadAuthority::Character);
        }
        Some(_) => {}
        None => {
            if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
                return Err(BadAuthority::Character);
            }
        }
    }
    let bare = host.strip_suffix('.').unwrap_or(host);
    if bare.is_empty() || bare.ends_with('.') {
        return Err(if host.is_empty() { BadAuthority::Missing } else { BadAuthority::Character });
    }
    let canonical = bare.len() == host.len() && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let text = if canonical {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{bare}{port}").to_ascii_lowercase())
    };
    Ok(Authority { text })
}

/// The one authority of a request: that of its target, which a `Host` header must not contradict.
pub fn request_authority(parts: &Parts) -> Result<Authority<'_>, BadAuthority> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(BadAuthority::Several);
    }
    let header = match header {
        Some(value) => Some(authority(value.to_str().map_err(|_| BadAuthority::Character)?)?),
        None => None,
    };
    let target = match parts.uri.authority() {
        Some(target) => Some(authority(target.as_str())?),
        None => None,
    };
    match (target, header) {
        (Some(target), Some(header)) if target != header => Err(BadAuthority::Several),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(BadAuthority::Missing),
    }
}

/// Rejects what could be read in two ways: the length of the body, the host, control bytes.
pub fn check(parts: &Parts) -> Result<(), BadRequest> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(BadRequest::Method);
    }
    check_lengths(&parts.headers, parts.version)?;
    let control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if parts.headers.values().any(|value| value.as_bytes().iter().any(control)) {
        return Err(BadRequest::Header);
    }
    request_authority(parts)?;
    Ok(())
}

fn check_lengths(headers: &HeaderMap, version: Version) -> Result<(), BadRequest> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(BadRequest::ContentLength);
    }
    if let Some(length) = length {
        let digits = length.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(BadRequest::ContentLength);
        }
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if length.is_some() {
        return Err(BadRequest::TwoLengths);
    }
    let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    if !chunked || version != Version::HTTP_11 { Err(BadRequest::TransferEncoding) } else { Ok(()) }
}

/// Head and target of a request at once: checks it and normalises its path.
pub fn request(parts: &Parts, how: PathNormalization) -> Result<Normalised<'_>, BadRequest> {
    check(parts)?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    Ok(normalise(target, how)?)
}
