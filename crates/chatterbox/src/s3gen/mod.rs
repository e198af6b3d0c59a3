//! S3Gen's flow: from speech tokens to mel frames. A conformer encoder with a short look-ahead
//! conditions a decoder, which transforms noise into mel along a learned flow (Lipman et al., "Flow
//! Matching", 2022; Du et al., "CosyVoice 2", 2024).

mod decoder;
mod encoder;
mod stream;

pub use stream::{FlowState, FlowVoice, FlowWindow, Rendering};

use crate::config::{FlowConfig, FlowSolver};
use crate::weights::{Loader, WeightsError};
use decoder::{Condition, FlowDecoder};
use encoder::FlowEncoder;
use sottovoce_tensor::{Context, Linear, Matrix, Noise, Precision, Rounding, Tensor};
use std::f32::consts::FRAC_PI_2;
use std::ops::Range;

/// Solver options of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowOptions {
    /// Number of steps, at least one.
    pub steps: usize,
    /// Number of leading steps with guidance (base model). A guided step takes twice as long as one
    /// without guidance.
    pub guided_steps: usize,
}

impl FlowOptions {
    /// The model's own number of steps, all guided.
    pub fn of(config: &FlowConfig) -> FlowOptions {
        let steps = config.solver.steps();
        FlowOptions {
            steps,
            guided_steps: steps,
        }
    }
}

/// The flow's weights.
pub struct Flow {
    config: FlowConfig,
    rounding: Rounding,
    embedding: Matrix,
    speaker: Linear,
    encoder: FlowEncoder,
    encoder_out: Linear,
    decoder: FlowDecoder,
}

impl Flow {
    /// Loads the flow's tensors.
    ///
    /// # Errors
    /// If a tensor is missing or has the wrong shape.
    pub fn load(loader: &mut Loader<'_>, config: &FlowConfig) -> Result<Flow, WeightsError> {
        let hidden = config.encoder.hidden;
        let embedding =
            loader.matrix("flow.input_embedding.weight", [config.vocabulary, hidden])?;
        Ok(Flow {
            config: *config,
            rounding: match embedding.precision() {
                Precision::F32 | Precision::F16 => Rounding::Fine,
                Precision::Int8 | Precision::Q4 => Rounding::Coarse,
            },
            embedding,
            speaker: loader.linear(
                "flow.spk_embed_affine_layer",
                [config.mel_bands(), config.speaker_vector],
                true,
            )?,
            encoder: FlowEncoder::load(loader, config)?,
            encoder_out: loader.linear("flow.encoder_proj", [config.mel_bands(), hidden], true)?,
            decoder: FlowDecoder::load(loader, config)?,
        })
    }

    /// Sets the rounding of activations, in place of the default for the weights' precision: coarse
    /// for 8-bit weights.
    pub fn set_rounding(&mut self, rounding: Rounding) {
        self.rounding = rounding;
    }

    /// The model's sizes.
    pub fn config(&self) -> &FlowConfig {
        &self.config
    }

