//! Forwards that repeat themselves, which a device can record once and replay.

use super::blocks::BlockPass;
use super::cache::KeyValueStore;
use super::{BatchError, T3};
use sottovoce_tensor::{CachePlaces, Context};

/// A step, or a pass over whole blocks. In one workspace it is the same operations at the same
/// addresses, for any tokens and positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedForward {
    states: usize,
    /// Number of states with a settled block, which come first; `None` for a step.
    settled: Option<usize>,
}

impl RepeatedForward {
    /// A step of `states` states: one token each.
    pub fn step(states: usize) -> RepeatedForward {
        RepeatedForward {
            states,
            settled: None,
        }
    }

    /// A pass over a whole block of each of `states` states, the first `settled` of which have a
    /// settled block before it.
    pub fn pass(states: usize, settled: usize) -> RepeatedForward {
        RepeatedForward {
            states,
            settled: Some(settled),
        }
    }

    /// Its key for [`sottovoce_tensor::Device::replay`].
    pub fn key(self) -> u64 {
        let settled = self.settled.map_or(0, |settled| 1 + settled as u64);
        settled << 32 | self.states as u64
    }
}

impl T3 {
    /// The forwards of up to `states_max` states, by the number of states.
    pub fn repeated_forwards(&self, states_max: usize) -> impl Iterator<Item = RepeatedForward> {
        let in_blocks = self.config.blocks.is_some();
        (1..=states_max).flat_map(move |states| {
            let step = (!in_blocks).then(|| RepeatedForward::step(states));
            let passes = (0..=states).filter(move |_| in_blocks);
            (step.into_iter()).chain(passes.map(move |count| RepeatedForward::pass(states, count)))
        })
    }

    /// Most launches of a forward of up to `states_max` states on a device that fuses operations.
    pub fn launch_count_max(&self, states_max: usize) -> usize {
        // A layer: projection, attention, its output, feed-forward in two. Then embedding, angles,
        // last norm, head; and the places of each row of a block, which are brought together.
        let rows = match self.config.blocks {
            Some(_) => states_max * self.rows(),
            None => 0,
        };
        5 * self.config.backbone.layers + 4 + rows
    }

    /// Records a forward of states of `store`, without executing it; see
    /// [`sottovoce_tensor::Device::record`]. The workspace must be the one of these forwards.
    ///
    /// # Errors
    /// If it is a pass and the model does not decode in blocks.
    pub fn record(
        &self,
        ctx: &Context<'_>,
        store: &KeyValueStore,
        forward: RepeatedForward,
    ) -> Result<(), BatchError> {
        let states = forward.states;
        let Some(settled) = forward.settled else {
            let tokens = vec![0; states];
            let mut places = CachePlaces::dry(store.layout(), states * self.rows());
            let mut watch = self.step_watch(ctx, states);
            ctx.device.record(forward.key(), &mut || {
                self.decode(ctx, &tokens, &tokens, &mut places, &mut watch);
            });
            return Ok(());
        };
        let block = vec![0; self.blocks()?.size];
        let pass = |index| BlockPass {
            settled: if index < settled { &block } else { &[] },
            block: &block,
        };
        let passes: Vec<BlockPass<'_>> = (0..states).map(pass).collect();
        let rows = passes.iter().map(BlockPass::length).sum::<usize>() * self.rows();
        let mut places = CachePlaces::dry_blocks(store.layout(), states * self.rows(), rows);
        ctx.device.record(forward.key(), &mut || {
            self.decode_passes(ctx, &passes, &mut places);
        });
        Ok(())
    }
}
