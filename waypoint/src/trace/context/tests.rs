//! Contexts as they come and as they go on.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Came, Context, Form, read, write};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn came(trace: &str, sampled: Option<bool>) -> Came {
    Came { parent: Some((trace.parse().unwrap(), SPAN.parse().unwrap())), sampled }
}

#[test]
fn every_form_is_read() {
    let w3c = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
    let none = Came::default();
    let cases: Vec<(Vec<(&'static str, String)>, Came)> = vec![
        (vec![], none),
        (vec![("traceparent", w3c("01"))], came(TRACE, Some(true))),
        (vec![("traceparent", w3c("00"))], came(TRACE, Some(false))),
        (vec![("traceparent", w3c("03"))], came(TRACE, Some(true))),
        (vec![("traceparent", format!("cc-{TRACE}-{SPAN}-01-more"))], came(TRACE, Some(true))),
        (vec![("b3", format!("{TRACE}-{SPAN}"))], came(TRACE, None)),
        (vec![("b3", format!("{TRACE}-{SPAN}-1"))], came(TRACE, Some(true))),
        (vec![("b3", format!("{TRACE}-{SPAN}-d-{SPAN}"))], came(TRACE, Some(true))),
        (vec![("b3", "0".to_owned())], Came { sampled: Some(false), ..none }),
        (vec![("x-b3-traceid", TRACE.to_owned()), ("x-b3-spanid", SPAN.to_owned())], came(TRACE, None)),
        (vec![("x-b3-sampled", "0".to_owned())], Came { sampled: Some(false), ..none }),
        (
            vec![("x-b3-sampled", "0".to_owned()), ("x-b3-flags", "1".to_owned())],
            Came { sampled: Some(true), ..none },
        ),
    ];
    for (pairs, expected) in cases {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for native in [Form::W3c, Form::B3] {
            assert_eq!(read(&headers(&pairs), native), expected, "{pairs:?}");
        }
    }
}

#[test]
fn what_is_no_context_begins_a_new_trace() {
    let zero = "0".repeat(32);
    let bad = [
        ("traceparent", format!("ff-{TRACE}-{SPAN}-01")),
        ("traceparent", format!("00-{TRACE}-{SPAN}-01-more")),
        ("traceparent", format!("00-{zero}-{SPAN}-01")),
        ("traceparent", format!("00-{TRACE}-0000000000000000-01")),
        ("traceparent", format!("00-{}-{SPAN}-01", &TRACE[1..])),
        ("traceparent", format!("00-{}x-{SPAN}-01", &TRACE[1..])),
        ("traceparent", format!("00-{TRACE}-{SPAN}-+1")),
        ("traceparent", String::new()),
        ("b3", format!("{TRACE}+{SPAN}")),
        ("x-b3-traceid", TRACE.to_owned()),
    ];
    for (name, value) in bad {
        assert_eq!(read(&headers(&[(name, &value)]), Form::W3c), Came::default(), "{name}: {value}");
    }
    let twice = format!("00-{TRACE}-{SPAN}-01");
    let mut headers = headers(&[("traceparent", &twice)]);
    headers.append("traceparent", HeaderValue::from_str(&twice).unwrap());
    assert_eq!(read(&headers, Form::W3c), Came::default());
}

#[test]
fn of_two_contexts_the_collectors_own_counts() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let both = headers(&[("traceparent", &w3c), ("b3", &format!("{OTHER}-{SPAN}-0"))]);
    assert_eq!(read(&both, Form::W3c), came(TRACE, Some(true)));
    assert_eq!(read(&both, Form::B3), came(OTHER, Some(false)));
}

#[test]
fn a_context_goes_on_in_the_collectors_form_and_in_those_that_came() {
    let child = |native, pairs: &[(&'static str, &str)]| {
        let mut headers = headers(pairs);
        let came = read(&headers, native);
        let context = Context::child(came.parent, true, &mut rand::rng());
        write(&context, native, &mut headers);
        (context, headers)
    };
    let names = |headers: &HeaderMap| {
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    let (context, fresh) = child(Form::W3c, &[]);
    assert_eq!(names(&fresh), "traceparent");
    assert_eq!(fresh["traceparent"], format!("00-{}-{}-01", context.trace, context.span).as_str());
    assert_eq!(names(&child(Form::B3, &[]).1), "x-b3-sampled x-b3-spanid x-b3-traceid");

    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let (_, kept) = child(Form::W3c, &[("traceparent", &w3c), ("tracestate", "a=b")]);
    assert_eq!(names(&kept), "traceparent tracestate");
    let (_, lost) = child(Form::W3c, &[("tracestate", "a=b")]);
    assert_eq!(names(&lost), "traceparent", "without its trace it means nothing");

    let single = format!("{TRACE}-{SPAN}-1");
    let (context, single) = child(Form::W3c, &[("b3", &single)]);
    assert_eq!(names(&single), "b3 traceparent");
    assert_eq!(single["b3"], format!("{TRACE}-{}-1-{SPAN}", context.span).as_str());

    // 64 bits stay 64 bits, but for W3C.
    let short = [("x-b3-traceid", SPAN), ("x-b3-spanid", SPAN), ("traceparent", w3c.as_str())];
    let (_, several) = child(Form::B3, &short);
    assert_eq!(several["x-b3-traceid"], SPAN);
    assert_eq!(several["x-b3-parentspanid"], SPAN);
    assert!(several["traceparent"].to_str().unwrap().starts_with(&format!("00-{:0>32}-", SPAN)));
}
