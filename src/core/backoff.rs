//! How long to wait before trying again: exponential, bounded, with jitter.
//!
//! Pure: the dice are an argument. Not here: whether to try again.

use std::time::Duration;

/// The delay before try `n` (from 0): `initial * 2^n`, at most `max`, of which the upper half
/// is jittered away so that many objects do not come back at once.
///
/// The answer lies between half the nominal delay and all of it.
pub fn delay(n: u32, initial: Duration, max: Duration, seed: u64) -> Duration {
    let nominal = initial.saturating_mul(1u32.checked_shl(n).unwrap_or(u32::MAX)).min(max);
    jittered(nominal, seed)
}

/// A delay for something that has gone on for `elapsed`: half of that, within bounds. It
/// grows like an exponential back-off without anybody counting tries.
pub fn by_age(elapsed: Duration, least: Duration, most: Duration) -> Duration {
    (elapsed / 2).clamp(least, most.max(least))
}

/// Between half of `nominal` and all of it.
pub fn jittered(nominal: Duration, seed: u64) -> Duration {
    let half = nominal / 2;
    let thousandths = u32::try_from(mix(seed) % 1001).unwrap_or(0);
    half + half.saturating_mul(thousandths) / 1000
}

/// Spreads a seed's bits (splitmix64), so that neighbouring seeds have nothing in common.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_lies_between_half_its_nominal_value_and_all_of_it(
            n in 0u32..80, initial in 1u64..10_000, max in 1u64..1_000_000, seed: u64,
        ) {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            let nominal = initial.saturating_mul(2u32.saturating_pow(n)).min(max);
            let got = delay(n, initial, max, seed);
            prop_assert!(got <= nominal);
            prop_assert!(got + Duration::from_micros(1) >= nominal / 2);
        }

        #[test]
        fn a_delay_by_age_never_leaves_its_bounds(
            elapsed in 0u64..10_000_000, least in 1u64..10_000, most in 1u64..1_000_000,
        ) {
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            let got = by_age(Duration::from_millis(elapsed), least, most);
            prop_assert!(got >= least && got <= most.max(least));
        }
    }

    #[test]
    fn two_seeds_give_two_delays() {
        let of = |seed| delay(3, Duration::from_secs(2), Duration::from_secs(120), seed);
        assert_ne!(of(1), of(2));
    }
}
