//! The access log: one line per connection, fields as l4-protocols §9.2.

use std::fmt::Display;
use std::net::SocketAddr;

use ambit_api::authz::DryRun;
use ambit_api::reason::Reason;

use super::{Direction, Record};

/// Writes one line; the fields are the same for every event of a connection.
macro_rules! line {
    ($level:expr, $record:expr, $message:literal, $($more:tt)*) => {
        tracing::event!(
            target: "access",
            $level,
            src.addr = %$record.client,
            src.workload = $record.source.as_ref().map(|workload| tracing::field::display(&workload.name)),
            src.namespace = $record.source.as_ref().map(|workload| tracing::field::display(&workload.namespace)),
            src.identity = $record.source_identity.as_ref().map(tracing::field::display),
            dst.addr = %$record.tunnel.or($record.target).unwrap_or($record.dialled),
            dst.hbone_addr = $record.hbone_target().map(tracing::field::display),
            dst.service = $record.service.as_ref().map(|service| tracing::field::display(&service.key.hostname)),
            dst.workload = $record.destination.as_ref().map(|workload| tracing::field::display(&workload.name)),
            dst.namespace = $record.destination.as_ref().map(|workload| tracing::field::display(&workload.namespace)),
            dst.identity = $record.destination_identity.as_ref().map(tracing::field::display),
            direction = $record.direction.as_str(),
            $($more)*
            $message
        )
    };
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

impl Record {
    /// The address inside the tunnel, when there is a tunnel.
    fn hbone_target(&self) -> Option<SocketAddr> {
        self.tunnel.and(self.target)
    }

    fn milliseconds(&self) -> String {
        format!("{}ms", self.begun.elapsed().as_millis())
    }
}

pub(super) fn opened(record: &Record) {
    line!(tracing::Level::DEBUG, record, "connection opened",);
}

/// `bytes_sent` and `bytes_recv` are from the reporter's view: what left the pod, what came to it.
pub(super) fn closed(record: &Record, request: u64, response: u64, reason: Option<Reason>) {
    let (sent, received) = match record.direction {
        Direction::Outbound => (request, response),
        Direction::Inbound => (response, request),
    };
    let duration = record.milliseconds();
    match reason {
        None => line!(
            tracing::Level::INFO, record, "connection complete",
            bytes_sent = sent, bytes_recv = received, duration = %duration,
        ),
        Some(reason) => line!(
            tracing::Level::ERROR, record, "connection complete",
            bytes_sent = sent, bytes_recv = received, duration = %duration,
            error = %words(reason), reason = reason.as_str(),
        ),
    }
}

pub(super) fn failed(record: &Record, reason: Reason, why: &dyn Display) {
    let duration = record.milliseconds();
    line!(
        tracing::Level::ERROR, record, "connection failed",
        bytes_sent = 0_u64, bytes_recv = 0_u64, duration = %duration,
        error = %why, reason = reason.as_str(),
    );
}

pub(super) fn dry_run(record: &Record, outcome: &DryRun) {
    line!(
        tracing::Level::INFO, record, "dry-run policy",
        policy = %outcome.policy, matched = outcome.matched,
    );
}

/// Why an open connection ended, for a person.
fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::PolicyChanged => "closed due to policy change",
        Reason::Draining => "closed because the proxy shuts down",
        Reason::PodGone => "closed because the pod is gone",
        Reason::IdleTimeout => "closed after being idle for too long",
        Reason::Reset => "reset by one side",
        other => other.as_str(),
    }
}
