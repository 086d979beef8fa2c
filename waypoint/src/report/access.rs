//! Access logs: Envoy's operator language, parsed once when the configuration brings it, and one line per request or
//! connection.

use std::fmt::Write;

use ambit_api::waypoint::AccessLog;
use http::{HeaderMap, HeaderName, HeaderValue};

use operator::Operator;

use super::Event;

mod operator;
#[cfg(test)]
mod tests;

/// A line longer than this is cut: no peer decides how much memory a line takes.
const MAX_LINE: usize = 16 << 10;

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
    Json(Vec<(&'static str, Operator)>),
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Operator),
}

impl Format {
    /// Of a configuration.
    pub fn new(log: &AccessLog) -> Self {
        let shape = match log {
            AccessLog::Text(format) => Shape::Text(parse(format.as_deref().unwrap_or(DEFAULT))),
            AccessLog::Json => Shape::Json(
                JSON.iter()
                    .chain([&ROUTE])
                    .map(|(key, operator)| (*key, Operator::parse(operator)))
                    .collect(),
            ),
        };
        let mut answered = Vec::new();
        match &shape {
            Shape::Text(pieces) => pieces.iter().for_each(|piece| {
                if let Piece::Value(operator) = piece {
                    answered.extend(operator.answered().cloned());
                }
            }),
            Shape::Json(keys) => {
                keys.iter().for_each(|(_, operator)| answered.extend(operator.answered().cloned()))
            }
        }
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
            Shape::Json(keys) => json(keys, event),
        }
    }
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
    if !text.ends_with('\n') {
        text.push('\n');
    }
    pieces.push(Piece::Text(text));
    pieces
}

fn text(pieces: &[Piece], event: &Event<'_>) -> String {
    let mut line = String::with_capacity(512);
    for piece in pieces {
        match piece {
            Piece::Text(text) => line.push_str(text),
            Piece::Value(operator) => {
                let before = line.len();
                // Writing into a String cannot fail, so what fails is a value that is not there.
                if operator.write(event, &mut line).is_err() || line.len() == before {
                    line.truncate(before);
                    line.push('-');
                }
            }
        }
    }
    cut(&mut line);
    line
}

fn cut(line: &mut String) {
    if line.len() > MAX_LINE {
        let end = (0..=MAX_LINE).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
        line.truncate(end);
        line.push('\n');
    }
}

fn json(keys: &[(&'static str, Operator)], event: &Event<'_>) -> String {
    let mut line = String::with_capacity(768);
    let mut value = String::new();
    for (index, (key, operator)) in keys.iter().enumerate() {
        line.push(if index == 0 { '{' } else { ',' });
        let _ = write!(line, "\"{key}\":");
        value.clear();
        let written = operator.write(event, &mut value).is_ok() && !value.is_empty();
        let longest = (0..=MAX_LINE.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        value.truncate(longest.unwrap_or_default());
        match (written, operator.is_number()) {
            (false, _) => line.push_str("null"),
            (true, true) => line.push_str(&value),
            (true, false) => {
                line.push_str(&serde_json::Value::String(std::mem::take(&mut value)).to_string())
            }
        }
    }
    line.push_str("}\n");
    line
}
