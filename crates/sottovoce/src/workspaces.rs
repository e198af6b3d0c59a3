//! The worker's planned workspaces: one for each kind of run, all in one arena.

use crate::error::Error;
use crate::plan::{Extent, Recordings};
use sottovoce_memory::Memory;
use sottovoce_tensor::Workspace;

/// One workspace for each kind of run, for runs up to an extent.
pub(crate) struct Workspaces {
    pub prefix: Workspace,
    pub prefill: Workspace,
    pub step: Workspace,
    pub flow: Workspace,
    pub vocoder: Workspace,
    extent: Extent,
}

impl Workspaces {
    /// Reserves the arena for what was recorded of `extent`.
    pub fn reserve(
        memory: &Memory,
        recordings: &Recordings,
        extent: Extent,
    ) -> Result<Workspaces, Error> {
        let planned = Workspace::planned_together(memory, &recordings.all(), "workspace")?;
        let [prefix, prefill, step, flow, vocoder] =
            <[Workspace; 5]>::try_from(planned).map_err(|_| Error::Synthesis {
                reason: "a workspace is missing".into(),
            })?;
        Ok(Workspaces {
            prefix,
            prefill,
            step,
            flow,
            vocoder,
            extent,
        })
    }

    /// The largest run that they hold.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Whether they hold a run of `extent`.
    pub fn hold(&self, extent: &Extent) -> bool {
        self.extent.union(extent) == self.extent
    }
}
