//! Counter-based random numbers: the same seed, row and column give the same number in any order.

use crate::cpu::maths;
use crate::split_mix::{INCREMENT, finalise};

/// Random numbers by position (SplitMix64 over seed, row and column).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// The random numbers of `seed`.
    pub fn new(seed: u64) -> Noise {
        Noise {
            seed: mix(seed ^ 0x736f_7474_6f76_6f63),
        }
    }

    /// A uniform number in 0..1.
    pub fn uniform(&self, row: u64, column: u64) -> f32 {
        (self.bits(row, column) >> 40) as f32 / (1 << 24) as f32
    }

    /// A standard normal deviate.
    pub fn normal(&self, row: u64, column: u64) -> f32 {
        let mut number = [0.0];
        self.normals_from(row, column, u64::MAX, &mut number);
        number[0]
    }

    /// Normal deviates of rows from `first_row` on, `[rows][columns]`, equal to those of
    /// [`Noise::normal`].
    pub fn normals(&self, first_row: u64, columns: usize, out: &mut [f32]) {
        self.normals_from(first_row, 0, columns as u64, out);
    }

    fn normals_from(&self, mut row: u64, mut column: u64, columns: u64, out: &mut [f32]) {
        const PIECE: usize = 128;
        let (mut first, mut second) = ([0.0; PIECE], [0.0; PIECE]);
        for out in out.chunks_mut(PIECE) {
            for (first, second) in first.iter_mut().zip(&mut second).take(out.len()) {
                let bits = self.bits(row, column);
                // Both are multiples of 2⁻²⁴; the first one is never 0.
                *first = ((bits >> 40) + 1) as f32 / (1 << 24) as f32;
                *second = (bits & 0xff_ffff) as f32 / (1 << 24) as f32;
                column += 1;
                if column == columns {
                    (row, column) = (row.wrapping_add(1), 0);
                }
            }
            maths::normals(&first[..out.len()], &second[..out.len()], out);
        }
    }

    /// The mixed seed, from which all numbers derive.
    pub fn mixed_seed(&self) -> u64 {
        self.seed
    }

    fn bits(&self, row: u64, column: u64) -> u64 {
        mix(mix(self.seed ^ row) ^ column.wrapping_mul(INCREMENT))
    }
}

fn mix(bits: u64) -> u64 {
    finalise(bits.wrapping_add(INCREMENT))
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
    fn positions_and_seeds_have_their_own_numbers() {
        let noise = Noise::new(1);
        assert_eq!(noise.normal(3, 4), Noise::new(1).normal(3, 4));
        assert_ne!(noise.normal(3, 4), noise.normal(4, 3));
        assert_ne!(noise.normal(3, 4), Noise::new(2).normal(3, 4));
    }

    #[test]
    fn batched_normals_equal_single_ones() {
        let noise = Noise::new(1);
        let mut rows = [0.0; 40 * 9];
        noise.normals(7, 9, &mut rows);
        for (place, &number) in rows.iter().enumerate() {
            let (row, column) = (7 + place / 9, place % 9);
            assert_eq!(number, noise.normal(row as u64, column as u64));
        }
    }
}
