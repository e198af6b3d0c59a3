//! The voice encoder: windows of power mel frames through an LSTM, one unit-length embedding for
//! the clip.

use super::front_end::{power_mel, trim};
use crate::config::VoiceEncoderConfig;
use crate::weights::{Loader, WeightsError};
use sottovoce_tensor::{Activation, Context, Failure, Linear, Lstm};

/// Windows per LSTM batch, which bounds the activations for clips of any length.
const BATCH: usize = 32;

/// Recordings to speaker embeddings.
#[derive(Debug)]
pub struct VoiceEncoder {
    config: VoiceEncoderConfig,
    lstm: Lstm,
    projection: Linear,
}

impl VoiceEncoder {
    /// Loads the weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &mut Loader<'_>,
        config: &VoiceEncoderConfig,
    ) -> Result<VoiceEncoder, WeightsError> {
        Ok(VoiceEncoder {
            config: *config,
            lstm: loader.lstm("lstm", config.mel.bands, config.hidden, config.layers)?,
            projection: loader.linear("proj", [config.embedding, config.hidden], true)?,
        })
    }

    /// The speaker embedding `[embedding]` of samples at the encoder's rate, after trimming quiet
    /// ends.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn embed(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure> {
        let config = &self.config;
        let bands = config.mel.bands;
        let mut mel = power_mel(trim(samples, config.trim_decibels), &config.mel);
        let starts = self.windows(mel.len() / bands);
        let frames = (starts.len() - 1) * config.step() + config.window;
        mel.resize(frames * bands, 0.0);
        let mut sum = vec![0.0f64; config.embedding];
        for group in (0..starts.len()).collect::<Vec<_>>().chunks(BATCH) {
            let input: Vec<f32> = (group.iter())
                .flat_map(|&index| {
                    mel[starts[index] * bands..][..config.window * bands]
                        .iter()
                        .copied()
                })
                .collect();
            let input = ctx.upload(&[group.len() * config.window, bands], &input);
            let states = ctx.lstm(&input, group.len(), &self.lstm);
            let last: Vec<_> = (1..=group.len())
                .map(|count| {
                    states
                        .view()
                        .rows(count * config.window - 1..count * config.window)
                })
                .collect();
            let last = ctx.concat_rows(&last);
            let embeddings = ctx.linear_activated(&last, &self.projection, Activation::Relu);
            ctx.read(&embeddings, |embeddings| {
                for embedding in embeddings.chunks_exact(config.embedding) {
                    let length = length(embedding.iter().map(|&value| f64::from(value)));
                    for (sum, &value) in sum.iter_mut().zip(embedding) {
                        *sum += f64::from(value) / length;
                    }
                }
            })?;
        }
        let length = length(sum.iter().copied());
        Ok(sum.iter().map(|value| (value / length) as f32).collect())
    }

    /// Start frames of the windows. The last one counts if enough of it is covered; there is at
    /// least one.
    fn windows(&self, frames: usize) -> Vec<usize> {
        let (window, step) = (self.config.window, self.config.step());
        let reach = (frames + step).saturating_sub(window);
        let mut count = reach / step;
        let coverage = (reach % step + window - step) as f32 / window as f32;
        if count == 0 || coverage >= self.config.coverage_min {
            count += 1;
        }
        (0..count).map(|index| index * step).collect()
    }
}

/// Euclidean norm; 1 for the zero vector, which stays zero when divided.
fn length(values: impl Iterator<Item = f64>) -> f64 {
    match values.map(|value| value * value).sum::<f64>().sqrt() {
        0.0 => 1.0,
        length => length,
    }
}
