//! The streaming flow. A chunk is rendered with some tokens before it and the look-ahead after it;
//! noise is indexed by absolute frame.

use super::{Flow, FlowOptions};
use crate::config::FlowConfig;
use sottovoce_tensor::{Context, Failure, Noise, Vector};
use std::f32::consts::FRAC_PI_2;
use std::sync::Arc;

/// Tokens before a chunk that are rendered again with it. With their right context known, their
/// frames are closer to the offline result, and the border between two renderings can be
/// cross-faded over them.
const OVERLAP_TOKENS: usize = 4;

/// Tokens beyond the encoder's own look-ahead that a chunk waits for. T3 generates them in a
/// fraction of the flow's time, and the flow's attention is bidirectional. With 6 tokens, mel
/// discontinuities at chunk borders shrink by a fifth, and the error to the offline mel by a
/// twelfth.
const FURTHER_TOKENS: usize = 6;

/// Mel frames of a chunk.
#[derive(Clone, Debug, Default)]
pub struct Rendering {
    /// `[frames][bands]`.
    pub mel: Vec<f32>,
    /// Leading frames that the previous chunk has rendered already.
    pub overlap: usize,
}

impl Rendering {
    /// Appends the new frames to `mel` `[frames][bands]`. Of the last `waiting` frames, which may
    /// still change, those rendered again are cross-faded from their old rendering to the new one.
    pub fn join(&self, mel: &mut Vec<f32>, waiting: usize, bands: usize) {
        let (overlapping, new) = self.mel.split_at(self.overlap * bands);
        let crossing = waiting.min(self.overlap);
        let start = mel.len() - crossing * bands;
        let old = mel[start..].chunks_exact_mut(bands);
        let overlapping = overlapping[overlapping.len() - crossing * bands..].chunks_exact(bands);
        for (place, (old, overlapping)) in old.zip(overlapping).enumerate() {
            let weight = ((place as f32 + 0.5) / crossing as f32 * FRAC_PI_2)
                .sin()
                .powi(2);
            for (old, overlapping) in old.iter_mut().zip(overlapping) {
                *old += weight * (overlapping - *old);
            }
        }
        mel.extend_from_slice(new);
    }
}

/// The flow's inputs from a voice.
#[derive(Clone, Debug)]
pub struct FlowVoice {
    /// Speech tokens of the clip.
    pub prompt_tokens: Vec<u32>,
    /// Mel of the clip, `[frames][bands]`, as many frames as the tokens give.
    pub prompt_mel: Vector,
    /// X-vector.
    pub speaker_vector: Vector,
}

/// Context that is rendered again with each chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowWindow {
    /// Most tokens of the voice's prompt; the last ones are used.
    pub prompt_tokens: usize,
    /// Most tokens of the stream before the chunk.
    pub context_tokens: usize,
}

/// State of a stream's flow.
#[derive(Clone, Debug)]
pub struct FlowState {
    voice: Arc<FlowVoice>,
    noise: Noise,
    window: FlowWindow,
    options: FlowOptions,
    /// Tokens from index `first` on: context, and tokens that are not rendered yet.
    tokens: Vec<u32>,
    /// Index of the first of `tokens` in the stream.
    first: usize,
    /// Number of `tokens` that are rendered.
    done: usize,
}

impl FlowState {
    /// The state at the start of a stream, with noise from `seed`.
    pub fn new(
        voice: Arc<FlowVoice>,
        seed: u64,
        window: FlowWindow,
        options: FlowOptions,
    ) -> FlowState {
        FlowState {
            voice,
            noise: Noise::new(seed ^ 0x666c_6f77),
            window,
            options,
            tokens: Vec::new(),
            first: 0,
            done: 0,
        }
    }

    /// Drops the context, as at the start of a stream. The noise continues.
    ///
    /// # Panics
    /// If tokens are waiting.
    pub fn restart(&mut self) {
        assert_eq!(self.waiting(), 0, "tokens wait that would be lost");
        self.first += self.tokens.len();
        self.tokens.clear();
        self.done = 0;
    }

    /// Tokens pushed and not rendered yet.
    pub fn waiting(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Appends tokens.
    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

impl Flow {
    /// Tokens needed beyond those to be rendered, except at the end.
    pub fn look_ahead(&self) -> usize {
        Flow::look_ahead_of(&self.config)
    }

    /// As [`Flow::look_ahead`], for a flow that is not loaded.
    pub fn look_ahead_of(config: &FlowConfig) -> usize {
        config.encoder.look_ahead + FURTHER_TOKENS
    }

    /// Mel frames of the next `count` waiting tokens, preceded by those of the last few tokens
    /// before them, rendered again.
    ///
    /// # Errors
    /// If memory ran out or the device failed; the tokens keep waiting.
    ///
    /// # Panics
    /// If fewer tokens are waiting.
    pub fn stream(
        &self,
        ctx: &Context<'_>,
        state: &mut FlowState,
        count: usize,
    ) -> Result<Rendering, Failure> {
        assert!(
            count <= state.waiting(),
            "{count} tokens of {} that wait",
            state.waiting()
        );
        let voice = state.voice.clone();
        let prompt = (voice.prompt_tokens.len()).min(state.window.prompt_tokens);
        let cut = voice.prompt_tokens.len() - prompt;
        let end = (state.done + count + self.look_ahead()).min(state.tokens.len());
        let mut window = Vec::with_capacity(prompt + end);
        window.extend_from_slice(&voice.prompt_tokens[cut..]);
        window.extend_from_slice(&state.tokens[..end]);
        let factor = self.config.upsampling;
        let bands = self.config.mel_bands();
        let prompt_frames = prompt * factor;
        // Noise of the prompt's frames comes first, whichever parts of prompt and stream the window
        // holds.
        let (cut_frames, first_frame) = (cut * factor, state.first * factor);
        let prompt_end = (cut_frames + prompt_frames) as u64;
        let spoken = prompt_end + first_frame as u64;
        let noise_rows = [
            cut_frames as u64..prompt_end,
            spoken..spoken + (end * factor) as u64,
        ];
        let prompt_mel = voice.prompt_mel.data();
        let known = cut_frames * bands..(cut_frames + prompt_frames) * bands;
        let prompt_mel =
            &prompt_mel[known.start.min(prompt_mel.len())..known.end.min(prompt_mel.len())];
        let mel = self.mel(
            ctx,
            &window,
            prompt_mel,
            voice.speaker_vector.data(),
            state.noise,
            &noise_rows,
            state.options,
        );
        let overlap = state.done.min(OVERLAP_TOKENS);
        let start = (prompt + state.done - overlap) * factor;
        let frames = ctx.download(mel.view().rows(start..start + (overlap + count) * factor))?;
        drop(mel);
        state.done += count;
        let drop_count = state.done.saturating_sub(state.window.context_tokens);
        state.tokens.drain(..drop_count);
        state.first += drop_count;
        state.done -= drop_count;
        Ok(Rendering {
            mel: frames,
            overlap: overlap * factor,
        })
    }
}