    /// Mel frames `[2 · tokens, bands]` of `tokens`, prompt first. `prompt_mel` `[frames][bands]`
    /// gives the first frames. Frames start from the noise in `noise_rows`, one range after the
    /// other. The x-vector is normalised here.
    ///
    /// # Panics
    /// Unless there is one row of noise per frame.
    #[allow(
        clippy::too_many_arguments,
        reason = "what is said, by whom, from which noise, and how"
    )]
    pub fn mel(
        &self,
        ctx: &Context<'_>,
        tokens: &[u32],
        prompt_mel: &[f32],
        speaker_vector: &[f32],
        noise: Noise,
        noise_rows: &[Range<u64>],
        options: FlowOptions,
    ) -> Tensor {
        let bands = self.config.mel_bands();
        let frames = tokens.len() * self.config.upsampling;
        let mut start = ctx.tensor(&[frames, bands]);
        let mut first = 0;
        for rows in noise_rows {
            let end = first + (rows.end - rows.start) as usize;
            ctx.normals(noise, rows.start, start.view_mut().rows(first..end));
            first = end;
        }
        assert_eq!(first, frames, "rows of noise");
        self.mel_from(ctx, tokens, prompt_mel, speaker_vector, start, options)
    }

    /// As [`Flow::mel`], from given noise `[2 · tokens, bands]`.
    pub fn mel_from(
        &self,
        ctx: &Context<'_>,
        tokens: &[u32],
        prompt_mel: &[f32],
        speaker_vector: &[f32],
        start: Tensor,
        options: FlowOptions,
    ) -> Tensor {
        let ctx = &ctx.rounding(self.rounding);
        let bands = self.config.mel_bands();
        let frames = tokens.len() * self.config.upsampling;
        let speaker = {
            let length = speaker_vector
                .iter()
                .map(|value| value * value)
                .sum::<f32>()
                .sqrt()
                .max(1e-12);
            let mut vector = ctx.upload(&[1, speaker_vector.len()], speaker_vector);
            ctx.scale(&mut vector, 1.0 / length);
            ctx.linear(&vector, &self.speaker)
        };
        let mu = {
            let embedded = ctx.embedding(&self.embedding, tokens);
            let encoded = self.encoder.forward(ctx, embedded);
            ctx.linear(&encoded, &self.encoder_out)
        };
        let mut known = ctx.zeros(&[frames, bands]);
        let known_frames = prompt_mel.len() / bands;
        ctx.write(known.view_mut().rows(0..known_frames), |rows| {
            rows.copy_from_slice(prompt_mel);
        });
        let condition = Condition {
            mu: &mu,
            speaker: &speaker,
            known: &known,
        };
        self.solve(ctx, start, &condition, options)
    }

    /// Integrates the flow from noise to mel.
    fn solve(
        &self,
        ctx: &Context<'_>,
        mut x: Tensor,
        condition: &Condition<'_>,
        options: FlowOptions,
    ) -> Tensor {
        let steps = options.steps;
        let time = |step: usize| {
            let linear = step as f32 / steps as f32;
            match self.config.solver {
                FlowSolver::Euler { .. } => 1.0 - (linear * FRAC_PI_2).cos(),
                FlowSolver::MeanFlow { .. } => linear,
            }
        };
        for step in 0..steps {
            let (from, to) = (time(step), time(step + 1));
            let length = to - from;
            match self.config.solver {
                FlowSolver::MeanFlow { .. } => {
                    let decoder = &self.decoder;
                    let velocity = decoder.velocity(ctx, &x, &[Some(condition)], from, Some(to));
                    ctx.add_scaled(&mut x, 1.0, &velocity, length);
                }
                FlowSolver::Euler { guidance, .. } => {
                    let velocity = |conditions: &[Option<&Condition<'_>>]| {
                        self.decoder.velocity(ctx, &x, conditions, from, None)
                    };
                    if step >= options.guided_steps {
                        let with = velocity(&[Some(condition)]);
                        ctx.add_scaled(&mut x, 1.0, &with, length);
                        continue;
                    }
                    let (towards, away) = (length * (1.0 + guidance), -length * guidance);
                    if ctx.favours_batches() {
                        let both = velocity(&[Some(condition), None]);
                        let frames = x.rows();
                        let (with, without) = (0..frames, frames..2 * frames);
                        ctx.add_scaled(&mut x, 1.0, both.view().rows(with), towards);
                        ctx.add_scaled(&mut x, 1.0, both.view().rows(without), away);
                        continue;
                    }
                    let with = velocity(&[Some(condition)]);
                    let without = velocity(&[None]);
                    ctx.add_scaled(&mut x, 1.0, &with, towards);
                    ctx.add_scaled(&mut x, 1.0, &without, away);
                }
            }
        }
        x
    }
}
