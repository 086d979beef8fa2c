//! Waiting longer after each failure.

use std::time::Duration;

/// Doubles from `first` to `most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row (at least one), without jitter.
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }

    /// The same, moved by up to a fifth either way; `roll` is uniform in 0..1.
    pub fn jittered(self, failures: u32, roll: f64) -> Duration {
        self.after(failures).mul_f64(0.8 + 0.4 * roll.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_cap_and_stays_within_a_fifth() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(150) };
        let waits: Vec<u64> = [1, 2, 3, 8, 9, 1000].map(|failures| backoff.after(failures).as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 128, 150, 150]);
        assert_eq!(backoff.jittered(1, 0.0), Duration::from_millis(800));
        assert_eq!(backoff.jittered(9, 1.0), Duration::from_secs(180));
    }
}
