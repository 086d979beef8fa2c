//! What formats are parsed into. Lines of real requests are tests of the whole data plane.

use std::time::{Duration, UNIX_EPOCH};

use super::operator::{Field, Part, time};
use super::*;

fn pieces(format: &str) -> Vec<Piece> {
    parse(format)
}

fn value(operator: Operator) -> Piece {
    Piece::Value(operator)
}

fn said(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

#[test]
fn operators_are_told_from_text() {
    let header = |name: &'static str| Field::Header(HeaderName::from_static(name));
    let cases = [
        ("", vec![]),
        ("plain", vec![said("plain")]),
        ("100%% sure\n", vec![said("100% sure\n")]),
        ("50% off", vec![said("50% off")]),
        ("%DURATION%", vec![value(Operator::Duration)]),
        (
            "[%START_TIME(%Y/%m)%] %REQ(X-A?:PATH):10%",
            vec![
                said("["),
                Piece::Value(Operator::StartTime),
                said("] "),
                Piece::Value(Operator::Request(vec![header("x-a"), Field::Path], Some(10))),
            ],
        ),
        ("%RESP(X-B)%", vec![Piece::Value(Operator::Response(vec![header("x-b")], None))]),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            vec![Piece::Value(Operator::DownstreamRemote(Part::Ip))],
        ),
        (
            "%NO_SUCH(a)%%REQ(not a name)%",
            vec![Piece::Value(Operator::Unknown), Piece::Value(Operator::Unknown)],
        ),
    ];
    for (format, expected) in cases {
        assert_eq!(pieces(format), expected, "{format}");
    }
}

#[test]
fn every_operator_of_the_default_formats_is_known() {
    // What a waypoint cannot know is absent from its lines.
    let absent = ["UPSTREAM_LOCAL_ADDRESS", "REQUESTED_SERVER_NAME"];
    for (key, operator) in JSON.iter().chain([&ROUTE]) {
        let unknown = Operator::parse(operator) == Operator::Unknown;
        assert_eq!(unknown, absent.contains(operator), "{key}");
        assert!(DEFAULT.contains(&format!("%{operator}%")), "{key}");
    }
    let values = pieces(DEFAULT).iter().filter(|piece| matches!(piece, Piece::Value(_))).count();
    assert_eq!(values, JSON.len() + 1);
}

#[test]
fn headers_of_answers_are_kept_if_a_line_shows_them() {
    let format =
        Format::new(&AccessLog::Text(Some("%RESP(X-A)% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%".to_owned())));
    let answer: HeaderMap = [("x-a", "1"), ("x-b", "2")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    assert_eq!(format.keep(&answer), [(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))]);
    assert_eq!(Format::new(&AccessLog::Json(None)).keep(&answer), []);
}

#[test]
fn dates_are_those_of_the_calendar() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
        (1_798_761_599_001, "2026-12-31T23:59:59.001Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ];
    for (milliseconds, expected) in cases {
        let mut text = String::new();
        time(UNIX_EPOCH + Duration::from_millis(milliseconds), &mut text).unwrap();
        assert_eq!(text, expected);
    }
}

#[test]
fn json_formats_are_objects_of_texts() {
    let format = r#"{"b": "%DURATION%", "a": "took %DURATION%", "c": 7, "d": "", "e\"": "x"}"#;
    let Shape::Json(members) = Format::new(&AccessLog::Json(Some(format.to_owned()))).shape else {
        panic!("not JSON")
    };
    let expected = [
        ("\"a\"", Member::Text(vec![said("took "), value(Operator::Duration)])),
        ("\"b\"", Member::Value(Operator::Duration)),
        ("\"c\"", Member::Constant("7".to_owned())),
        ("\"d\"", Member::Text(Vec::new())),
        ("\"e\\\"\"", Member::Text(vec![said("x")])),
    ];
    assert_eq!(members.len(), expected.len());
    for ((key, member), (wanted, same)) in members.iter().zip(&expected) {
        assert_eq!((key.as_str(), member), (*wanted, same));
    }
    let Shape::Json(default) = Format::new(&AccessLog::Json(Some("[]".to_owned()))).shape else {
        panic!("not JSON")
    };
    assert_eq!(default, default_members());
}

#[test]
fn what_is_cut_ends_with_a_whole_character() {
    let mut line = "ä".repeat(10);
    cut(&mut line, 7);
    assert_eq!(line, "äää");
}
