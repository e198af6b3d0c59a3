//! The vocoder, chunk by chunk.
//!
//! A chunk is decoded with the frames around it that the convolutions reach, and the last frames
//! are held back as look-ahead. Apart from rounding, the output equals that of the whole mel at
//! once.

use super::{SourceState, Vocoder};
use crate::config::VocoderConfig;
use crate::s3gen::Rendering;
use sottovoce_tensor::{Context, Failure, Tensor};

/// Look-ahead: frames that must follow a frame before its samples are final. A trained model
/// depends on no more than 6. Weights in general could depend on 16, which would delay first audio
/// by a sixth of a second.
pub const AHEAD_FRAMES: usize = 8;

/// State of a stream's vocoder.
#[derive(Clone, Debug)]
pub struct VocoderState {
    source: SourceState,
    bands: usize,
    /// Mel frames from `first` on, `[frames][bands]`.
    mel: Vec<f32>,
    /// Source samples of the frames whose samples were emitted.
    source_samples: Vec<f32>,
    /// Number of frames in `mel` whose samples were emitted.
    emitted: usize,
    /// Frames kept before the next one, on which its samples depend.
    reach: usize,
}

impl VocoderState {
    /// The start of a stream.
    pub fn new(vocoder: &Vocoder, bands: usize, seed: u64) -> VocoderState {
        VocoderState {
            source: SourceState::new(vocoder.config(), seed),
            bands,
            mel: Vec::new(),
            source_samples: Vec::new(),
            emitted: 0,
            reach: vocoder.config().reach_frames(),
        }
    }

    /// Largest number of frames in one decoding of `frames` new frames, for planning the workspace.
    pub fn frames_max(config: &VocoderConfig, frames: usize) -> usize {
        config.reach_frames() + AHEAD_FRAMES + frames
    }
}

impl Vocoder {
    /// Takes mel frames and returns the samples that are final; with `last`, all remaining ones.
    /// Frames that are rendered again while held back are cross-faded from their old rendering to
    /// the new one.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn stream(
        &self,
        ctx: &Context<'_>,
        state: &mut VocoderState,
        rendering: &Rendering,
        last: bool,
    ) -> Result<Vec<f32>, Failure> {
        let waiting = state.mel.len() / state.bands - state.emitted;
        rendering.join(&mut state.mel, waiting, state.bands);
        let frames = state.mel.len() / state.bands;
        let known = if last {
            frames
        } else {
            frames.saturating_sub(AHEAD_FRAMES)
        };
        if known <= state.emitted {
            return Ok(Vec::new());
        }
        let per_frame = self.config().samples_per_frame();
        let (samples, source, f0) = {
            let joined = self.decode_window(ctx, state, frames, known);
            let count = (known - state.emitted) * per_frame;
            let split = |values: &[f32]| {
                let (samples, rest) = values.split_at(count);
                let (source, f0) = rest.split_at(count);
                (samples.to_vec(), source.to_vec(), f0.to_vec())
            };
            ctx.read(&joined, split)?
        };
        if samples.is_empty() {
            // A dry run.
            return Ok(samples);
        }
        state.source.advance(self.config(), &f0);
        state.source_samples.extend_from_slice(&source);
        state.emitted = known;
        let keep_from = known.saturating_sub(state.reach);
        state.mel.drain(..keep_from * state.bands);
        state.source_samples.drain(..keep_from * per_frame);
        // During a chunk the buffer grows to ten times the state that is carried on.
        state.mel.shrink_to_fit();
        state.source_samples.shrink_to_fit();
        state.emitted -= keep_from;
        Ok(samples)
    }

    /// Decodes all frames of `state`. Returns the final new part of the frames up to `known` in one
    /// tensor, so that it is read at once: samples, source samples, fundamental frequencies.
    fn decode_window(
        &self,
        ctx: &Context<'_>,
        state: &VocoderState,
        frames: usize,
        known: usize,
    ) -> Tensor {
        let config = self.config();
        let per_frame = config.samples_per_frame();
        let mel = ctx.upload(&[frames, state.bands], &state.mel);
        let f0 = self.f0(ctx, &mel);
        // The source samples after `known` are not final: they are recomputed next time.
        let sines = state
            .source
            .harmonics(ctx, config, f0.view().rows(state.emitted..frames));
        let merged = self.merge_source(ctx, &sines);
        drop(sines);
        let kept = state.emitted * per_frame;
        let mut source = ctx.tensor(&[frames * per_frame, 1]);
        ctx.write(source.view_mut().rows(0..kept), |rows| {
            rows.copy_from_slice(&state.source_samples);
        });
        let rest = source.view_mut().rows(kept..frames * per_frame);
        ctx.copy_into(&merged, rest);
        drop(merged);
        let samples = self.decode(ctx, &mel, &source);
        drop(mel);
        let new = kept..known * per_frame;
        ctx.concat_rows(&[
            samples.view().rows(new.clone()),
            source.view().rows(new),
            f0.view().rows(state.emitted..known),
        ])
    }
}
