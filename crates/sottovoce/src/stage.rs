//! The stages of a stream's sound: flow, vocoder, fade-in, tempo, watermark.

use crate::error::Error;
use crate::options::SAMPLE_RATE;
use crate::watermark::Watermark;
use sottovoce_audio::{FadeIn, Tempo};
use sottovoce_chatterbox::s3gen::{Flow, FlowState, Rendering};
use sottovoce_chatterbox::vocoder::{Vocoder, VocoderState};
use sottovoce_chatterbox::watermark::MarkState;
use sottovoce_tensor::{Context, Device, Workspace};

/// A stage of a stream's sound. It takes its input in pieces and may hold output back until it
/// knows what follows.
pub(crate) trait Stage<Input> {
    /// The output's type.
    type Output;

    /// Takes a piece and returns the output that is final. With `last`, nothing follows the piece
    /// and all output is flushed, in the same call: a flush of its own would cost another run of a
    /// network. After an error, the call can be repeated.
    fn step(&mut self, input: Input, last: bool) -> Result<Self::Output, Error>;

    /// Starts afresh: what follows does not depend on what came before.
    fn reset(&mut self);
}

/// Workspace and device of a network's run.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub workspace: &'a Workspace,
    pub device: &'a dyn Device,
}

impl<'a> Run<'a> {
    /// A context for the run, whose workspace starts anew.
    pub fn context(self) -> Context<'a> {
        self.workspace.restart();
        Context::new(self.workspace, self.device)
    }
}

/// Speech tokens to mel frames. Its input is a number of tokens among those pushed to the state;
/// the tokens behind them are look-ahead.
pub(crate) struct FlowStage<'a> {
    pub flow: &'a Flow,
    pub state: &'a mut FlowState,
    pub run: Run<'a>,
}

impl Stage<usize> for FlowStage<'_> {
    type Output = Rendering;

    fn step(&mut self, count: usize, _last: bool) -> Result<Rendering, Error> {
        if count == 0 {
            return Ok(Rendering::default());
        }
        Ok((self.flow).stream(&self.run.context(), self.state, count)?)
    }

    fn reset(&mut self) {
        self.state.restart();
    }
}

/// Mel frames to samples.
pub(crate) struct VocoderStage<'a> {
    pub vocoder: &'a Vocoder,
    pub state: &'a mut VocoderState,
    pub run: Run<'a>,
    pub bands: usize,
    /// Seed of the noise after a reset.
    pub seed: u64,
}

impl Stage<&Rendering> for VocoderStage<'_> {
    type Output = Vec<f32>;

    fn step(&mut self, mel: &Rendering, last: bool) -> Result<Vec<f32>, Error> {
        Ok((self.vocoder).stream(&self.run.context(), self.state, mel, last)?)
    }

    fn reset(&mut self) {
        *self.state = VocoderState::new(self.vocoder, self.bands, self.seed);
    }
}

impl Stage<Vec<f32>> for FadeIn {
    type Output = Vec<f32>;

    fn step(&mut self, mut samples: Vec<f32>, _last: bool) -> Result<Vec<f32>, Error> {
        self.apply(&mut samples);
        Ok(samples)
    }

    fn reset(&mut self) {
        self.restart();
    }
}

impl Stage<Vec<f32>> for Tempo {
    type Output = Vec<f32>;

    fn step(&mut self, samples: Vec<f32>, last: bool) -> Result<Vec<f32>, Error> {
        let mut stretched = self.push(samples);
        if last {
            stretched.extend(self.finish());
        }
        Ok(stretched)
    }

    fn reset(&mut self) {
        self.restart();
    }
}

/// The watermark, a quarter of a second behind.
pub(crate) struct MarkStage<'a> {
    pub watermark: &'a Watermark,
    pub state: &'a mut MarkState,
}

impl Stage<Vec<f32>> for MarkStage<'_> {
    type Output = Vec<f32>;

    fn step(&mut self, samples: Vec<f32>, last: bool) -> Result<Vec<f32>, Error> {
        self.watermark.mark(self.state, &samples, last)
    }

    fn reset(&mut self) {
        *self.state = MarkState::new(SAMPLE_RATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Output of all samples, cut into pieces of these lengths.
    fn in_pieces(
        stage: &mut impl Stage<Vec<f32>, Output = Vec<f32>>,
        samples: &[f32],
        lengths: &[usize],
    ) -> Vec<f32> {
        let (mut rest, mut output) = (samples, Vec::new());
        for &length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            output.extend(stage.step(piece.to_vec(), false).unwrap());
            rest = after;
        }
        output.extend(stage.step(rest.to_vec(), true).unwrap());
        stage.reset();
        output
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_stage_of_samples_gives_the_same_whatever_the_cuts_and_again_after_a_reset(
            count in 0_usize..9000,
            lengths in prop::collection::vec(0_usize..3000, 0..6),
            speed in 0.5_f32..2.0,
            fade in 0_usize..4000,
        ) {
            let samples: Vec<f32> = (0..count)
                .map(|index| (index as f32 * 0.05).sin() * (index as f32 * 0.0007).cos())
                .collect();
            let mut tempo = Tempo::new(speed);
            let whole = in_pieces(&mut tempo, &samples, &[]);
            prop_assert_eq!(&whole, &in_pieces(&mut tempo, &samples, &lengths));
            let mut fade = FadeIn::new(fade);
            let whole = in_pieces(&mut fade, &samples, &[]);
            prop_assert_eq!(&whole, &in_pieces(&mut fade, &samples, &lengths));
        }
    }
}
