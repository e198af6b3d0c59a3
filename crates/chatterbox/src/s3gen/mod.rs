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

/// What the flow makes the mel of an utterance, or of a window of it, from.
#[derive(Clone, Copy, Debug)]
pub struct FlowInputs<'a> {
    /// Speech tokens, prompt first.
    pub tokens: &'a [u32],
    /// The first frames of the mel, `[frames][bands]`.
    pub prompt_mel: &'a [f32],
    /// X-vector. It is normalised by the flow.
    pub speaker_vector: &'a [f32],
    /// Random numbers.
    pub noise: Noise,
    /// Rows of the noise from which the frames start, one range after the other.
    pub noise_rows: &'a [Range<u64>],
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

    /// Mel frames of utterances, which are computed together: `[utterances · frames, bands]`. Each
    /// is filled up to the frames of the longest, which are twice as many as its tokens.
    ///
    /// # Panics
    /// Unless there is one row of noise per frame, or if there are more utterances than half of
    /// [`SEQUENCES_MAX`](sottovoce_tensor::SEQUENCES_MAX) and their lengths differ.
    pub fn mel(
        &self,
        ctx: &Context<'_>,
        utterances: &[FlowInputs<'_>],
        options: FlowOptions,
    ) -> Tensor {
        let bands = self.config.mel_bands();
        let lengths: Vec<usize> = (utterances.iter())
            .map(|inputs| inputs.tokens.len() * self.config.upsampling)
            .collect();
        let frames = lengths.iter().copied().max().unwrap_or(0);
        let mut start = ctx.zeros(&[utterances.len() * frames, bands]);
        for (index, inputs) in utterances.iter().enumerate() {
            let mut first = index * frames;
            for rows in inputs.noise_rows {
                let end = first + (rows.end - rows.start) as usize;
                ctx.normals(inputs.noise, rows.start, start.view_mut().rows(first..end));
                first = end;
            }
            assert_eq!(first, index * frames + lengths[index], "rows of noise");
        }
        let ctx = &ctx.rounding(self.rounding);
        let conditions: Vec<Condition> = (utterances.iter())
            .map(|inputs| {
                self.condition(ctx, inputs.tokens, inputs.prompt_mel, inputs.speaker_vector)
            })
            .collect();
        self.solve(ctx, start, &lengths, &conditions, options)
    }

    /// Mel frames of one utterance, as [`Flow::mel`], from given noise `[2 · tokens, bands]`.
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
        let condition = self.condition(ctx, tokens, prompt_mel, speaker_vector);
        let frames = start.rows();
        self.solve(ctx, start, &[frames], &[condition], options)
    }

    /// What the decoder goes by.
    fn condition(
        &self,
        ctx: &Context<'_>,
        tokens: &[u32],
        prompt_mel: &[f32],
        speaker_vector: &[f32],
    ) -> Condition {
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
        Condition { mu, speaker, known }
    }

    /// Integrates the flow from noise to mel, of utterances that are stacked by rows and have these
    /// lengths.
    fn solve(
        &self,
        ctx: &Context<'_>,
        mut x: Tensor,
        lengths: &[usize],
        conditions: &[Condition],
        options: FlowOptions,
    ) -> Tensor {
        let with: Vec<Option<&Condition>> = conditions.iter().map(Some).collect();
        let without = vec![None; conditions.len()];
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
            let end = matches!(self.config.solver, FlowSolver::MeanFlow { .. }).then_some(to);
            let velocity = |x: &Tensor, conditions: &[Option<&Condition>]| {
                (self.decoder).velocity(ctx, x, lengths, conditions, from, end)
            };
            let guidance = match self.config.solver {
                FlowSolver::Euler { guidance, .. } if step < options.guided_steps => guidance,
                FlowSolver::Euler { .. } | FlowSolver::MeanFlow { .. } => {
                    let with = velocity(&x, &with);
                    ctx.add_scaled(&mut x, 1.0, &with, length);
                    continue;
                }
            };
            let (towards, away) = (length * (1.0 + guidance), -length * guidance);
            if ctx.favours_batches() {
                let both = velocity(&x, &[&*with, &*without].concat());
                let rows = x.rows();
                ctx.add_scaled(&mut x, 1.0, both.view().rows(0..rows), towards);
                ctx.add_scaled(&mut x, 1.0, both.view().rows(rows..2 * rows), away);
                continue;
            }
            let with = velocity(&x, &with);
            let without = velocity(&x, &without);
            ctx.add_scaled(&mut x, 1.0, &with, towards);
            ctx.add_scaled(&mut x, 1.0, &without, away);
        }
        x
    }
}
