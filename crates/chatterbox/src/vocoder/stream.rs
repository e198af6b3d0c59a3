//! The vocoder chunk by chunk.
//!
//! A chunk is decoded with frames around it, as far as the convolutions reach; the last frames of what is there wait for those after
//! them. What comes out is, but for rounding, what the whole mel at once would give.

use super::{SourceState, Vocoder};
use crate::s3gen::Rendering;
use sottovoce_tensor::{Context, Failure, Tensor};

/// Frames after a frame that wait until they are there. A trained voice sees no further than 6; the most that any weights can see is 16,
/// and waiting for them would bring the first sound later by a sixth of a second.
const AHEAD_FRAMES: usize = 8;
/// Frames before a frame that its samples depend on: 3 of the first convolution, 7.5 and 1.5 of the residual blocks at the first two rates,
/// and what is left of the later ones.
const REACH_FRAMES: usize = 14;

/// A stream's vocoder.
#[derive(Clone, Debug)]
pub struct VocoderState {
    source: SourceState,
    bands: usize,
    /// Mel frames from `first` on, `[frames][bands]`.
    mel: Vec<f32>,
    /// Source samples of those of the frames whose samples are out.
    source_samples: Vec<f32>,
    /// Frames in `mel` whose samples are out.
    emitted: usize,
    /// Frames that wait for those after them.
    ahead: usize,
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
            ahead: AHEAD_FRAMES,
        }
    }

    /// Lets `frames` frames wait for those after them in place of the usual number.
    #[must_use]
    pub fn waiting_for(self, frames: usize) -> VocoderState {
        VocoderState {
            ahead: frames,
            ..self
        }
    }

    /// Most frames that one decoding of `frames` new frames sees: what a workspace must be planned for.
    pub fn frames_max(frames: usize) -> usize {
        REACH_FRAMES + AHEAD_FRAMES + frames
    }
}

impl Vocoder {
    /// Takes mel frames and gives the samples that can be known now; with `last`, all of them. Frames that come again and still wait pass
    /// from their old rendering to the new one by and by.
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
            frames.saturating_sub(state.ahead)
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
            // The run only measures.
            return Ok(samples);
        }
        state.source.advance(self.config(), &f0);
        state.source_samples.extend_from_slice(&source);
        state.emitted = known;
        let keep_from = known.saturating_sub(REACH_FRAMES);
        state.mel.drain(..keep_from * state.bands);
        state.source_samples.drain(..keep_from * per_frame);
        // What a chunk needed beside is ten times what is carried on.
        state.mel.shrink_to_fit();
        state.source_samples.shrink_to_fit();
        state.emitted -= keep_from;
        Ok(samples)
    }

    /// Decodes everything that `state` holds. What is final and new of the frames up to `known` in one tensor, so that it is read at once:
    /// samples, source samples, fundamental frequencies.
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
        // Those of frames after `known` are not final: they are made again next time.
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
