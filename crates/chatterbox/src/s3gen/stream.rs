//! The flow chunk by chunk: a chunk's tokens with some before them and the look-ahead after them,
//! and noise by absolute frame.

use super::{Flow, FlowOptions};
use crate::config::FlowConfig;
use sottovoce_tensor::{Context, Failure, Noise, Vector};
use std::f32::consts::FRAC_PI_2;
use std::sync::Arc;

/// Tokens before a chunk whose frames come out again with it: now that what follows them is known
/// they are nearer to the whole, and a border between two renderings can be spread over them.
const AGAIN_TOKENS: usize = 4;

/// Tokens beyond the encoder's own look-ahead that a chunk waits for. T3 makes them in a fraction
/// of the flow's time, and attention in the flow looks both ways: with 6 the mel steps a fifth less
/// where chunks meet, and the whole mel is a twelfth nearer.
const FURTHER_TOKENS: usize = 6;

/// Mel frames of a chunk.
#[derive(Clone, Debug, Default)]
pub struct Rendering {
    /// `[frames][bands]`.
    pub mel: Vec<f32>,
    /// Frames at the start that came out before, with the chunk before.
    pub again: usize,
}

impl Rendering {
    /// Adds the new frames to `mel` `[frames][bands]`. Those at its end that are there again, of
    /// `waiting` that may still change, pass from their old rendering to the new one.
    pub fn join(&self, mel: &mut Vec<f32>, waiting: usize, bands: usize) {
        let (again, new) = self.mel.split_at(self.again * bands);
        let crossing = waiting.min(self.again);
        let start = mel.len() - crossing * bands;
        let old = mel[start..].chunks_exact_mut(bands);
        let again = again[again.len() - crossing * bands..].chunks_exact(bands);
        for (place, (old, again)) in old.zip(again).enumerate() {
            let weight = ((place as f32 + 0.5) / crossing as f32 * FRAC_PI_2)
                .sin()
                .powi(2);
            for (old, again) in old.iter_mut().zip(again) {
                *old += weight * (again - *old);
            }
        }
        mel.extend_from_slice(new);
    }
}

/// What the flow takes from a voice.
#[derive(Clone, Debug)]
pub struct FlowVoice {
    /// Speech tokens of the clip.
    pub prompt_tokens: Vec<u32>,
    /// Its mel, `[frames][bands]`, as many frames as the tokens give.
    pub prompt_mel: Vector,
    /// Its x-vector.
    pub speaker_vector: Vector,
}

/// What is seen again with each chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowWindow {
    /// Most tokens of the voice's prompt, its last ones.
    pub prompt_tokens: usize,
    /// Most tokens of the stream before the chunk.
    pub context_tokens: usize,
}

/// A stream's flow.
#[derive(Clone, Debug)]
pub struct FlowState {
    voice: Arc<FlowVoice>,
    noise: Noise,
    window: FlowWindow,
    options: FlowOptions,
    /// Tokens from number `first` on: context, and what is not mel yet.
    tokens: Vec<u32>,
    /// Number of the first of `tokens` in the stream.
    first: usize,
    /// Of `tokens`, how many are mel already.
    done: usize,
}

impl FlowState {
    /// The start of a stream, with noise from `seed`.
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

    /// Forgets what was spoken, so that what follows begins as a stream does. Noise goes on.
    ///
    /// # Panics
    /// If tokens wait.
    pub fn restart(&mut self) {
        assert_eq!(self.waiting(), 0, "tokens wait that would be lost");
        self.first += self.tokens.len();
        self.tokens.clear();
        self.done = 0;
    }

    /// Tokens given and not mel yet.
    pub fn waiting(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Adds tokens.
    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

impl Flow {
    /// Tokens that must be there beyond those made into mel, until the last ones.
    pub fn look_ahead(&self) -> usize {
        Flow::look_ahead_of(&self.config)
    }

    /// The same of a flow that is still to be loaded.
    pub fn look_ahead_of(config: &FlowConfig) -> usize {
        config.encoder.look_ahead + FURTHER_TOKENS
    }

    /// Mel frames of the next `count` waiting tokens, after those of the last few tokens before
    /// them once more.
    ///
    /// # Errors
    /// If memory ran out or the device failed; the tokens wait on.
    ///
    /// # Panics
    /// If fewer are waiting.
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
        // Prompt frames come first, whatever part of the prompt and of the stream is in the window.
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
        let again = state.done.min(AGAIN_TOKENS);
        let start = (prompt + state.done - again) * factor;
        let frames = ctx.download(mel.view().rows(start..start + (again + count) * factor))?;
        drop(mel);
        state.done += count;
        let drop_count = state.done.saturating_sub(state.window.context_tokens);
        state.tokens.drain(..drop_count);
        state.first += drop_count;
        state.done -= drop_count;
        Ok(Rendering {
            mel: frames,
            again: again * factor,
        })
    }
}
