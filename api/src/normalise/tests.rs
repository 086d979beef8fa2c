//! One table for each way in which a request's text has meant two things to two programs (field.md §4.1).

use http::request::Parts;
use http::{Request, Version};
use proptest::prelude::*;

use super::{BadAuthority, BadPath, BadRequest, authority, check, normalise, request_authority};
use crate::waypoint::PathNormalization::{self, Base, DecodeAndMergeSlashes, MergeSlashes, None as AsItIs};

fn path(target: &str, how: PathNormalization) -> Result<String, BadPath> {
    normalise(target, how).map(|found| found.path.into_owned())
}

#[test]
fn every_spelling_of_a_path_becomes_one() {
    // (as sent, base, slashes merged, slashes decoded and merged)
    let rows = [
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("/", "/", "/", "/"),
        ("/a/./b", "/a/b", "/a/b", "/a/b"),
        ("/a/../b", "/b", "/b", "/b"),
        ("/a/..", "/", "/", "/"),
        ("/a/.", "/a/", "/a/", "/a/"),
        ("/../../a", "/a", "/a", "/a"),
        ("/a/...", "/a/...", "/a/...", "/a/..."),
        ("/.a/b.", "/.a/b.", "/.a/b.", "/.a/b."),
        ("/a/%2e%2e/b", "/b", "/b", "/b"),
        ("/a/%2E/b", "/a/b", "/a/b", "/a/b"),
        ("/a\\..\\b", "/b", "/b", "/b"),
        ("/a\\b", "/a/b", "/a/b", "/a/b"),
        ("/%61dmin", "/admin", "/admin", "/admin"),
        ("/%7euser", "/~user", "/~user", "/~user"),
        ("/a%3bb", "/a%3Bb", "/a%3Bb", "/a%3Bb"),
        ("//a///b/", "//a///b/", "/a/b/", "/a/b/"),
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b"),
        ("/a%5Cb", "/a%5Cb", "/a%5Cb", "/a/b"),
        ("/a%2F..%2Fb", "/a%2F..%2Fb", "/a%2F..%2Fb", "/b"),
        ("/a/%252e%252e/b", "/a/%252e%252e/b", "/a/%252e%252e/b", "/a/%252e%252e/b"),
        ("/A/b", "/A/b", "/A/b", "/A/b"),
    ];
    for (sent, base, merged, decoded) in rows {
        assert_eq!(path(sent, Base).as_deref(), Ok(base), "{sent}");
        assert_eq!(path(sent, MergeSlashes).as_deref(), Ok(merged), "{sent}");
        assert_eq!(path(sent, DecodeAndMergeSlashes).as_deref(), Ok(decoded), "{sent}");
        assert_eq!(path(sent, AsItIs).as_deref(), Ok(sent), "{sent}");
    }
}

#[test]
fn what_no_client_means_is_rejected_however_paths_are_normalised() {
    let rows = [
        ("/a#b", BadPath::Fragment),
        ("/a?b#c", BadPath::Fragment),
        ("/a%00b", BadPath::Control),
        ("/a%0d%0ab", BadPath::Control),
        ("/a%7F", BadPath::Control),
        ("/a\0b", BadPath::Control),
        ("/a\tb", BadPath::Control),
        ("/a?b=\x01", BadPath::Control),
        ("/a%", BadPath::Escape),
        ("/a%2", BadPath::Escape),
        ("/a%zz", BadPath::Escape),
        ("/a%2%65", BadPath::Escape),
        ("/ä", BadPath::Ascii),
        ("a", BadPath::Relative),
        ("", BadPath::Relative),
        ("http://a/b", BadPath::Relative),
    ];
    for (sent, fault) in rows {
        for how in [Base, MergeSlashes, DecodeAndMergeSlashes, AsItIs] {
            assert_eq!(path(sent, how), Err(fault), "{sent:?}");
        }
    }
}

#[test]
fn the_query_is_the_applications() {
    for (sent, query) in
        [("/a?b=//../%2e&c=100%", Some("b=//../%2e&c=100%")), ("/a?", Some("")), ("/a", None)]
    {
        let found = normalise(sent, DecodeAndMergeSlashes).expect("is fine");
        assert_eq!((&*found.path, found.query), ("/a", query));
    }
    assert_eq!(path("*", Base).as_deref(), Ok("*"));
    let untouched = normalise("/a.b/c-d", Base).expect("is fine");
    assert!(matches!(untouched.path, std::borrow::Cow::Borrowed(_)));
}

