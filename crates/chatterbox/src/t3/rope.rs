//! Rotary position embedding (arXiv:2104.09864) with Llama 3.1's scaling of long wavelengths.

use crate::config::RopeConfig;
use std::f32::consts::PI;

/// Angle per position for each pair of channels of a head.
pub(super) fn frequencies(config: &RopeConfig, head_size: usize) -> Vec<f32> {
    (0..head_size / 2)
        .map(|pair| {
            let exponent = 2.0 * pair as f32 / head_size as f32;
            let frequency = 1.0 / config.theta.powf(exponent);
            let Some(scaling) = &config.scaling else {
                return frequency;
            };
            let original = scaling.original_positions as f32;
            let (low, high) = (scaling.low_frequency_factor, scaling.high_frequency_factor);
            let wavelength = 2.0 * PI / frequency;
            if wavelength < original / high {
                frequency
            } else if wavelength > original / low {
                frequency / scaling.factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / scaling.factor + smooth * frequency
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn short_wavelengths_stay_and_long_ones_turn_eight_times_slower() {
        let config = ModelConfig::base().t3.backbone;
        let rope = config.rope.expect("base has rotary positions");
        let plain = RopeConfig {
            scaling: None,
            ..rope
        };
        let (scaled, plain) = (frequencies(&rope, 64), frequencies(&plain, 64));
        assert_eq!(scaled[0], plain[0], "the shortest wavelength stays");
        assert_eq!(
            scaled[31],
            plain[31] / 8.0,
            "the longest is stretched in full"
        );
        let between = (0..32).filter(|&pair| {
            let ratio = plain[pair] / scaled[pair];
            ratio > 1.001 && ratio < 7.999
        });
        assert!(between.count() > 0, "some lie between");
    }
}
