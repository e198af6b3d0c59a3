//! The S3 tokenizer, version 2: log mel frames to speech tokens at a quarter of the frame rate,
//! quantised to ternary digits.

use super::front_end::token_mel;
use crate::config::SpeechTokenizerConfig;
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Attention, Context, Conv1d, Failure, LayerNorm, Linear, Matrix, Padding, Tensor,
};
use std::ops::Range;

const ROTARY_BASE: f32 = 10_000.0;
const NORM_EPSILON: f32 = 1e-5;
/// Keeps a saturated digit from rounding beyond its level; the reference's constant.
const DIGIT_RANGE: f32 = 0.999;
/// Frames per token: two convolutions of stride 2.
const FRAMES_PER_TOKEN: usize = 4;

/// One of the transformer blocks, which hold nearly all of the tokenizer's weights.
#[derive(Debug)]
pub struct TokenizerBlock {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// A filter over time per channel, `[taps, channels]`.
    memory: Matrix,
    feed_forward_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
}

impl TokenizerBlock {
    /// Loads the weights of block `index`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &mut Loader<'_>,
        config: &SpeechTokenizerConfig,
        index: usize,
    ) -> Result<TokenizerBlock, WeightsError> {
        let hidden = config.hidden;
        let name = |part: &str| format!("tokenizer.encoder.blocks.{index}.{part}");
        Ok(TokenizerBlock {
            attention_norm: loader.layer_norm(&name("attn_ln"), hidden, NORM_EPSILON)?,
            query: loader.linear(&name("attn.query"), [hidden; 2], true)?,
            key: loader.linear(&name("attn.key"), [hidden; 2], false)?,
            value: loader.linear(&name("attn.value"), [hidden; 2], true)?,
            output: loader.linear(&name("attn.out"), [hidden; 2], true)?,
            memory: loader.depthwise(
                &name("attn.fsmn_block.weight"),
                hidden,
                config.memory_kernel,
            )?,
            feed_forward_norm: loader.layer_norm(&name("mlp_ln"), hidden, NORM_EPSILON)?,
            expand: loader.linear(&name("mlp.0"), [4 * hidden, hidden], true)?,
            contract: loader.linear(&name("mlp.2"), [hidden, 4 * hidden], true)?,
        })
    }
}

/// A window between two blocks.
struct State {
    x: Tensor,
    cosines: Tensor,
    sines: Tensor,
}

/// Samples at the tokenizer's rate, and the limit of tokens, if any.
pub type TokenizerClip<'a> = (&'a [f32], Option<usize>);

/// Recordings to speech tokens. Its transformer blocks are loaded one by one, so that they need not
/// be in memory together.
#[derive(Debug)]
pub struct SpeechTokenizer {
    config: SpeechTokenizerConfig,
    convolutions: [Conv1d; 2],
    digits: Linear,
}

