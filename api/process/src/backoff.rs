//! Waiting longer after each failure, with jitter so that a fleet does not retry in step.

use std::time::Duration;

use rand::Rng;

/// The share of a delay that jitter may add or take away.
const JITTER: f64 = 0.2;

/// A growing delay: `first`, doubled after each failure up to `cap`, each ±20 %.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and never waits longer than `cap` (before jitter).
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        let first = first.min(cap);
        Self { first, cap, next: first }
    }

    /// How long to wait now; the following delay is twice as long.
    pub fn delay(&mut self) -> Duration {
        self.delay_with(&mut rand::rng())
    }

    /// [`Self::delay`] with the caller's source of chance.
    pub fn delay_with(&mut self, rng: &mut impl Rng) -> Duration {
        let now = self.next;
        self.next = now.saturating_mul(2).min(self.cap);
        now.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
    }

    /// Forgets the failures, after a success that lasted.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn doubles_within_jitter_up_to_the_cap_and_resets() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for base in [100.0, 200.0, 350.0, 350.0, 350.0] {
            let delay = backoff.delay_with(&mut rng).as_secs_f64() * 1000.0;
            assert!((base * 0.8 - 0.01..=base * 1.2 + 0.01).contains(&delay), "{delay} for {base}");
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(120));
    }

    #[test]
    fn jitter_is_real() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_ne!(backoff.delay_with(&mut rng), backoff.delay_with(&mut rng));
    }

    #[test]
    fn first_above_cap_is_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1));
        assert!(backoff.delay() <= Duration::from_millis(1200));
    }
}
