//! Memory plans of the networks that hear recordings.

use super::VoiceError;
use sottovoce_memory::{Memory, OutOfMemory};
use sottovoce_tensor::{Context, Device, RunTrace, Workspace};

/// Memory plan of a network on samples of a certain length, made before any of it is mapped.
#[derive(Debug, Clone)]
pub struct NetworkPlan {
    trace: RunTrace,
    /// Bytes of its weights that are loaded throughout.
    pub network_bytes: u64,
    /// Bytes of the largest of the blocks that are loaded one at a time.
    pub block_bytes: u64,
    /// Bytes of its workspace.
    pub workspace_bytes: u64,
}

impl NetworkPlan {
    /// Records a dry `run` of a network of `network_bytes`. The run reports its largest block.
    pub(super) fn of(
        network_bytes: u64,
        device: &dyn Device,
        run: impl FnOnce(&Context<'_>, &mut u64) -> Result<(), VoiceError>,
    ) -> Result<NetworkPlan, VoiceError> {
        let workspace = Workspace::measuring();
        let mut block_bytes = 0;
        run(&Context::new(&workspace, device), &mut block_bytes)?;
        let trace = workspace
            .trace()
            .expect("a measuring workspace has a trace");
        Ok(NetworkPlan {
            network_bytes,
            block_bytes,
            workspace_bytes: trace.peak_bytes(),
            trace,
        })
    }

    /// A workspace for such runs.
    ///
    /// # Errors
    /// If the memory has no room for it.
    pub(super) fn workspace(
        &self,
        memory: &Memory,
        tag: &'static str,
    ) -> Result<Workspace, OutOfMemory> {
        Workspace::planned(memory, &self.trace, tag)
    }
}