impl SpeechTokenizer {
    /// Loads the weights, except those of the blocks.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &mut Loader<'_>,
        config: &SpeechTokenizerConfig,
    ) -> Result<SpeechTokenizer, WeightsError> {
        let hidden = config.hidden;
        let halving = |inputs| Conv1dSizes {
            stride: 2,
            padding: Padding { left: 1, right: 1 },
            ..Conv1dSizes::new(hidden, inputs, 3)
        };
        let convolutions = [
            loader.conv1d("tokenizer.encoder.conv1", halving(config.mel.bands))?,
            loader.conv1d("tokenizer.encoder.conv2", halving(hidden))?,
        ];
        let digits = loader.linear(
            "tokenizer.quantizer._codebook.project_down",
            [config.code_digits, hidden],
            true,
        )?;
        Ok(SpeechTokenizer {
            config: *config,
            convolutions,
            digits,
        })
    }

    /// Tokens of each clip. `block` loads the transformer block of an index; each block is loaded
    /// once and dropped before the next one.
    ///
    /// # Errors
    /// The errors of `block`, or if memory ran out or the device failed.
    pub fn tokens<E: From<Failure>>(
        &self,
        ctx: &Context<'_>,
        clips: &[TokenizerClip<'_>],
        block: impl FnMut(usize) -> Result<TokenizerBlock, E>,
    ) -> Result<Vec<Vec<u32>>, E> {
        let config = &self.config;
        let bands = config.mel.bands;
        let mels: Vec<Vec<f32>> = (clips.iter())
            .map(|&(samples, count_max)| {
                let mut mel = token_mel(samples, &config.mel);
                if let Some(count_max) = count_max {
                    mel.truncate(count_max * FRAMES_PER_TOKEN * bands);
                }
                mel
            })
            .collect();
        let windows: Vec<Vec<Range<usize>>> = mels
            .iter()
            .map(|mel| windows(config, mel.len() / bands))
            .collect();
        let parts = (mels.iter().zip(&windows)).flat_map(|(mel, windows)| {
            (windows.iter()).map(|window| &mel[window.start * bands..window.end * bands])
        });
        let pieces = self.tokens_of_mels(ctx, parts, block)?;
        let mut pieces = pieces.into_iter();
        let joined = (windows.iter())
            .map(|windows| {
                let count = windows.len();
                let pieces = pieces.by_ref().take(count).enumerate();
                let kept = pieces.flat_map(|(index, tokens)| {
                    kept(config, tokens, index == 0, index + 1 == count)
                });
                kept.collect()
            })
            .collect();
        Ok(joined)
    }

    /// Tokens of windows of scaled mel frames `[frames × bands]`, each of at most the config's
    /// length, before neighbours are joined.
    ///
    /// # Errors
    /// As [`SpeechTokenizer::tokens`].
    pub(super) fn tokens_of_mels<'m, E: From<Failure>>(
        &self,
        ctx: &Context<'_>,
        windows: impl Iterator<Item = &'m [f32]>,
        mut block: impl FnMut(usize) -> Result<TokenizerBlock, E>,
    ) -> Result<Vec<Vec<u32>>, E> {
        let mut states: Vec<State> = windows.map(|mel| self.begin(ctx, mel)).collect();
        for index in 0..self.config.layers {
            let block = block(index)?;
            for state in &mut states {
                self.block(ctx, &block, state);
            }
        }
        let pieces = states
            .into_iter()
            .map(|state| self.finish(ctx, &state.x))
            .collect::<Result<Vec<_>, Failure>>()?;
        Ok(pieces)
    }

    fn begin(&self, ctx: &Context<'_>, mel: &[f32]) -> State {
        let bands = self.config.mel.bands;
        let mut x = ctx.upload(&[mel.len() / bands, bands], mel);
        for convolution in &self.convolutions {
            x = ctx.conv1d_activated(&x, convolution, Activation::GeluErf);
        }
        let [cosines, sines] = self.rotary(ctx, x.rows());
        State { x, cosines, sines }
    }

    fn finish(&self, ctx: &Context<'_>, x: &Tensor) -> Result<Vec<u32>, Failure> {
        let digits = ctx.linear(x, &self.digits);
        ctx.read(&digits, |digits| {
            let codes = digits.chunks_exact(self.config.code_digits);
            codes.map(token).collect()
        })
    }

    fn block(&self, ctx: &Context<'_>, block: &TokenizerBlock, state: &mut State) {
        let State { x, cosines, sines } = state;
        let heads = self.config.heads;
        let normed = ctx.layer_norm(&*x, &block.attention_norm);
        let mut query = ctx.linear(&normed, &block.query);
        let mut key = ctx.linear(&normed, &block.key);
        let value = ctx.linear(&normed, &block.value);
        ctx.rotate(&mut query, heads, cosines, sines);
        ctx.rotate(&mut key, heads, cosines, sines);
        let scale = ((self.config.hidden / heads) as f32).powf(-0.5);
        let options = Attention {
            heads,
            scale,
            causal: false,
            relative: None,
        };
        let attended = ctx.attention(&query, &key, &value, &options);
        ctx.linear_add(&attended, &block.output, x);
        ctx.add(&mut *x, &value);
        self.add_memory(ctx, block, &value, x);
        let normed = ctx.layer_norm(&*x, &block.feed_forward_norm);
        let inner = ctx.linear_activated(&normed, &block.expand, Activation::GeluErf);
        ctx.linear_add(&inner, &block.contract, x);
    }

    /// Adds the filtered values tap by tap: each tap is a shifted copy, scaled by channel.
    fn add_memory(
        &self,
        ctx: &Context<'_>,
        block: &TokenizerBlock,
        value: &Tensor,
        x: &mut Tensor,
    ) {
        let taps = self.config.memory_kernel;
        let before = (taps - 1) / 2;
        let time = value.rows();
        let all: Vec<u32> = (0..taps as u32).collect();
        let weights = ctx.embedding(&block.memory, &all);
        for tap in 0..taps {
            // Row t of the output depends on row t + tap − before of the input.
            let first = before.saturating_sub(tap);
            let last = (time + before).saturating_sub(tap).min(time);
            // A copy of all rows, so that runs of any length have the same tensors.
            let mut scaled = ctx.copy(value.view());
            ctx.multiply(&mut scaled, weights.view().rows(tap..tap + 1));
            if first < last {
                let source = first + tap - before..last + tap - before;
                ctx.add(x.view_mut().rows(first..last), scaled.view().rows(source));
            }
        }
    }

    /// Cosines and sines `[rows, head size / 2]`.
    fn rotary(&self, ctx: &Context<'_>, rows: usize) -> [Tensor; 2] {
        let size = self.config.hidden / self.config.heads;
        let positions: Vec<u32> = (0..rows as u32).collect();
        let frequencies: Vec<f32> = (0..size / 2)
            .map(|pair| 1.0 / ROTARY_BASE.powf(2.0 * pair as f32 / size as f32))
            .collect();
        ctx.rotary_angles(&positions, &frequencies)
    }
}

