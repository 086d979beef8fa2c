//! Both protocols get an answer they understand.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{GrpcStatus, Speaks, answer, direct, grpc_answer};

fn request(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
}

#[test]
fn the_content_type_says_who_speaks_grpc() {
    for (content_type, speaks) in [
        ("application/grpc", Speaks::Grpc),
        ("application/grpc+proto", Speaks::Grpc),
        ("application/grpc; charset=x", Speaks::Grpc),
        ("application/grpc-web", Speaks::Http),
        ("application/grpcish", Speaks::Http),
        ("application/json", Speaks::Http),
    ] {
        assert_eq!(Speaks::of(&request(content_type)), speaks, "{content_type}");
    }
    assert_eq!(Speaks::of(&HeaderMap::new()), Speaks::Http);
}

#[test]
fn http_clients_get_status_and_text() {
    let answer = answer(StatusCode::FORBIDDEN, "RBAC: access denied", Speaks::Http);
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["content-length"], "19");
    assert_eq!(answer.body(), "RBAC: access denied");
    let cancelled = grpc_answer(GrpcStatus::UNAVAILABLE, "x", Speaks::Http);
    assert_eq!(cancelled.status(), 503);
    let empty = direct(StatusCode::NO_CONTENT, &Bytes::new(), Speaks::Http);
    assert_eq!((empty.status().as_u16(), empty.headers().len()), (204, 0));
}

#[test]
fn grpc_clients_get_200_and_a_status_without_a_body() {
    for (status, code) in
        [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (503, 14), (504, 14), (500, 2)]
    {
        let answer = answer(StatusCode::from_u16(status).unwrap(), "why", Speaks::Grpc);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], code.to_string().as_str());
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert!(answer.body().is_empty());
        assert_eq!(GrpcStatus::in_headers(answer.headers()), Some(GrpcStatus(code)));
    }
    let fine = direct(StatusCode::OK, &Bytes::from_static(b"hello"), Speaks::Grpc);
    assert_eq!(fine.headers()["grpc-status"], "0");
}

#[test]
fn a_grpc_message_is_always_a_sound_header() {
    let answer = grpc_answer(GrpcStatus::INTERNAL, "50 %\r\nx: ü", Speaks::Grpc);
    assert_eq!(answer.headers()["grpc-message"], "50 %25%0D%0Ax: %C3%BC");
}

#[test]
fn every_grpc_status_has_an_http_one() {
    let statuses = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
    for (code, status) in (0..).zip(statuses) {
        assert_eq!(GrpcStatus(code).to_http(), status, "{code}");
    }
}

#[test]
fn what_is_no_number_is_no_grpc_status() {
    for text in ["", "x", "-1", "1 2"] {
        let headers = HeaderMap::from_iter([(super::GRPC_STATUS, HeaderValue::from_static(text))]);
        assert_eq!(GrpcStatus::in_headers(&headers), None, "{text}");
    }
}
