//! Retries of requests: what a route says, else the mesh, else what Istio does.

use ambit_api::wire::waypoint::Retry;
use ambit_crds::virtual_service as crd;

use super::millis;

/// Conditions where nothing else is said. None of them retries what an application may have seen.
const ON: [&str; 5] =
    ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"];
const BY_STATUS: &str = "retriable-status-codes";
const ATTEMPTS: u32 = 2;

/// Where neither a route nor the mesh says anything.
pub(crate) fn built_in() -> Retry {
    let on = ON.map(str::to_owned).to_vec();
    Retry { attempts: ATTEMPTS, on, avoid_tried: true, ..Retry::default() }
}

/// What a VirtualService or the mesh asks for.
pub(crate) fn of(asked: &crd::Retry) -> Retry {
    if asked.attempts == 0 {
        return Retry::default();
    }
    let mut wire = Retry {
        attempts: asked.attempts,
        per_try_timeout_ms: millis(asked.per_try_timeout),
        backoff_ms: millis(asked.backoff),
        avoid_tried: asked.retry_ignore_previous_hosts.unwrap_or(true),
        ..built_in()
    };
    if !asked.retry_on.is_empty() {
        (wire.on, wire.statuses) = conditions(&asked.retry_on);
    }
    wire
}

/// Conditions and statuses of a `retryOn`; numbers are statuses.
pub(crate) fn conditions(text: &str) -> (Vec<String>, Vec<u32>) {
    let tokens = text.split(',').map(str::trim).filter(|token| !token.is_empty());
    let (statuses, names): (Vec<&str>, Vec<&str>) = tokens.partition(|token| token.parse::<u16>().is_ok());
    let mut on: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let statuses: Vec<u32> = statuses.into_iter().filter_map(|token| token.parse().ok()).collect();
    if !statuses.is_empty() && !on.iter().any(|name| name == BY_STATUS) {
        on.push(BY_STATUS.to_owned());
    }
    (on, statuses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_statuses() {
        let table: [(&str, &[&str], &[u32]); 5] = [
            ("", &[], &[]),
            ("5xx, reset", &["5xx", "reset"], &[]),
            ("503", &[BY_STATUS], &[503]),
            ("429,unavailable,503,", &["unavailable", BY_STATUS], &[429, 503]),
            ("retriable-status-codes,418", &[BY_STATUS], &[418]),
        ];
        for (text, on, statuses) in table {
            let on = on.iter().map(|&one| one.to_owned()).collect();
            assert_eq!(conditions(text), (on, statuses.to_vec()), "{text:?}");
        }
    }
}
