//! Memory that the worker can give up when it is short.

use super::Live;
use crate::engine::Shared;
use crate::pipeline::{Pipeline, Utterance};
use crate::plan::Extent;
use sottovoce_memory::policy::Reclaim;

/// The parts of the engine that the manager can reclaim from.
pub(super) struct Reclaimer<'a> {
    pipeline: &'a mut Pipeline,
    shared: &'a Shared,
    /// Workspace extent of the running streams; `None` if there are none.
    needed: Option<Extent>,
}

impl<'a> Reclaimer<'a> {
    pub fn of(pipeline: &'a mut Pipeline, shared: &'a Shared, live: &[Live]) -> Reclaimer<'a> {
        let utterances = live.iter().map(|live| &live.utterance);
        Reclaimer {
            pipeline,
            shared,
            needed: (!live.is_empty()).then(|| Utterance::extent_together(utterances)),
        }
    }
}

impl Reclaim for Reclaimer<'_> {
    fn trim_pool(&mut self) -> u64 {
        self.shared.holdings().trim()
    }

    fn run_reclaim_hooks(&mut self) -> u64 {
        self.pipeline.drop_caches();
        self.shared.holdings().trim()
    }

    fn shrink_workspace(&mut self) -> u64 {
        let holdings = self.shared.holdings();
        self.needed
            .map_or(0, |needed| self.pipeline.shrink(&needed, holdings))
    }

    fn hold_admissions(&mut self) {
        self.shared.hold_admissions();
    }
}
