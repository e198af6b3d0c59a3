//! Speech tokens to samples: the flow, then the vocoder.

use super::utterance::Rendered;
use super::{Pipeline, Utterance};
use crate::chunking::Pass;
use crate::error::Error;
use crate::holdings::Holdings;
use crate::stage::{FlowStage, Run, Stage, VocoderStage};
use sottovoce_chatterbox::s3gen::Rendering;
use sottovoce_tensor::Workspace;

impl Pipeline {
    /// Renders a pass to sound. With `last`, held-back samples are flushed too, and the next pass
    /// starts afresh after a silence. If memory runs out, the call can be repeated.
    pub fn synthesise(
        &mut self,
        utterance: &mut Utterance,
        pass: Pass,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        let rendered = match utterance.rendered.take() {
            Some(rendered) => rendered,
            None => Rendered {
                mel: self.pass(utterance, pass, holdings)?,
                given: 0,
                samples: Vec::new(),
            },
        };
        let samples = self.finish(utterance, rendered, last, holdings)?;
        utterance.sounding = !last;
        if last {
            self.flow_stage(utterance)?.reset();
            self.vocoder_stage(utterance)?.reset();
        }
        Ok(samples)
    }

    /// Mel frames of a pass.
    fn pass(
        &mut self,
        utterance: &mut Utterance,
        pass: Pass,
        holdings: &Holdings,
    ) -> Result<Rendering, Error> {
        if utterance.window.is_none() {
            return self.mel(utterance, pass.count, holdings);
        }
        let needed = pass.count + pass.look_ahead;
        let further = needed.saturating_sub(utterance.flow.waiting());
        let tokens: Vec<u32> = utterance.later.drain(..further).collect();
        utterance.flow.push(&tokens);
        let mel = self.mel(utterance, pass.count, holdings)?;
        let made = utterance.ends.partition_point(|end| *end <= pass.count);
        utterance.ends.drain(..made);
        for end in &mut utterance.ends {
            *end -= pass.count;
        }
        utterance.within = pass.goes_on;
        if !pass.goes_on {
            self.flow_stage(utterance)?.reset();
        }
        Ok(mel)
    }

    /// Samples of rendered frames, in runs that fit the vocoder's workspace.
    fn finish(
        &mut self,
        utterance: &mut Utterance,
        mut rendered: Rendered,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        let bands = self.config.flow.mel_bands();
        let frames_max = utterance.extent.chunk_tokens * self.config.flow.upsampling;
        let frames = rendered.mel.mel.len() / bands;
        loop {
            let overlap = if rendered.given == 0 {
                rendered.mel.overlap
            } else {
                0
            };
            let end = (rendered.given + overlap + frames_max).min(frames);
            let part = Rendering {
                mel: rendered.mel.mel[rendered.given * bands..end * bands].to_vec(),
                overlap,
            };
            match self.samples(utterance, &part, last && end == frames, holdings) {
                Ok(samples) => rendered.samples.extend(samples),
                Err(error) => {
                    utterance.rendered = Some(rendered);
                    return Err(error);
                }
            }
            rendered.given = end;
            if end == frames {
                return Ok(rendered.samples);
            }
        }
    }

    /// Mel frames of the first `count` waiting tokens.
    pub fn mel(
        &mut self,
        utterance: &mut Utterance,
        count: usize,
        holdings: &Holdings,
    ) -> Result<Rendering, Error> {
        self.fit(&utterance.extent, false, holdings)?;
        self.flow_stage(utterance)?.step(count, false)
    }

    /// Samples that are final given these mel frames; with `last`, all samples.
    pub fn samples(
        &mut self,
        utterance: &mut Utterance,
        mel: &Rendering,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        self.fit(&utterance.extent, false, holdings)?;
        self.vocoder_stage(utterance)?.step(mel, last)
    }

    fn flow_stage<'a>(&'a self, utterance: &'a mut Utterance) -> Result<FlowStage<'a>, Error> {
        Ok(FlowStage {
            flow: &self.flow,
            state: &mut utterance.flow,
            run: self.run(&self.workspaces()?.runs.flow),
        })
    }

    fn vocoder_stage<'a>(
        &'a self,
        utterance: &'a mut Utterance,
    ) -> Result<VocoderStage<'a>, Error> {
        Ok(VocoderStage {
            vocoder: &self.vocoder,
            bands: self.config.flow.mel_bands(),
            seed: utterance.sentence_seed(),
            state: &mut utterance.vocoder,
            run: self.run(&self.workspaces()?.runs.vocoder),
        })
    }

    fn run<'a>(&'a self, workspace: &'a Workspace) -> Run<'a> {
        Run {
            workspace,
            device: &*self.device,
        }
    }
}
