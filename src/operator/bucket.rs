//! A token bucket: how often the API server is written to.

use std::time::Duration;

use tokio::time::Instant;

/// Lets `burst` pass at once, and then `rate` a second.
#[derive(Debug)]
pub struct Bucket {
    pause: Duration,
    burst: u32,
    /// When the bucket will be full again.
    full: Instant,
}

impl Bucket {
    /// A full bucket of `burst` tokens that fills at `rate` tokens a second.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self { pause: Duration::from_secs(1) / rate.max(1), burst, full: Instant::now() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When there is none: the time at which there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let full = self.full.max(now) + self.pause;
        let depth = self.pause * self.burst;
        if full > now + depth {
            return Err(full - depth);
        }
        self.full = full;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = Bucket::new(50, 100);
        let begun = Instant::now();
        let mut passed = 0;
        while bucket.take(begun).is_ok() {
            passed += 1;
        }
        assert_eq!(passed, 100);
        assert_eq!(bucket.take(begun), Err(begun + Duration::from_millis(20)));
        assert_eq!(bucket.take(begun + Duration::from_millis(20)), Ok(()));
    }
}