#[test]
fn hosts_have_one_spelling() {
    let good = [
        ("web", "web", "web"),
        ("Web.Shop", "web.shop", "web.shop"),
        ("web:80", "web:80", "web"),
        ("WEB.shop.:8080", "web.shop:8080", "web.shop"),
        ("web.", "web", "web"),
        ("10.0.0.1:9", "10.0.0.1:9", "10.0.0.1"),
        ("[FD00::1]:80", "[fd00::1]:80", "[fd00::1]"),
    ];
    for (sent, canonical, host) in good {
        let found = authority(sent).expect(sent);
        assert_eq!((found.as_str(), found.host()), (canonical, host), "{sent}");
    }
    let bad = [
        ("", BadAuthority::Missing),
        (":80", BadAuthority::Missing),
        ("web:", BadAuthority::Port),
        ("web:0", BadAuthority::Port),
        ("web:65536", BadAuthority::Port),
        ("web:+80", BadAuthority::Port),
        ("web:80:80", BadAuthority::Port),
        ("user@web", BadAuthority::Character),
        ("web/a", BadAuthority::Character),
        ("we b", BadAuthority::Character),
        ("web\0", BadAuthority::Character),
        ("web..", BadAuthority::Character),
        ("[web]", BadAuthority::Character),
        ("[::1]80", BadAuthority::Character),
    ];
    for (sent, fault) in bad {
        assert_eq!(authority(sent), Err(fault), "{sent:?}");
    }
}

type Headers = &'static [(&'static str, &'static str)];

fn parts(target: &str, version: Version, headers: Headers) -> Parts {
    let request = Request::builder().method("POST").uri(target).version(version);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("is a request").into_parts().0
}

#[test]
fn requests_of_two_lengths_or_two_hosts_are_rejected() {
    let rows: [(Headers, Result<(), BadRequest>); 16] = [
        (&[("host", "web")], Ok(())),
        (&[("host", "web"), ("content-length", "5")], Ok(())),
        (&[("host", "web"), ("transfer-encoding", "Chunked")], Ok(())),
        (
            &[("host", "web"), ("content-length", "5"), ("transfer-encoding", "chunked")],
            Err(BadRequest::TwoLengths),
        ),
        (
            &[("host", "web"), ("content-length", "5"), ("content-length", "5")],
            Err(BadRequest::ContentLength),
        ),
        (&[("host", "web"), ("content-length", "5, 6")], Err(BadRequest::ContentLength)),
        (&[("host", "web"), ("content-length", "+5")], Err(BadRequest::ContentLength)),
        (&[("host", "web"), ("content-length", "-1")], Err(BadRequest::ContentLength)),
        (&[("host", "web"), ("content-length", "")], Err(BadRequest::ContentLength)),
        (&[("host", "web"), ("transfer-encoding", "gzip, chunked")], Err(BadRequest::TransferEncoding)),
        (&[("host", "web"), ("transfer-encoding", "xchunked")], Err(BadRequest::TransferEncoding)),
        (&[("host", "web"), ("transfer-encoding", "identity")], Err(BadRequest::TransferEncoding)),
        (
            &[("host", "web"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            Err(BadRequest::TransferEncoding),
        ),
        (&[("host", "web"), ("host", "web")], Err(BadAuthority::Several.into())),
        (&[("host", "web, admin")], Err(BadAuthority::Character.into())),
        (&[], Err(BadAuthority::Missing.into())),
    ];
    for (headers, verdict) in rows {
        assert_eq!(check(&parts("/", Version::HTTP_11, headers)), verdict, "{headers:?}");
    }
    let old = parts("/", Version::HTTP_10, &[("host", "web"), ("transfer-encoding", "chunked")]);
    assert_eq!(check(&old), Err(BadRequest::TransferEncoding));
    let both = parts("http://web/", Version::HTTP_11, &[("host", "admin")]);
    assert_eq!(check(&both), Err(BadAuthority::Several.into()));
    let same = parts("http://Web/", Version::HTTP_2, &[("host", "web")]);
    assert_eq!(request_authority(&same).as_ref().map(super::Authority::as_str), Ok("web"));
}

proptest! {
    #[test]
    fn a_normal_path_stays(target in "/([a-c./\\\\]|%2[eEfF]|%5[cC]|%25|%61|%3b){0,12}", how in 0..4_usize) {
        let how = [Base, MergeSlashes, DecodeAndMergeSlashes, AsItIs][how];
        let once = path(&target, how).expect("is a path");
        prop_assert!(once.starts_with('/'));
        if how != AsItIs {
            prop_assert!(!once.contains('\\'));
            prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
        }
        if how == MergeSlashes || how == DecodeAndMergeSlashes {
            prop_assert!(!once.contains("//"));
        }
        prop_assert_eq!(path(&once, how), Ok(once));
    }

    #[test]
    fn a_canonical_host_stays(text in "[a-zA-Z.]{0,6}(:[0-9]{1,6})?") {
        if let Ok(once) = authority(&text) {
            let again = authority(once.as_str()).expect("is canonical");
            prop_assert_eq!(again.as_str(), once.as_str());
        }
    }
}
