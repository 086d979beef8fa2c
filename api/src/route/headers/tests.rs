//! What is set, added and removed, in which order, and what no route can touch.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::change;
use crate::route::HeaderChange;

type Pairs = [(&'static str, &'static str)];

fn pairs(pairs: &Pairs) -> Vec<(HeaderName, HeaderValue)> {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn changed(before: &Pairs, set: &Pairs, add: &Pairs, remove: &[&'static str]) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(before) {
        headers.append(name, value);
    }
    let remove = remove.iter().copied().map(HeaderName::from_static).collect();
    change(&HeaderChange { set: pairs(set), add: pairs(add), remove, authority: None }, &mut headers);
    let pair =
        |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let mut after: Vec<_> = headers.iter().map(pair).collect();
    after.sort_by(|(one, _), (other, _)| one.cmp(other));
    after
}

fn owned(pairs: &Pairs) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn set_replaces_add_appends_remove_takes_all() {
    let before = [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("c", "2")];
    let after = changed(&before, &[("a", "x"), ("new", "y")], &[("b", "2")], &["c", "absent"]);
    assert_eq!(after, owned(&[("a", "x"), ("b", "1"), ("b", "2"), ("new", "y")]));
}

#[test]
fn they_act_in_this_order() {
    assert_eq!(changed(&[("a", "1")], &[("a", "2")], &[("a", "3")], &[]), owned(&[("a", "2"), ("a", "3")]));
    assert_eq!(changed(&[("a", "1")], &[("a", "2")], &[("a", "3")], &["a"]), owned(&[]));
}

#[test]
fn how_a_message_is_framed_is_out_of_reach() {
    let before = [("content-length", "5"), ("transfer-encoding", "chunked"), ("upgrade", "websocket")];
    let after = changed(
        &before,
        &[("content-length", "0"), ("connection", "close")],
        &[("transfer-encoding", "identity")],
        &["content-length", "upgrade"],
    );
    assert_eq!(after, owned(&before));
}
