//! What a route does to a request or an answer besides sending it on: small functions, one file each. The order in which
//! they act is the exchange's business (policy.md rule 5).

use rand::Rng;

pub mod fault;
pub mod messages;
pub mod mirror;
pub mod redirect;
pub mod respond;

/// Shares of requests are counted in millionths.
const WHOLE: u32 = 1_000_000;

/// Whether this request is among a share.
fn falls_on(share: u32, rng: &mut impl Rng) -> bool {
    share > 0 && rng.random_range(0..WHOLE) < share
}
