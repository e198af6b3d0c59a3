//! Random weights from a seed: every tensor exists, and each element is a function of seed, name
//! and index.

use sottovoce_tensor::split_mix::{INCREMENT, finalise};

/// The weights of one tensor.
pub(super) struct Synthetic {
    state: u64,
    middle: f32,
    half_width: f32,
}

impl Synthetic {
    /// The tensor `name`, where each output sums `inputs` values: 1 for anything with a single
    /// dimension.
    pub(super) fn new(seed: u64, name: &str, dimensions: usize, inputs: usize) -> Synthetic {
        let state = name
            .bytes()
            .fold(finalise(seed.wrapping_add(INCREMENT)), |state, byte| {
                finalise(state ^ u64::from(byte)).wrapping_add(1)
            });
        // Gains and variances are drawn around one, all other weights around zero; matrices
        // preserve the magnitude of their input.
        let is_gain = dimensions == 1
            && ["weight", "alpha", "running_var"]
                .iter()
                .any(|end| name.ends_with(end));
        let half_width = match dimensions {
            1 => 0.05,
            // Embeddings are looked up, not summed over.
            _ if name == "text_emb.weight" || name == "speech_emb.weight" => 3.0_f32.sqrt(),
            // GPT-2's initialisation: the output projections of its 24 layers are smaller by the
            // square root of their number.
            _ if name.ends_with("c_proj.weight") => (3.0 / inputs.max(1) as f32 / 48.0).sqrt(),
            // A uniform distribution of half width √3 has a standard deviation of 1.
            _ => (3.0 / inputs.max(1) as f32).sqrt(),
        };
        Synthetic {
            state,
            middle: if is_gain { 1.0 } else { 0.0 },
            half_width,
        }
    }

    /// The element at an index.
    pub(super) fn at(&self, index: usize) -> f32 {
        let bits = finalise(
            self.state
                .wrapping_add((index as u64).wrapping_mul(INCREMENT)),
        );
        let unit = (bits >> 40) as f32 * (2.0 / (1u32 << 24) as f32) - 1.0;
        self.middle + unit * self.half_width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_depend_on_seed_name_and_index_and_have_unit_gain() {
        let tensor = Synthetic::new(1, "a.weight", 2, 64);
        let again = Synthetic::new(1, "a.weight", 2, 64);
        let other = Synthetic::new(2, "a.weight", 2, 64);
        let named = Synthetic::new(1, "b.weight", 2, 64);
        let values: Vec<f32> = (0..4096).map(|index| tensor.at(index)).collect();
        assert!(
            (0..4096).all(|index| again.at(index) == values[index]),
            "the same seed gives the same weights"
        );
        assert!(
            (0..64)
                .filter(|&index| other.at(index) == values[index])
                .count()
                < 4
        );
        assert!(
            (0..64)
                .filter(|&index| named.at(index) == values[index])
                .count()
                < 4
        );
        let variance = values.iter().map(|value| value * value).sum::<f32>() / 4096.0;
        assert!(
            (variance * 64.0 - 1.0).abs() < 0.1,
            "variance times inputs is one, not {}",
            variance * 64.0
        );
        assert!((Synthetic::new(1, "norm.weight", 1, 1).at(3) - 1.0).abs() <= 0.05);
    }
}
