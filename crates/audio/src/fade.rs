//! The fade-in at the start of a stream. Chunk borders need none: both sides belong to one
//! rendering.

/// Fades in the first samples of a stream.
pub struct FadeIn {
    length: usize,
    position: usize,
}

impl FadeIn {
    /// Fades the first `length` samples in.
    pub fn new(length: usize) -> FadeIn {
        FadeIn {
            length,
            position: 0,
        }
    }

    /// Fades in again from the next sample on.
    pub fn restart(&mut self) {
        self.position = 0;
    }

    /// Applies the fade to the next samples, as far as it reaches.
    pub fn apply(&mut self, samples: &mut [f32]) {
        let fading = self.length.saturating_sub(self.position).min(samples.len());
        for (index, sample) in samples[..fading].iter_mut().enumerate() {
            *sample *= (self.position + index) as f32 / self.length as f32;
        }
        self.position += samples.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fade_in_happens_once_and_across_small_pieces() {
        let mut fade = FadeIn::new(100);
        let mut joined = vec![1.0; 300];
        for piece in joined.chunks_mut(30) {
            fade.apply(piece);
        }
        let expected: Vec<f32> = (0..300)
            .map(|index| (index as f32 / 100.0).min(1.0))
            .collect();
        assert_eq!(joined, expected);
    }
}
