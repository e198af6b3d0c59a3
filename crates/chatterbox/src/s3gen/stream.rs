//! The streaming flow. A chunk is rendered with some tokens before it and the look-ahead after it;
//! noise is indexed by absolute frame.

use super::{Flow, FlowInputs, FlowOptions};
use crate::config::FlowConfig;
use sottovoce_tensor::{Context, Failure, Noise, Vector};
use std::f32::consts::FRAC_PI_2;
use std::ops::Range;
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

    /// The solver's options.
    pub fn options(&self) -> FlowOptions {
        self.options
    }

    /// What is rendered for the next `count` waiting tokens.
    ///
    /// # Panics
    /// If fewer tokens are waiting.
    fn window_of(&self, count: usize, flow: &Flow) -> ChunkWindow {
        assert!(
            count <= self.waiting(),
            "{count} tokens of {} that wait",
            self.waiting()
        );
        let voice = &self.voice;
        let prompt = (voice.prompt_tokens.len()).min(self.window.prompt_tokens);
        let cut = voice.prompt_tokens.len() - prompt;
        let end = (self.done + count + flow.look_ahead()).min(self.tokens.len());
        let mut tokens = Vec::with_capacity(prompt + end);
        tokens.extend_from_slice(&voice.prompt_tokens[cut..]);
        tokens.extend_from_slice(&self.tokens[..end]);
        let factor = flow.config.upsampling;
        let bands = flow.config.mel_bands();
        let prompt_frames = prompt * factor;
        // Noise of the prompt's frames comes first, whichever parts of prompt and stream the window
        // holds.
        let (cut_frames, first_frame) = (cut * factor, self.first * factor);
        let prompt_end = (cut_frames + prompt_frames) as u64;
        let spoken = prompt_end + first_frame as u64;
        let mel_length = voice.prompt_mel.data().len();
        let known = cut_frames * bands..(cut_frames + prompt_frames) * bands;
        let overlap = self.done.min(OVERLAP_TOKENS);
        let start = (prompt + self.done - overlap) * factor;
        ChunkWindow {
            tokens,
            known: known.start.min(mel_length)..known.end.min(mel_length),
            noise_rows: [
                cut_frames as u64..prompt_end,
                spoken..spoken + (end * factor) as u64,
            ],
            wanted: start..start + (overlap + count) * factor,
            overlap: overlap * factor,
        }
    }

    fn inputs<'a>(&'a self, window: &'a ChunkWindow) -> FlowInputs<'a> {
        FlowInputs {
            tokens: &window.tokens,
            prompt_mel: &self.voice.prompt_mel.data()[window.known.clone()],
            speaker_vector: self.voice.speaker_vector.data(),
            noise: self.noise,
            noise_rows: &window.noise_rows,
        }
    }

    /// Counts tokens as rendered, and drops those that are no context of what follows.
    fn advance(&mut self, count: usize) {
        self.done += count;
        let drop_count = self.done.saturating_sub(self.window.context_tokens);
        self.tokens.drain(..drop_count);
        self.first += drop_count;
        self.done -= drop_count;
    }
}

/// What is rendered for a chunk.
struct ChunkWindow {
    /// Those of the prompt, the context, the chunk and its look-ahead.
    tokens: Vec<u32>,
    /// The prompt's mel among the voice's numbers.
    known: Range<usize>,
    noise_rows: [Range<u64>; 2],
    /// Frames of the overlap and of the chunk.
    wanted: Range<usize>,
    /// Number of frames of the overlap.
    overlap: usize,
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
        let mut renderings = self.stream_together(ctx, &mut [(state, count)])?;
        Ok(renderings.swap_remove(0))
    }

    /// As [`Flow::stream`], of several streams with the same options in one pass. On a device that
    /// [favours batches](sottovoce_tensor::Operations::favours_batches) each has the very frames
    /// that it has alone.
    ///
    /// # Errors
    /// As [`Flow::stream`]; then the tokens of all keep waiting.
    ///
    /// # Panics
    /// If fewer tokens of a stream are waiting, their options differ, or there are more of them
    /// than [`Flow::mel`] takes.
    pub fn stream_together(
        &self,
        ctx: &Context<'_>,
        streams: &mut [(&mut FlowState, usize)],
    ) -> Result<Vec<Rendering>, Failure> {
        let Some(options) = streams.first().map(|(state, _)| state.options) else {
            return Ok(Vec::new());
        };
        let windows: Vec<ChunkWindow> = (streams.iter())
            .map(|(state, count)| {
                assert_eq!(state.options, options, "streams with other options");
                state.window_of(*count, self)
            })
            .collect();
        let inputs: Vec<FlowInputs<'_>> = (streams.iter().zip(&windows))
            .map(|((state, _), window)| state.inputs(window))
            .collect();
        let mel = self.mel(ctx, &inputs, options);
        let frames = mel.rows() / streams.len();
        let renderings: Result<Vec<Rendering>, Failure> = (windows.iter().enumerate())
            .map(|(index, window)| {
                let first = index * frames;
                let wanted = first + window.wanted.start..first + window.wanted.end;
                Ok(Rendering {
                    mel: ctx.download(mel.view().rows(wanted))?,
                    overlap: window.overlap,
                })
            })
            .collect();
        let renderings = renderings?;
        for (state, count) in streams {
            state.advance(*count);
        }
        Ok(renderings)
    }
}
