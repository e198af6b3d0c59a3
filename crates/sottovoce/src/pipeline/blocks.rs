//! Steps of models that decode in blocks: one pass over the block of each stream.

use super::{Pipeline, StepError, Utterance};
use crate::error::Error;
use crate::holdings::Holdings;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::t3::{BlockPass, KeyValueStore, T3};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::{CachePrecision, Context, Device, Workspace};
use std::sync::Arc;

/// Prior probabilities of the speech tokens; empty unless the model decodes in blocks.
pub(super) fn prior(
    t3: &T3,
    store: &KeyValueStore,
    memory: &Memory,
    device: &dyn Device,
) -> Result<Arc<[f32]>, Error> {
    if t3.config().blocks.is_none() {
        return Ok(Arc::default());
    }
    let owner = Owner::new(Region::KeyValue, "prior");
    let measuring = Workspace::measuring();
    let nowhere = t3.store(&Memory::untouched(), CachePrecision::F16, usize::MAX);
    t3.block_prior(&Context::new(&measuring, device), &nowhere, owner)?;
    let trace = measuring.trace().ok_or_else(|| Error::Synthesis {
        reason: "a dry run left no trace".into(),
    })?;
    let prior = {
        let workspace = Workspace::planned(memory, &trace, "t3")?;
        workspace.restart();
        t3.block_prior(&Context::new(&workspace, device), store, owner)?
    };
    // The run's pages are not part of the plan.
    store.pages().trim();
    Ok(prior.into())
}

impl Pipeline {
    /// A pass for each utterance, all of which have a block.
    ///
    /// # Errors
    /// Names the utterance that caused the error, if only one did.
    pub(super) fn pass_blocks(
        &self,
        under_way: Vec<&mut Utterance>,
        holdings: &Holdings,
    ) -> Result<(), StepError> {
        let workspace = &self.workspaces()?.runs.step;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let t3 = &self.speech()?.t3;
        // In this order there are few kinds of passes, which a device records.
        let mut ordered: Vec<(usize, &mut Utterance)> = under_way.into_iter().enumerate().collect();
        ordered.sort_by_key(|(_, utterance)| !utterance.has_settled_block());
        let mut passes: Vec<BlockPass<'_>> = Vec::with_capacity(ordered.len());
        let mut states = Vec::with_capacity(ordered.len());
        for (_, utterance) in &mut ordered {
            let speaking = utterance.speaking.as_ref();
            let blocks = speaking.and_then(|speaking| speaking.blocks.as_ref());
            passes.extend(blocks.map(|blocks| blocks.next_pass()));
            states.extend(&mut utterance.state);
        }
        let fresh = (t3.repeated_pass(&passes))
            .is_some_and(|forward| !self.device.has_recorded(forward.key()));
        let opening = fresh.then(|| holdings.open());
        let passed = t3.block_pass(&ctx, &mut states, &passes);
        drop(opening);
        let rows = t3.rows();
        let counts: Vec<usize> = passes.iter().map(BlockPass::places).collect();
        drop((passes, states));
        let logits = passed.map_err(|refused| StepError {
            index: refused.index.map(|index| ordered[index].0),
            error: refused.error.into(),
        })?;
        let vocabulary = logits.columns();
        ctx.read(&logits, |mut logits| {
            for ((_, utterance), count) in ordered.iter_mut().zip(counts) {
                let (own, rest) = logits.split_at(rows * count * vocabulary);
                take_block(&self.config, rows, utterance, own);
                logits = rest;
            }
        })
        .map_err(Error::from)?;
        Ok(())
    }
}

/// Decides tokens by the logits of a pass; takes those of a block once all are decided.
pub(super) fn take_block(
    config: &ModelConfig,
    rows: usize,
    utterance: &mut Utterance,
    logits: &[f32],
) {
    let Some(speaking) = &mut utterance.speaking else {
        return;
    };
    let blocks = speaking.blocks.as_mut();
    let Some(decided) = blocks.and_then(|blocks| blocks.take(logits, rows)) else {
        return;
    };
    let mut spoken = Vec::with_capacity(decided.tokens.len());
    let mut run_on = None;
    for token in decided.tokens {
        speaking.tokens += 1;
        spoken.push(token);
        run_on = speaking.watch.see(token);
        if run_on.is_some() {
            break;
        }
    }
    utterance.generated += spoken.len() as u64;
    utterance.run_ons += u64::from(run_on.is_some());
    // Special tokens have no sound.
    spoken.retain(|&token| (token as usize) < config.flow.vocabulary);
    utterance.push(&spoken);
    if decided.ended || run_on.is_some() {
        utterance.end_sentence(config);
    }
}
