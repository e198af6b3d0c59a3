//! Joins chunks so that no border can be heard: one fade-in at the very start, and a cross-fade where two renderings overlap.

use std::f32::consts::FRAC_PI_2;

/// Carries the end of a chunk until the next one overlaps it.
pub(crate) struct Stitch {
    fade_in_samples: usize,
    position: usize,
    tail: Vec<f32>,
}

impl Stitch {
    /// Fades the first `fade_in_samples` in.
    pub fn new(fade_in_samples: usize) -> Stitch {
        Stitch {
            fade_in_samples,
            position: 0,
            tail: Vec::new(),
        }
    }

    /// Takes a chunk whose first samples render again what was held back of the one before, and holds back its last `overlap` samples. What
    /// comes out is ready to be heard.
    pub fn push(&mut self, mut samples: Vec<f32>, overlap: usize) -> Vec<f32> {
        let crossing = self.tail.len().min(samples.len());
        for (index, (sample, old)) in samples.iter_mut().zip(&self.tail).enumerate() {
            // Both render the same sound, so the weights add up to one.
            let weight = ((index as f32 + 0.5) / crossing as f32 * FRAC_PI_2)
                .sin()
                .powi(2);
            *sample = weight * *sample + (1.0 - weight) * old;
        }
        // A chunk shorter than what was held back re-renders only the start of it.
        samples.extend_from_slice(&self.tail[crossing..]);
        self.tail = samples.split_off(samples.len().saturating_sub(overlap));
        self.fade_in(&mut samples);
        samples
    }

    /// What is still held back.
    pub fn finish(&mut self) -> Vec<f32> {
        let mut samples = std::mem::take(&mut self.tail);
        self.fade_in(&mut samples);
        samples
    }

    fn fade_in(&mut self, samples: &mut [f32]) {
        let fading = self
            .fade_in_samples
            .saturating_sub(self.position)
            .min(samples.len());
        for (index, sample) in samples[..fading].iter_mut().enumerate() {
            *sample *= (self.position + index) as f32 / self.fade_in_samples as f32;
        }
        self.position += samples.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(range: std::ops::Range<usize>) -> Vec<f32> {
        range.map(|index| (index as f32 * 0.05).sin()).collect()
    }

    #[test]
    fn overlapping_renderings_of_one_sound_give_that_sound() {
        const OVERLAP: usize = 96;
        let whole = tone(0..3000);
        let mut stitch = Stitch::new(0);
        let mut joined = Vec::new();
        let mut start = 0;
        for end in [700, 1500, 2600, 3000] {
            joined.extend(stitch.push(whole[start..end].to_vec(), OVERLAP));
            start = end - OVERLAP;
        }
        joined.extend(stitch.finish());
        assert_eq!(joined.len(), whole.len());
        for (index, (joined, whole)) in joined.iter().zip(&whole).enumerate() {
            assert!(
                (joined - whole).abs() < 1e-6,
                "sample {index}: {joined} against {whole}"
            );
        }
    }

    #[test]
    fn the_fade_in_happens_once_and_across_small_pieces() {
        let mut stitch = Stitch::new(100);
        let mut joined = Vec::new();
        for _ in 0..10 {
            joined.extend(stitch.push(vec![1.0; 30], 0));
        }
        let expected: Vec<f32> = (0..300)
            .map(|index| {
                if index < 100 {
                    index as f32 / 100.0
                } else {
                    1.0
                }
            })
            .collect();
        assert_eq!(joined, expected);
    }

    #[test]
    fn a_chunk_shorter_than_its_overlap_loses_nothing() {
        let mut stitch = Stitch::new(0);
        let mut joined = stitch.push(vec![1.0; 10], 50);
        joined.extend(stitch.finish());
        assert_eq!(joined, vec![1.0; 10]);
    }
}
