//! Speech tokens to samples: the flow, then the vocoder.

use super::utterance::Rendered;
use super::{Pipeline, Utterance};
use crate::chunking::Pass;
use crate::error::Error;
use crate::holdings::Holdings;
use crate::plan::{Extent, FLOW_STREAMS};
use crate::stage::{FlowStage, Run, Stage, VocoderStage};
use sottovoce_chatterbox::s3gen::{FlowState, Rendering};
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
            None => Rendered::of(self.pass(utterance, pass, holdings)?),
        };
        self.discard_workspace(utterance)?;
        let samples = self.finish(utterance, rendered, last, holdings)?;
        utterance.sounding = !last;
        if last {
            self.flow_stage(utterance)?.reset();
            self.vocoder_stage(utterance)?.reset();
        }
        Ok(samples)
    }

    /// Most streams that one pass of the flow renders.
    pub fn flow_streams_max(&self) -> usize {
        self.extent.flow_streams
    }

    /// Renders passes of utterances to mel frames, as many in one pass of the flow as there is a
    /// run for; [`Pipeline::synthesise`] goes on from these, and renders those that are left alone.
    /// Returns how many were rendered. After an error the others wait as before.
    ///
    /// # Panics
    /// If the utterances' options of the flow differ.
    pub fn render_together(
        &mut self,
        mut passes: &mut [(&mut Utterance, Pass)],
        holdings: &Holdings,
    ) -> Result<usize, Error> {
        let mut rendered = 0;
        loop {
            let most = passes.len().min(self.flow_streams_max());
            let count = FLOW_STREAMS.into_iter().rfind(|count| *count <= most);
            let Some(count) = count.filter(|count| *count > 1) else {
                return Ok(rendered);
            };
            let (group, rest) = passes.split_at_mut(count);
            self.render_group(group, holdings)?;
            rendered += count;
            passes = rest;
        }
    }

    /// Renders as many passes as there is a run for.
    fn render_group(
        &mut self,
        group: &mut [(&mut Utterance, Pass)],
        holdings: &Holdings,
    ) -> Result<(), Error> {
        let utterances = group.iter().map(|(utterance, _)| &**utterance);
        let together = Extent {
            flow_streams: group.len(),
            ..Utterance::extent_together(utterances)
        };
        self.fit(&together, false, holdings)?;
        for (utterance, pass) in &mut *group {
            utterance.take_pass(*pass);
        }
        let run = self.run(self.workspaces()?.runs.flow_of(group.len()));
        let mut streams: Vec<(&mut FlowState, usize)> = (group.iter_mut())
            .map(|(utterance, pass)| (&mut utterance.flow, pass.count))
            .collect();
        let rendered = self.flow.stream_together(&run.context(), &mut streams)?;
        for ((utterance, pass), mel) in group.iter_mut().zip(rendered) {
            utterance.end_pass(*pass);
            utterance.rendered = Some(Rendered::of(mel));
        }
        Ok(())
    }

    /// Mel frames of a pass.
    fn pass(
        &mut self,
        utterance: &mut Utterance,
        pass: Pass,
        holdings: &Holdings,
    ) -> Result<Rendering, Error> {
        utterance.take_pass(pass);
        let mel = self.mel(utterance, pass.count, holdings)?;
        utterance.end_pass(pass);
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
            run: self.run(self.workspaces()?.runs.flow_of(1)),
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
