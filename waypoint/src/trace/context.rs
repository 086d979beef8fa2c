//! Trace context in headers: W3C's `traceparent`, and B3 in several headers or one.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

#[cfg(test)]
mod tests;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Which headers a collector's own clients write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `traceparent`.
    W3c,
    /// `x-b3-…`.
    B3,
}

/// The name of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId {
    value: NonZeroU128,
    /// Written with 64 bits, as it came.
    short: bool,
}

/// The name of a span within its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// Our span.
    pub span: SpanId,
    /// The client's span.
    pub parent: Option<SpanId>,
    /// Whether its spans are recorded.
    pub sampled: bool,
}

/// What a request came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// The trace, and the client's span in it.
    pub parent: Option<(TraceId, SpanId)>,
    /// What was decided about recording it.
    pub sampled: Option<bool>,
}

impl TraceId {
    /// As OTLP has it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.value.get().to_be_bytes()
    }
}

impl SpanId {
    /// As OTLP has it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl FromStr for TraceId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let short = match text.len() {
            16 => true,
            32 => false,
            _ => return Err(()),
        };
        let value = NonZeroU128::new(hex(text)?).ok_or(())?;
        Ok(Self { value, short })
    }
}

impl FromStr for SpanId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let value = if text.len() == 16 { hex(text)? } else { 0 };
        u64::try_from(value).ok().and_then(NonZeroU64::new).map(Self).ok_or(())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.short { write!(f, "{:016x}", self.value) } else { write!(f, "{:032x}", self.value) }
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Context {
    /// Our place after the client's, or the first of a new trace.
    pub fn child(parent: Option<(TraceId, SpanId)>, sampled: bool, rng: &mut impl Rng) -> Self {
        let trace = parent.map(|(trace, _)| trace);
        Self {
            trace: trace.unwrap_or_else(|| TraceId { value: rng.random(), short: false }),
            span: SpanId(rng.random()),
            parent: parent.map(|(_, span)| span),
            sampled,
        }
    }
}

/// What a request came with: of two forms, the collector's own counts.
pub fn read(headers: &HeaderMap, native: Form) -> Came {
    let (w3c, b3) = (read_w3c(headers), read_b3(headers));
    let (first, second) = match native {
        Form::W3c => (w3c, b3),
        Form::B3 => (b3, w3c),
    };
    first.or(second).unwrap_or_default()
}

/// Writes the context in the collector's form and in those in which one came.
pub fn write(context: &Context, native: Form, headers: &mut HeaderMap) {
    let single = headers.contains_key(B3);
    let several = [&TRACE_ID, &SPAN_ID, &SAMPLED, &FLAGS].iter().any(|name| headers.contains_key(*name));
    if native == Form::W3c || headers.contains_key(TRACEPARENT) {
        // What vendors wrote belongs to their trace; without that it means nothing.
        if read_w3c(headers).and_then(|came| came.parent).map(|(trace, _)| trace) != Some(context.trace) {
            headers.remove(TRACESTATE);
        }
        let flags = u8::from(context.sampled);
        set(headers, TRACEPARENT, &format!("00-{:032x}-{}-{flags:02x}", context.trace.value, context.span));
    }
    if single {
        let parent = context.parent.map_or_else(String::new, |parent| format!("-{parent}"));
        let sampled = u8::from(context.sampled);
        set(headers, B3, &format!("{}-{}-{sampled}{parent}", context.trace, context.span));
    }
    if several || (native == Form::B3 && !single) {
        set(headers, TRACE_ID, &context.trace.to_string());
        set(headers, SPAN_ID, &context.span.to_string());
        match context.parent {
            Some(parent) => set(headers, PARENT_ID, &parent.to_string()),
            None => drop(headers.remove(PARENT_ID)),
        }
        set(headers, SAMPLED, if context.sampled { "1" } else { "0" });
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// `version-trace-span-flags`; later versions may say more after that.
fn read_w3c(headers: &HeaderMap) -> Option<Came> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let mut parts = value.to_str().ok()?.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = version.len() == 2 && version != "ff" && hex(version).is_ok();
    if !known || (version == "00" && parts.next().is_some()) || trace.len() != 32 || flags.len() != 2 {
        return None;
    }
    let sampled = hex(flags).ok()? & 1 == 1;
    Some(Came { parent: Some((trace.parse().ok()?, span.parse().ok()?)), sampled: Some(sampled) })
}

fn read_b3(headers: &HeaderMap) -> Option<Came> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(single) = text(&B3) {
        return read_b3_single(single);
    }
    let sampled = match (text(&FLAGS), text(&SAMPLED)) {
        (Some("1"), _) => Some(true),
        (_, Some(sampled)) => decision(sampled),
        _ => None,
    };
    let parent = text(&TRACE_ID).zip(text(&SPAN_ID));
    let parent = parent.and_then(|(trace, span)| Some((trace.parse().ok()?, span.parse().ok()?)));
    (parent.is_some() || sampled.is_some()).then_some(Came { parent, sampled })
}

/// `trace-span[-sampled[-parent]]`, or the decision alone.
fn read_b3_single(value: &str) -> Option<Came> {
    if let Some(sampled) = decision(value) {
        return Some(Came { parent: None, sampled: Some(sampled) });
    }
    let mut parts = value.split('-');
    let (trace, span) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Came { parent: Some((trace, span)), sampled: parts.next().and_then(decision) })
}

fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// Digits alone, in either case; the parser would take a sign as well.
fn hex(text: &str) -> Result<u128, ()> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(());
    }
    u128::from_str_radix(text, 16).map_err(drop)
}
