//! Requests over HTTP/1.1, and what becomes of them.

/// One class: what follows `Host` in a request that has it, and in one that has not.
pub(crate) struct Bad {
    pub(crate) what: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) good: &'static str,
}

const fn bad(what: &'static str, bad: &'static str, good: &'static str) -> Bad {
    Bad { what, bad, good }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
const LENGTH: &str = "Content-Length: 5\r\n\r\nhello";
const NOTHING: &str = "X-A: b\r\n\r\n";

/// A request whose head goes on with this, and another one right behind it: the one that could be hidden.
pub(crate) fn with_next(rest: &str, path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: server\r\n{rest}GET /smuggled HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n"
    )
}

pub(crate) const BAD: &[Bad] = &[
    bad(
        "a length and chunks",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED,
    ),
    bad(
        "chunks and a length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED,
    ),
    bad("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", LENGTH),
    bad("one length twice", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", LENGTH),
    bad("a list of lengths", "Content-Length: 5, 5\r\n\r\nhello", LENGTH),
    bad("a length with a sign", "Content-Length: +5\r\n\r\nhello", LENGTH),
    bad("a length of no digits", "Content-Length:\r\n\r\nhello", LENGTH),
    bad("a length beyond all numbers", "Content-Length: 18446744073709551621\r\n\r\nhello", LENGTH),
    bad("a space before the colon", "Content-Length : 5\r\n\r\nhello", LENGTH),
    bad("a second coding", "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", CHUNKED),
    bad("another coding", "Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", CHUNKED),
    bad(
        "two codings",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED,
    ),
    bad(
        "a coding in a quotation of spaces",
        "Transfer-Encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED,
    ),
    bad("a folded line", "Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", CHUNKED),
    bad(
        "a line feed alone",
        "X-A: b\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    bad("a carriage return alone", "X-A: b\rContent-Length: 5\r\n\r\nhello", LENGTH),
    bad("an end of two line feeds", "X-A: b\n\n", NOTHING),
    bad("NUL in a value", "X-A: b\0\r\n\r\n", NOTHING),
    bad("a control byte in a value", "X-A: b\x01\r\n\r\n", NOTHING),
    bad("DEL in a value", "X-A: b\x7f\r\n\r\n", NOTHING),
    bad("NUL in a name", "X\0A: b\r\n\r\n", NOTHING),
    bad("a line without a colon", "X-A\r\n\r\n", NOTHING),
    bad("two hosts", "Host: admin\r\n\r\n", NOTHING),
    bad("one host twice", "Host: server\r\n\r\n", NOTHING),
];

/// Bodies in chunks that are not what they say.
pub(crate) const CHUNKS: &[(&str, &str)] = &[
    ("a size beyond all numbers", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a size of other digits", "g\r\nhello\r\n0\r\n\r\n"),
    ("a size with a sign", "-5\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("a size that ends in a line feed alone", "5\nhello\r\n0\r\n\r\n"),
    ("an extension with a line feed", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("more than its size", "4\r\nhello\r\n0\r\n\r\n"),
    ("no end", "5\r\nhello0\r\n\r\n"),
    ("a trailer that ends in a line feed alone", "5\r\nhello\r\n0\r\nx-a: b\n\r\n\r\n"),
];

/// (method, target and header lines; the status). What is permitted is the control of what is not.
pub(crate) const JUDGED: &[(&str, &str)] = &[
    // The path, however it is spelt; CVE-2020-8595, CVE-2021-31920, CVE-2021-39156.
    ("GET /ok", "200"),
    ("GET /adminx", "200"),
    ("GET /admin", "403"),
    ("GET /admin?a=b", "403"),
    // What clients keep to themselves is cut off before anybody looks, and goes nowhere.
    ("GET /admin#a", "403"),
    ("GET /ok#/admin", "200"),
    ("GET /x/../admin", "403"),
    ("GET /./admin", "403"),
    ("GET /%61dmin", "403"),
    ("GET /x/%2e%2e/admin", "403"),
    ("GET /x\\..\\admin", "403"),
    ("GET /admin\\x", "403"),
    ("GET /admin%00", "400"),
    ("GET /admin%0d%0a", "400"),
    ("GET /admin%", "400"),
    ("GET admin", "400"),
    ("GET http://server/admin", "403"),
    ("GET http://server/ok", "200"),
    ("GET http://other/ok", "400"),
    // The host, in any case of letters and with any port; CVE-2021-39155.
    ("GET /ok\nHost: server.strict:80", "200"),
    ("GET /ok\nHost: forbidden.example", "403"),
    ("GET /ok\nHost: FORBIDDEN.Example", "403"),
    ("GET /ok\nHost: forbidden.example:8080", "403"),
    ("GET /ok\nHost: forbidden.example.", "403"),
    ("GET /ok\nHost: forbidden.example, server", "400"),
    ("GET /ok\nHost: server@forbidden.example", "400"),
    ("GET /ok\nHost: ", "400"),
    // Each value of a repeated header; CVE-2021-32777, CVE-2026-26308.
    ("GET /ok\nx-role: user", "200"),
    ("GET /ok\nx-role: root", "403"),
    ("GET /ok\nx-role: user\nx-role: root", "403"),
    ("GET /ok\nx-role: root\nx-role: user", "403"),
    ("GET /team\nx-team: red", "200"),
    ("GET /team\nx-team: red\nx-team: red", "200"),
    ("GET /team\nx-team: red\nx-team: blue", "403"),
    ("GET /team\nx-team: blue\nx-team: red", "403"),
    ("GET /team", "403"),
    // What a client claims; CVE-2023-27487, CVE-2024-45806.
    ("GET /admin\nx-envoy-original-path: /ok", "403"),
    ("GET /admin\nx-original-url: /ok", "403"),
    ("GET /admin\nx-rewrite-url: /ok", "403"),
    ("GET /ok\nHost: forbidden.example\nx-forwarded-host: server", "403"),
    ("GET /ok\nx-envoy-original-path: /admin", "200"),
    // Methods that are for proxies alone.
    ("TRACE /ok", "400"),
];
