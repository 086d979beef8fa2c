//! Access logs: Envoy's operator language, parsed once when the configuration brings it, and one line per request or
//! connection.

use std::fmt::Write;

use ambit_api::waypoint::AccessLog;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use operator::Operator;

use super::Event;

mod operator;
#[cfg(test)]
mod tests;

/// A line longer than this is cut: no peer decides how much memory a line takes.
const MAX_LINE: usize = 16 << 10;

/// The same for one value of a JSON line, which stays JSON.
const MAX_VALUE: usize = 4 << 10;

/// What Istio's proxies print where nothing else is said (apis §5.3).
const DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// The keys of the JSON encoding, and the operator whose value each holds.
const JSON: [(&str, &str); 23] = [
    ("start_time", "START_TIME"),
    ("method", "REQ(:METHOD)"),
    ("path", "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)"),
    ("protocol", "PROTOCOL"),
    ("response_code", "RESPONSE_CODE"),
    ("response_flags", "RESPONSE_FLAGS"),
    ("response_code_details", "RESPONSE_CODE_DETAILS"),
    ("connection_termination_details", "CONNECTION_TERMINATION_DETAILS"),
    ("upstream_transport_failure_reason", "UPSTREAM_TRANSPORT_FAILURE_REASON"),
    ("bytes_received", "BYTES_RECEIVED"),
    ("bytes_sent", "BYTES_SENT"),
    ("duration", "DURATION"),
    ("upstream_service_time", "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)"),
    ("x_forwarded_for", "REQ(X-FORWARDED-FOR)"),
    ("user_agent", "REQ(USER-AGENT)"),
    ("request_id", "REQ(X-REQUEST-ID)"),
    ("authority", "REQ(:AUTHORITY)"),
    ("upstream_host", "UPSTREAM_HOST"),
    ("upstream_cluster", "UPSTREAM_CLUSTER_RAW"),
    ("upstream_local_address", "UPSTREAM_LOCAL_ADDRESS"),
    ("downstream_local_address", "DOWNSTREAM_LOCAL_ADDRESS"),
    ("downstream_remote_address", "DOWNSTREAM_REMOTE_ADDRESS"),
    ("requested_server_name", "REQUESTED_SERVER_NAME"),
];

/// The last key, apart because a route has a name of its own.
const ROUTE: (&str, &str) = ("route_name", "ROUTE_NAME");

/// How lines are written.
#[derive(Debug)]
pub struct Format {
    shape: Shape,
    /// Headers of answers that lines show; they are gone when a line is written, so they are kept until then.
    answered: Vec<HeaderName>,
}

#[derive(Debug)]
enum Shape {
    Text(Vec<Piece>),
    /// By keys in their JSON form.
    Json(Vec<(String, Member)>),
}

/// A value of a JSON line.
#[derive(Debug, PartialEq, Eq)]
enum Member {
    /// Of one operator: a number if it is one, `null` if it is absent.
    Value(Operator),
    /// Text with operators in it.
    Text(Vec<Piece>),
    /// JSON as it stands.
    Constant(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Operator),
}

impl Format {
    /// Of a configuration. A JSON format that is no object stands for the default one.
    pub fn new(log: &AccessLog) -> Self {
        let shape = match log {
            AccessLog::Text(format) => {
                let mut pieces = parse(format.as_deref().unwrap_or(DEFAULT));
                if !matches!(pieces.last(), Some(Piece::Text(text)) if text.ends_with('\n')) {
                    pieces.push(Piece::Text("\n".to_owned()));
                }
                Shape::Text(pieces)
            }
            AccessLog::Json(format) => {
                let object = format.as_deref().and_then(|format| serde_json::from_str(format).ok());
                Shape::Json(object.map_or_else(default_members, members))
            }
        };
        let mut answered = Vec::new();
        shape.operators(&mut |operator| answered.extend(operator.answered().cloned()));
        Self { shape, answered }
    }

