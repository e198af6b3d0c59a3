//! SplitMix64, the generator behind all random numbers: draw n of a seed is the finaliser of seed +
//! n · increment.

/// The increment: 2⁶⁴ over the golden ratio, made odd.
pub const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function: every bit of the result depends on every bit of the input.
pub fn finalise(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::{INCREMENT, finalise};

    /// From the generator's reference implementation, with the seed 1234567.
    #[test]
    fn its_draws_are_the_references() {
        let draws = [1u64, 2, 3].map(|n| finalise(1_234_567 + n.wrapping_mul(INCREMENT)));
        assert_eq!(
            draws,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
