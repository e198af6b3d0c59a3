//! The S3 tokenizer, version 2: log mel to speech tokens at a quarter of its frame rate, quantised to ternary digits.

use super::front_end::token_mel;
use crate::config::SpeechTokenizerConfig;
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Attention, Context, Conv1d, LayerNorm, Linear, Matrix, Padding, Tensor,
};

const ROTARY_BASE: f32 = 10_000.0;
const NORM_EPSILON: f32 = 1e-5;
/// Keeps a saturated digit from rounding beyond its level; the reference's constant.
const DIGIT_RANGE: f32 = 0.999;
/// Frames for one token: two convolutions of stride 2.
const FRAMES_PER_TOKEN: usize = 4;

#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// A filter over time for each channel, `[taps, channels]`.
    memory: Matrix,
    feed_forward_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
}

/// Speech tokens from recordings.
#[derive(Debug)]
pub struct SpeechTokenizer {
    config: SpeechTokenizerConfig,
    convolutions: [Conv1d; 2],
    blocks: Vec<Block>,
    digits: Linear,
}

impl SpeechTokenizer {
    /// Takes its weights.
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
        let blocks = (0..config.layers)
            .map(|index| {
                let name = |part: &str| format!("tokenizer.encoder.blocks.{index}.{part}");
                Ok(Block {
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
            })
            .collect::<Result<Vec<_>, WeightsError>>()?;
        let digits = loader.linear(
            "tokenizer.quantizer._codebook.project_down",
            [config.code_digits, hidden],
            true,
        )?;
        Ok(SpeechTokenizer {
            config: *config,
            convolutions,
            blocks,
            digits,
        })
    }

    /// Tokens of samples at the tokenizer's rate; at most `count_max` if given.
    pub fn tokens(
        &self,
        context: &Context<'_>,
        samples: &[f32],
        count_max: Option<usize>,
    ) -> Vec<u32> {
        let config = &self.config;
        let bands = config.mel.bands;
        let mut mel = token_mel(samples, &config.mel);
        if let Some(count_max) = count_max {
            mel.truncate(count_max * FRAMES_PER_TOKEN * bands);
        }
        let frames = mel.len() / bands;
        if frames <= config.window {
            return self.window_tokens(context, &mel);
        }
        // Neighbouring windows each give up half of what they share.
        let stride = config.window - config.overlap;
        let starts: Vec<usize> = (0..frames).step_by(stride).collect();
        let shared = config.overlap / 2 / FRAMES_PER_TOKEN;
        let mut tokens = Vec::new();
        for (index, &start) in starts.iter().enumerate() {
            let end = (start + config.window).min(frames);
            let window = self.window_tokens(context, &mel[start * bands..end * bands]);
            let first = if index == 0 {
                0
            } else {
                shared.min(window.len())
            };
            let last = if index + 1 == starts.len() {
                window.len()
            } else {
                window.len().saturating_sub(shared)
            };
            tokens.extend_from_slice(window.get(first..last).unwrap_or_default());
        }
        tokens
    }

    fn window_tokens(&self, context: &Context<'_>, mel: &[f32]) -> Vec<u32> {
        let bands = self.config.mel.bands;
        if mel.is_empty() {
            return Vec::new();
        }
        let mut x = context.upload(&[mel.len() / bands, bands], mel);
        for convolution in &self.convolutions {
            x = context.conv1d_activated(&x, convolution, Activation::GeluErf);
        }
        let (cosines, sines) = self.rotary(context, x.rows());
        for block in &self.blocks {
            self.block(context, block, &mut x, &cosines, &sines);
        }
        let digits = context.linear(&x, &self.digits);
        digits
            .data()
            .chunks_exact(self.config.code_digits)
            .map(token)
            .collect()
    }

    fn block(
        &self,
        context: &Context<'_>,
        block: &Block,
        x: &mut Tensor,
        cosines: &Tensor,
        sines: &Tensor,
    ) {
        let heads = self.config.heads;
        let normed = context.layer_norm(&*x, &block.attention_norm);
        let mut query = context.linear(&normed, &block.query);
        let mut key = context.linear(&normed, &block.key);
        let value = context.linear(&normed, &block.value);
        context.rotate(&mut query, heads, cosines, sines);
        context.rotate(&mut key, heads, cosines, sines);
        let scale = ((self.config.hidden / heads) as f32).powf(-0.5);
        let options = Attention {
            heads,
            scale,
            causal: false,
            relative: None,
        };
        let attended = context.attention(&query, &key, &value, &options);
        context.linear_add(&attended, &block.output, x);
        context.add(&mut *x, &value);
        self.add_memory(context, block, &value, x);
        let normed = context.layer_norm(&*x, &block.feed_forward_norm);
        let inner = context.linear_activated(&normed, &block.expand, Activation::GeluErf);
        context.linear_add(&inner, &block.contract, x);
    }

    /// Adds the filtered values, tap by tap: each tap is a shifted copy, scaled by channel.
    fn add_memory(&self, context: &Context<'_>, block: &Block, value: &Tensor, x: &mut Tensor) {
        let taps = self.config.memory_kernel;
        let before = (taps - 1) / 2;
        let time = value.rows();
        let all: Vec<u32> = (0..taps as u32).collect();
        let weights = context.embedding(&block.memory, &all);
        for tap in 0..taps {
            // Row t of the output sees row t + tap − before of the input.
            let first = before.saturating_sub(tap);
            let last = (time + before).saturating_sub(tap).min(time);
            if first >= last {
                continue;
            }
            let source = first + tap - before..last + tap - before;
            let mut scaled = context.copy(value.view().rows(source));
            context.multiply(&mut scaled, weights.view().rows(tap..tap + 1));
            context.add(x.view_mut().rows(first..last), &scaled);
        }
    }

    /// Cosines and sines `[rows, head size / 2]`.
    fn rotary(&self, context: &Context<'_>, rows: usize) -> (Tensor, Tensor) {
        let size = self.config.hidden / self.config.heads;
        let angles: Vec<f32> = (0..rows)
            .flat_map(|row| {
                (0..size / 2).map(move |pair| {
                    row as f32 * (1.0 / ROTARY_BASE.powf(2.0 * pair as f32 / size as f32))
                })
            })
            .collect();
        let table = |function: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().copied().map(function).collect();
            context.upload(&[rows, size / 2], &values)
        };
        (table(f32::cos), table(f32::sin))
    }
}

/// The code of one place: ternary digits, least significant first.
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
