//! The worker's planned workspaces: one for each kind of run, all in one arena.

use crate::error::Error;
use crate::plan::{EachRun, Extent, RunTraces};
use sottovoce_memory::Memory;
use sottovoce_tensor::Workspace;

/// One workspace for each kind of run, for runs up to an extent.
pub(crate) struct Workspaces {
    pub runs: EachRun<Workspace>,
    extent: Extent,
    bytes: u64,
}

impl Workspaces {
    /// Reserves the arena for the traces of `extent`.
    pub fn reserve(
        memory: &Memory,
        traces: &RunTraces,
        extent: Extent,
    ) -> Result<Workspaces, Error> {
        let planned =
            Workspace::planned_together(memory, &traces.as_ref().into_array(), "workspace")?;
        Workspaces::of(planned, extent, traces.peak_bytes()).ok_or_else(|| Error::Synthesis {
            reason: "a workspace is missing".into(),
        })
    }

    /// Shrinks the arena in place to the traces of a smaller `extent` and releases the rest,
    /// without needing further memory. If part of it is still in use, returns `None` and releases
    /// all of it.
    pub fn shrunk(self, traces: &RunTraces, extent: Extent) -> Option<Workspaces> {
        let together = self.runs.into_array().into();
        let planned = Workspace::replanned(together, &traces.as_ref().into_array())?;
        Workspaces::of(planned, extent, traces.peak_bytes())
    }

    fn of(planned: Vec<Workspace>, extent: Extent, bytes: u64) -> Option<Workspaces> {
        let runs = EachRun::from_array(planned.try_into().ok()?);
        Some(Workspaces {
            runs,
            extent,
            bytes,
        })
    }

    /// Extent that the workspaces hold.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether they hold a run of `extent`.
    pub fn hold(&self, extent: &Extent) -> bool {
        self.extent.union(extent) == self.extent
    }
}
