//! Random numbers that belong to a place and not to an order: the same seed, row and column give the same number.

use std::f32::consts::TAU;

/// Numbers by place (SplitMix64 over seed, row and column).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// Numbers of `seed`.
    pub fn new(seed: u64) -> Noise {
        Noise {
            seed: mix(seed ^ 0x736f_7474_6f76_6f63),
        }
    }

    /// A number in 0..1.
    pub fn uniform(&self, row: u64, column: u64) -> f32 {
        (self.bits(row, column) >> 40) as f32 / (1 << 24) as f32
    }

    /// A number of the standard normal distribution (Box and Muller, 1958).
    pub fn normal(&self, row: u64, column: u64) -> f32 {
        let bits = self.bits(row, column);
        // Both halves in steps of 2⁻²⁴, the first one never 0.
        let first = ((bits >> 40) + 1) as f32 / (1 << 24) as f32;
        let second = (bits & 0xff_ffff) as f32 / (1 << 24) as f32;
        (-2.0 * first.ln()).sqrt() * (TAU * second).cos()
    }

    fn bits(&self, row: u64, column: u64) -> u64 {
        mix(mix(self.seed ^ row) ^ column.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::Noise;

    #[test]
    fn normal_numbers_have_mean_zero_and_deviation_one() {
        let noise = Noise::new(1);
        let values: Vec<f32> = (0..20_000)
            .map(|place| noise.normal(place / 80, place % 80))
            .collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f32>()
            / values.len() as f32;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "mean {mean}, variance {variance}"
        );
    }

    #[test]
    fn places_and_seeds_have_numbers_of_their_own() {
        let noise = Noise::new(1);
        assert_eq!(noise.normal(3, 4), Noise::new(1).normal(3, 4));
        assert_ne!(noise.normal(3, 4), noise.normal(4, 3));
        assert_ne!(noise.normal(3, 4), Noise::new(2).normal(3, 4));
    }
}
