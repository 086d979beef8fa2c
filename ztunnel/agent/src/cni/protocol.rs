//! What the plugin and the agent say to each other: one packet of JSON there, the pod's network beside it, one packet back.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The version that both must speak.
pub const VERSION: u32 = 1;
/// The longest packet, in bytes.
pub const PACKET_LIMIT: usize = 16 * 1024;

/// What the plugin asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What happens to the pod.
    pub verb: Verb,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Its unique ID; runtimes before 2021 did not say it.
    pub uid: Option<String>,
    /// The addresses it was given.
    pub addresses: Vec<IpAddr>,
}

/// What happens to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Its network was made; nothing runs in it yet.
    Add,
    /// Its network will be taken away.
    Del,
    /// Is it as it should be?
    Check,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// How it stands.
    pub answer: Answer,
}

/// How a pod stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The mesh has nothing to do with it.
    Outside,
    /// The ztunnel serves it and its connections are redirected; for [`Verb::Del`], nothing is left of that.
    Done,
    /// Not yet, for this reason; to be asked again.
    NotYet(String),
    /// It was not understood, for this reason.
    Refused(String),
}

/// Why a packet cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// It is not what it should be.
    #[error("unreadable packet: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The other side is of another version of Ambit.
    #[error("the plugin and the agent speak different versions of their protocol ({other} and {VERSION})")]
    Version {
        /// What the other side speaks.
        other: u32,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Request {
    /// Reads a packet of the plugin's.
    pub fn read(packet: &[u8]) -> Result<Self, ProtocolError> {
        versioned(packet)?;
        Ok(serde_json::from_slice(packet)?)
    }
}

impl Response {
    /// Reads a packet of the agent's.
    pub fn read(packet: &[u8]) -> Result<Self, ProtocolError> {
        versioned(packet)?;
        Ok(serde_json::from_slice(packet)?)
    }
}

/// The version first: the rest of another one's packet may look different.
fn versioned(packet: &[u8]) -> Result<(), ProtocolError> {
    let Versioned { version: other } = serde_json::from_slice(packet)?;
    if other == VERSION { Ok(()) } else { Err(ProtocolError::Version { other }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_are_written() {
        let request = Request {
            version: VERSION,
            verb: Verb::Add,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            uid: Some("u".to_owned()),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let packet = serde_json::to_vec(&request).unwrap();
        let golden = r#"{"version":1,"verb":"add","namespace":"shop","name":"web","uid":"u","addresses":["10.0.0.1","fd00::1"]}"#;
        assert_eq!(String::from_utf8_lossy(&packet), golden);
        assert_eq!(Request::read(&packet).unwrap(), request);
        for (answer, golden) in [
            (Answer::Outside, r#"{"version":1,"answer":"outside"}"#),
            (Answer::Done, r#"{"version":1,"answer":"done"}"#),
            (Answer::NotYet("x".to_owned()), r#"{"version":1,"answer":{"notyet":"x"}}"#),
        ] {
            let response = Response { version: VERSION, answer };
            let packet = serde_json::to_vec(&response).unwrap();
            assert_eq!(String::from_utf8_lossy(&packet), golden);
            assert_eq!(Response::read(&packet).unwrap(), response);
        }
    }

    #[test]
    fn another_version_and_anything_else_are_refused() {
        let later = br#"{"version":2,"something":"else"}"#;
        assert!(matches!(Request::read(later), Err(ProtocolError::Version { other: 2 })));
        assert!(matches!(Response::read(later), Err(ProtocolError::Version { other: 2 })));
        let rows: [&[u8]; 5] = [
            b"",
            b"{}",
            br#"{"version":1}"#,
            br#"{"version":1,"verb":"add","namespace":"a","name":"b","uid":null,"addresses":[],"more":1}"#,
            br#"{"version":1,"verb":"shout","namespace":"a","name":"b","uid":null,"addresses":[]}"#,
        ];
        for packet in rows {
            assert!(matches!(Request::read(packet), Err(ProtocolError::Unreadable(_))), "{packet:?}");
        }
    }
}