    /// What has to be kept of an answer's head until the line is written.
    pub fn keep(&self, answer: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let kept = self.answered.iter().filter_map(|name| Some((name.clone(), answer.get(name)?.clone())));
        kept.collect()
    }

    /// The line of one request or connection, with its line feed.
    pub fn line(&self, event: &Event<'_>) -> String {
        match &self.shape {
            Shape::Text(pieces) => text(pieces, event),
            Shape::Json(members) => json(members, event),
        }
    }
}

impl Shape {
    fn operators(&self, each: &mut impl FnMut(&Operator)) {
        let pieces = |pieces: &[Piece], each: &mut dyn FnMut(&Operator)| {
            for piece in pieces {
                if let Piece::Value(operator) = piece {
                    each(operator);
                }
            }
        };
        match self {
            Self::Text(text) => pieces(text, each),
            Self::Json(members) => members.iter().for_each(|(_, member)| match member {
                Member::Value(operator) => each(operator),
                Member::Text(text) => pieces(text, each),
                Member::Constant(_) => {}
            }),
        }
    }
}

fn default_members() -> Vec<(String, Member)> {
    let keys = JSON.iter().chain([&ROUTE]);
    keys.map(|(key, operator)| (format!("\"{key}\""), Member::Value(Operator::parse(operator)))).collect()
}

fn members(object: Map<String, Value>) -> Vec<(String, Member)> {
    let member = |value| match value {
        Value::String(format) => {
            let mut pieces = parse(&format);
            match pieces.pop() {
                Some(Piece::Value(operator)) if pieces.is_empty() => Member::Value(operator),
                last => {
                    pieces.extend(last);
                    Member::Text(pieces)
                }
            }
        }
        other => Member::Constant(other.to_string()),
    };
    object.into_iter().map(|(key, value)| (Value::String(key).to_string(), member(value))).collect()
}

/// Text between operators stands for itself; `%%` is a percent sign, and so is one that begins no operator.
fn parse(format: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        rest = after;
        match operator::split(after) {
            Some(("", after)) => {
                text.push('%');
                rest = after;
            }
            Some((operator, after)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Value(Operator::parse(operator)));
                rest = after;
            }
            None => text.push('%'),
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

fn text(pieces: &[Piece], event: &Event<'_>) -> String {
    let mut line = String::with_capacity(512);
    write_text(pieces, event, &mut line);
    if line.len() > MAX_LINE {
        cut(&mut line, MAX_LINE);
        line.push('\n');
    }
    line
}

fn write_text(pieces: &[Piece], event: &Event<'_>, line: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => line.push_str(text),
            Piece::Value(operator) => {
                let before = line.len();
                // Writing into a String cannot fail, so what fails is a value that is not there.
                if operator.write(event, line).is_err() || line.len() == before {
                    line.truncate(before);
                    line.push('-');
                }
            }
        }
    }
}

fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

fn json(members: &[(String, Member)], event: &Event<'_>) -> String {
    let mut line = String::with_capacity(768);
    for (index, (key, member)) in members.iter().enumerate() {
        line.push(if index == 0 { '{' } else { ',' });
        line.push_str(key);
        line.push(':');
        let mut value = String::new();
        match member {
            Member::Constant(text) => line.push_str(text),
            Member::Text(pieces) => {
                write_text(pieces, event, &mut value);
                quote(&mut line, value);
            }
            Member::Value(operator) => match operator.write(event, &mut value) {
                Err(_absent) => line.push_str("null"),
                Ok(()) if value.is_empty() => line.push_str("null"),
                Ok(()) if operator.is_number() => line.push_str(&value),
                Ok(()) => quote(&mut line, value),
            },
        }
    }
    line.push_str("}\n");
    line
}

fn quote(line: &mut String, mut text: String) {
    cut(&mut text, MAX_VALUE);
    // A string always has a JSON form.
    let _ = write!(line, "{}", Value::String(text));
}
