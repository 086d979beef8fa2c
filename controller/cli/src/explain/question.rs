//! What is asked: who calls whom, and with which request.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Arguments;
use crate::failure::Failure;

/// One question, as it was written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    pub(super) from: String,
    pub(super) to: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    pub(super) tcp: bool,
}

/// A question that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unasked {
    #[error("not a request: {0}")]
    Line(String),
    #[error("{0:?} is no header; write KEY:VALUE")]
    Header(String),
    #[error("{what} {text:?} cannot be sent")]
    Unsendable { what: &'static str, text: String },
    #[error(transparent)]
    Target(#[from] Failure),
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

impl Question {
    pub(super) fn from_arguments(arguments: &Arguments) -> Result<Self, Unasked> {
        let mut headers = Map::new();
        for header in &arguments.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| Unasked::Header(header.clone()))?;
            let entry = headers.entry(name.trim().to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = entry {
                values.push(value.trim().into());
            }
        }
        Ok(Self {
            from: arguments.from.clone().unwrap_or_default(),
            to: arguments.to.clone().unwrap_or_default(),
            method: arguments.method.clone(),
            path: arguments.path.clone(),
            headers,
            authority: arguments.authority.clone(),
            tcp: arguments.tcp,
        })
    }

    pub(super) fn from_line(line: &str) -> Result<Self, Unasked> {
        serde_json::from_str(line).map_err(|error| Unasked::Line(error.to_string()))
    }

    /// What is asked for, in few words.
    pub(super) fn request_line(&self) -> String {
        if self.tcp { "bytes".to_owned() } else { format!("{} {}", self.method, self.path) }
    }

    /// The head of the request, for a target that is called `authority`.
    pub(super) fn head(&self, authority: &str) -> Result<Parts, Unasked> {
        let unsendable = |what, text: &str| Unasked::Unsendable { what, text: text.to_owned() };
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method =
            Method::from_bytes(self.method.as_bytes()).map_err(|_| unsendable("the method", &self.method))?;
        parts.uri = self.path.parse::<Uri>().map_err(|_| unsendable("the path", &self.path))?;
        let host = self.authority.as_deref().unwrap_or(authority);
        let value = HeaderValue::from_str(host).map_err(|_| unsendable("the authority", host))?;
        parts.headers.insert(http::header::HOST, value);
        for (name, values) in &self.headers {
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable("the header", name))?;
            let values = match values {
                Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            for value in values {
                let text = value.as_str().unwrap_or_default();
                let value = HeaderValue::from_str(text).map_err(|_| unsendable("the header", text))?;
                parts.headers.append(key.clone(), value);
            }
        }
        Ok(parts)
    }
}
