//! Series, their merging over workers, and their bound.

use ambit_api::identity::Identity;
use ambit_api::labels::{Flags, RequestProtocol};

use super::*;

fn ends(namespace: &str) -> Ends {
    let identity: Identity = format!("spiffe://td/ns/{namespace}/sa/web").parse().expect("an identity");
    let source = Arc::new(Party::unknown(Some(&identity)));
    Ends { source, destination: nobody(), service: None, security: Security::MutualTls }
}

fn counted(status: u16, milliseconds: u64) -> Counted {
    let outcome =
        Outcome { protocol: RequestProtocol::Http, status, grpc_status: None, flags: Flags::default() };
    let duration = Duration::from_millis(milliseconds);
    Counted { outcome, duration, received: 7, sent: 300, messages: (0, 0) }
}

fn lines<'a>(encoded: &'a str, name: &str) -> Vec<&'a str> {
    encoded.lines().filter(|line| line.starts_with(name)).collect()
}

#[test]
fn workers_are_one_series_whatever_sets_they_hold() {
    let metrics = Metrics::new();
    let report = Report::new(&metrics, 2);
    // Equal label sets at different addresses, as two workers make them.
    report.shard(0).request(&ends("shop"), &counted(200, 3));
    report.shard(1).request(&ends("shop"), &counted(200, 30));
    report.shard(1).request(&ends("shop"), &counted(503, 30));
    report.shard(1).request(&ends("bank"), &counted(200, 30));
    let encoded = metrics.encode();
    let mut values: Vec<_> = lines(&encoded, "istio_requests_total{").into_iter().collect();
    values.sort_unstable_by_key(|line| line.chars().last());
    assert_eq!(values.len(), 3, "{encoded}");
    assert!(values[2].ends_with(" 2") && values[2].contains("ns/shop/"), "{encoded}");
    assert!(encoded.contains("istio_build_info{"), "{encoded}");
}

#[test]
fn messages_are_counted_of_calls_alone() {
    let metrics = Metrics::new();
    let report = Report::new(&metrics, 2);
    let mut call = Counted { messages: (2, 5), ..counted(200, 3) };
    report.shard(0).request(&ends("shop"), &counted(200, 3));
    assert!(lines(&metrics.encode(), "istio_request_messages_total{").is_empty());
    call.outcome.protocol = RequestProtocol::Grpc;
    report.shard(0).request(&ends("shop"), &call);
    report.shard(1).request(&ends("shop"), &call);
    let encoded = metrics.encode();
    for (name, sum) in [("istio_request_messages_total{", " 4"), ("istio_response_messages_total{", " 10")] {
        let found = lines(&encoded, name);
        assert!(found.len() == 1 && found[0].ends_with(sum), "{name} {encoded}");
    }
}

#[test]
fn histograms_have_istios_buckets() {
    let metrics = Metrics::new();
    let report = Report::new(&metrics, 1);
    for milliseconds in [0, 5, 6, 4_000_000] {
        report.shard(0).request(&ends("shop"), &counted(200, milliseconds));
    }
    let encoded = metrics.encode();
    let bucket = |bound: &str| {
        let end = format!("le=\"{bound}\"");
        let of = lines(&encoded, "istio_request_duration_milliseconds_bucket{");
        let line =
            of.into_iter().find(|line| line.contains(&end)).unwrap_or_else(|| panic!("{bound}: {encoded}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok())
    };
    let buckets = [("0.5", 1), ("1.0", 1), ("5.0", 2), ("10.0", 3), ("3600000.0", 3), ("+Inf", 4)];
    for (bound, count) in buckets {
        assert_eq!(bucket(bound), Some(count), "{bound}");
    }
    let count = lines(&encoded, "istio_request_duration_milliseconds_count{");
    assert!(count.iter().all(|line| line.ends_with(" 4")), "{count:?}");
    let sums = lines(&encoded, "istio_response_bytes_sum{");
    assert!(sums.len() == 1 && sums[0].ends_with(" 1200.0"), "{sums:?}");
}

#[test]
fn connections_are_counted_open_and_closed() {
    let metrics = Metrics::new();
    let report = Report::new(&metrics, 1);
    let ends = ends("shop");
    report.shard(0).opened(&ends);
    report.shard(0).opened(&ends);
    report.shard(0).closed(&ends, Some(Reason::PolicyDenied), (11, 22));
    let encoded = metrics.encode();
    for (name, value, flags) in [
        ("istio_tcp_connections_opened_total{", " 2", "-"),
        ("istio_tcp_connections_closed_total{", " 1", "UAEX"),
        ("istio_tcp_received_bytes_total{", " 11", "UAEX"),
        ("istio_tcp_sent_bytes_total{", " 22", "UAEX"),
    ] {
        let of = lines(&encoded, name);
        let flags = format!("response_flags=\"{flags}\"");
        assert!(of.len() == 1 && of[0].ends_with(value) && of[0].contains(&flags), "{of:?}");
    }
}

#[test]
fn what_no_longer_fits_is_one_series() {
    let shard = Shard::default();
    for _ in 0..SERIES + 50 {
        // A new address each time is a new set.
        shard.request(&ends("shop"), &counted(200, 1));
    }
    let held = shard.lock();
    assert_eq!(held.requests.len(), SERIES + 1);
    let most = held.requests.values().map(|series| series.count).max();
    assert_eq!(most, Some(50));
}
