//! One more token for each stream of a batch.

use super::{Pipeline, StepError, Utterance};
use crate::error::Error;
use crate::holdings::Holdings;
use sottovoce_chatterbox::t3::RepeatedForward;
use sottovoce_tensor::Context;

impl Pipeline {
    /// One token for each utterance. If memory runs out, finished utterances keep their token, and
    /// the call can be repeated. The driver is opened only if a sentence exceeds its likely length,
    /// or for the first step with this number of streams after the workspaces changed.
    ///
    /// # Errors
    /// Names the utterance that caused the error, if only one did.
    pub fn step(
        &mut self,
        batch: &mut [&mut Utterance],
        holdings: &Holdings,
    ) -> Result<(), StepError> {
        let together = Utterance::extent_together(batch.iter().map(|utterance| &**utterance));
        self.fit(&together, false, holdings)?;
        let fresh = |utterance: &&mut Utterance| utterance.speaking.is_none();
        let of = |index: usize| {
            move |error| StepError {
                index: Some(index),
                error,
            }
        };
        let began: Vec<bool> = batch.iter().map(fresh).collect();
        for (index, utterance) in batch.iter_mut().enumerate() {
            match began[index] {
                true => self.begin_sentence(utterance, holdings),
                false => utterance.make_room(utterance.step_positions(), holdings),
            }
            .map_err(of(index))?;
        }
        let mut under_way: Vec<&mut Utterance> = batch
            .iter_mut()
            .zip(&began)
            .filter_map(|(utterance, began)| (!began).then_some(&mut **utterance))
            .collect();
        if under_way.is_empty() {
            return Ok(());
        }
        if self.config.t3.blocks.is_some() {
            let passed = self.pass_blocks(under_way, holdings);
            return passed.map_err(|refused| refused.among(&began));
        }
        let workspace = &self.workspaces()?.runs.step;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let mut tokens = Vec::with_capacity(under_way.len());
        let mut states = Vec::with_capacity(under_way.len());
        for utterance in &mut under_way {
            tokens.extend(utterance.speaking.as_ref().map(|speaking| speaking.last));
            states.extend(&mut utterance.state);
        }
        // A device records the step again when its workspace has moved, which takes memory that was
        // planned from the driver.
        let fresh = !self
            .device
            .has_recorded(RepeatedForward::step(states.len()).key());
        let opening = fresh.then(|| holdings.open());
        let t3 = &self.speech()?.t3;
        let stepped = t3.step_scores(&ctx, &mut states, &tokens);
        drop(opening);
        let scores = stepped.map_err(|refused| StepError::from(refused).among(&began))?;
        let rows = t3.rows();
        let width = rows * scores.logits().columns();
        let taken = scores.read(&ctx, |logits, alignments| {
            let each = under_way.iter_mut().zip(logits.chunks_exact(width));
            for (index, (utterance, logits)) in each.enumerate() {
                if let Some(state) = &mut utterance.state {
                    alignments.give(index, state);
                }
                Pipeline::take_token(&self.config, rows, utterance, logits);
            }
        });
        taken.map_err(Error::from)?;
        Ok(())
    }
}