/// Frame ranges of a clip's windows: one, or several that overlap their neighbours.
///
/// The reference begins a further window at every step below the clip's length, and loses up to two
/// seconds of speech at the end where that window is no longer than its overlap with the one
/// before. That previous window reaches the clip's end, so it is the last one here.
pub(super) fn windows(config: &SpeechTokenizerConfig, frames: usize) -> Vec<Range<usize>> {
    let step = config.window - config.overlap;
    (0..frames)
        .step_by(step)
        .take_while(|start| *start == 0 || start + config.overlap < frames)
        .map(|start| start..(start + config.window).min(frames))
        .collect()
}

/// The tokens of a window that are its own; neighbours each drop half of their overlap.
pub(super) fn kept(
    config: &SpeechTokenizerConfig,
    mut tokens: Vec<u32>,
    is_first: bool,
    is_last: bool,
) -> Vec<u32> {
    let shared = config.overlap / 2 / FRAMES_PER_TOKEN;
    if !is_last {
        tokens.truncate(tokens.len().saturating_sub(shared));
    }
    if !is_first {
        tokens.drain(..shared.min(tokens.len()));
    }
    tokens
}

/// The code of one position: ternary digits, least significant first.
fn token(digits: &[f32]) -> u32 {
    digits.iter().rev().fold(0, |code, &digit| {
        let level = (digit.tanh() * DIGIT_RANGE).round_ties_even() + 1.0;
        code * 3 + level as u32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_in_base_three_least_significant_first() {
        assert_eq!(token(&[-9.0, -9.0]), 0);
        assert_eq!(token(&[9.0, -9.0]), 2);
        assert_eq!(token(&[0.0, 9.0]), 7);
        assert_eq!(
            token(&[f32::NAN, 9.0]),
            6,
            "a value that is no number still gives a code"
        );
    }
}
