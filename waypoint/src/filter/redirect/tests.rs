//! The answer of a redirect: its address is the model's, its form is HTTP's.

use std::sync::Arc;

use ambit_api::route::{Client, PathChange, Redirect, RedirectPort, Request};
use http::{HeaderMap, Method, StatusCode};

use super::answer;

fn redirect(path: &str) -> Redirect {
    Redirect {
        scheme: Some("https".to_owned()),
        authority: Some("other.example".to_owned()),
        port: RedirectPort::Scheme,
        path: Some(PathChange::Prefix(path.to_owned())),
        status: StatusCode::PERMANENT_REDIRECT,
    }
}

fn answered(redirect: &Redirect) -> Option<(u16, String)> {
    let client = Client {
        identity: None,
        ip: "10.0.0.1".parse().unwrap(),
        namespace: "ns".into(),
        labels: Arc::default(),
    };
    let request = Request {
        method: &Method::GET,
        scheme: "http",
        authority: "web",
        path: "/v1/a",
        query: Some("b=c"),
        headers: &HeaderMap::new(),
        port: 80,
        client: &client,
    };
    let answer = answer(redirect, &request, 3).ok()?;
    assert!(answer.body().is_empty());
    assert_eq!(answer.headers()["content-length"], "0");
    Some((answer.status().as_u16(), answer.headers()["location"].to_str().ok()?.to_owned()))
}

#[test]
fn the_client_is_told_where_to_go() {
    assert_eq!(answered(&redirect("/v2")), Some((308, "https://other.example/v2/a?b=c".to_owned())));
}

#[test]
fn an_address_that_would_break_the_header_is_none() {
    assert_eq!(answered(&redirect("/v2\r\nset-cookie: x")), None);
}
