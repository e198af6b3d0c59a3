//! Memory for activations: a pool block each, a planned arena, or none while measuring.

use crate::tensor::{Shape, Storage, Tensor};
use sottovoce_memory::plan::{self, Lifetime, Plan, SolveOptions};
use sottovoce_memory::{Memory, OutOfMemory, Owner, PlannedArena, Region};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Alignment of tensors: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// Memory for the activations of one worker. Operations take their outputs and scratch from it and
/// from nowhere else.
///
/// After running out of memory, the workspace is dry: operations compute nothing, and
/// [`Workspace::take_failure`] returns the reason. A `forward` therefore needs no check after each
/// operation.
pub struct Workspace {
    kind: Kind,
    failure: Mutex<Option<OutOfMemory>>,
}

enum Kind {
    Pooled {
        memory: Memory,
        owner: Owner,
        /// Whether each tensor is a piece of the driver's.
        apart: bool,
    },
    Measuring(Arc<Mutex<RunTracer>>),
    Planned(PlannedArena),
}

impl Workspace {
    /// Each tensor in a block of the caching pool: for voice preparation and tests.
    pub fn pooled(memory: &Memory, tag: &'static str) -> Workspace {
        Workspace::pooled_for(memory, Owner::new(Region::Workspace, tag))
    }

    /// As [`Workspace::pooled`], with a full owner.
    pub fn pooled_for(memory: &Memory, owner: Owner) -> Workspace {
        Workspace::of(Kind::Pooled {
            memory: memory.clone(),
            owner,
            apart: false,
        })
    }

    /// Each tensor in a piece of the driver's, past which a driver for tests may let kernels fault.
    pub fn apart(memory: &Memory, tag: &'static str) -> Workspace {
        Workspace::of(Kind::Pooled {
            memory: memory.clone(),
            owner: Owner::new(Region::Workspace, tag),
            apart: true,
        })
    }

    /// No bytes: operations only allocate, and lifetimes are recorded.
    pub fn measuring() -> Workspace {
        Workspace::of(Kind::Measuring(Arc::default()))
    }

    /// One arena that serves every run of the trace. Call [`Workspace::restart`] before each
    /// run.
    ///
    /// # Errors
    /// If the memory has no room for the plan's peak.
    pub fn planned(
        memory: &Memory,
        trace: &RunTrace,
        tag: &'static str,
    ) -> Result<Workspace, OutOfMemory> {
        let mut one = Workspace::planned_together(memory, &[trace], tag)?;
        Ok(one.remove(0))
    }

    /// A workspace for each trace, all in one arena of the largest peak. Runs of different
    /// traces must not overlap: a tensor that is still live when another trace needs its
    /// bytes is refused like one that outlives its own plan.
    ///
    /// # Errors
    /// If the memory has no room for the largest peak.
    pub fn planned_together(
        memory: &Memory,
        traces: &[&RunTrace],
        tag: &'static str,
    ) -> Result<Vec<Workspace>, OutOfMemory> {
        let owner = Owner::new(Region::Workspace, tag);
        let arenas = PlannedArena::together(memory, &plans(traces), owner)?;
        Ok(arenas.into_iter().map(Workspace::of_arena).collect())
    }

    /// Replans workspaces that were made together, in the same memory; the excess is freed if the
    /// driver can free a part. Returns `None`, with all memory freed, if there is too little or a
    /// tensor is still live.
    pub fn replanned(together: Vec<Workspace>, traces: &[&RunTrace]) -> Option<Vec<Workspace>> {
        let arena = |workspace: Workspace| match workspace.kind {
            Kind::Planned(arena) => Some(arena),
            Kind::Pooled { .. } | Kind::Measuring(_) => None,
        };
        let arenas = together.into_iter().map(arena).collect::<Option<_>>()?;
        let arenas = PlannedArena::replan(arenas, &plans(traces))?;
        Some(arenas.into_iter().map(Workspace::of_arena).collect())
    }

    fn of_arena(arena: PlannedArena) -> Workspace {
        Workspace::of(Kind::Planned(arena))
    }

    fn of(kind: Kind) -> Workspace {
        Workspace {
            kind,
            failure: Mutex::new(None),
        }
    }

    /// A tensor with unspecified contents.
    ///
    /// # Panics
    /// In a planned workspace, if the run deviates from the trace: more tensors, a larger one,
    /// or one that lives longer.
    pub fn tensor(&self, dimensions: &[usize]) -> Tensor {
        let shape = Shape::new(dimensions);
        Tensor::new(shape, self.storage(shape.elements()))
    }

    fn storage(&self, elements: usize) -> Storage {
        let bytes = elements * size_of::<f32>();
        match &self.kind {
            Kind::Pooled { .. } if lock(&self.failure).is_some() => Storage::Dry,
            Kind::Pooled {
                memory,
                owner,
                apart,
            } => {
                let block = match apart {
                    true => memory.reserve_exact(bytes, *owner),
                    false => memory.allocate(bytes, *owner),
                };
                block.map_or_else(
                    |error| {
                        *lock(&self.failure) = Some(error);
                        Storage::Dry
                    },
                    Storage::Pooled,
                )
            }
            Kind::Measuring(recorder) => Storage::Recorded(RunTracer::begin(recorder, bytes)),
            Kind::Planned(arena) => match arena.allocate(bytes) {
                Ok(piece) => Storage::Planned(piece),
                Err(mismatch) => panic!("{mismatch}"),
            },
        }
    }

    /// Whether operations compute nothing.
    pub fn is_dry(&self) -> bool {
        match self.kind {
            Kind::Measuring(_) => true,
            Kind::Pooled { .. } => lock(&self.failure).is_some(),
            Kind::Planned(_) => false,
        }
    }

    /// The error if the workspace ran out of memory; it is usable again afterwards.
    pub fn take_failure(&self) -> Option<OutOfMemory> {
        lock(&self.failure).take()
    }

    /// Starts the next run of a planned workspace; no effect on others.
    pub fn restart(&self) {
        if let Kind::Planned(arena) = &self.kind {
            arena.restart();
        }
    }

    /// Gives the memory behind a planned workspace, and those planned with it, back until the next
    /// run writes to it, where the device can do that. Has no effect on others, or while a tensor
    /// is live.
    pub fn discard_contents(&self) {
        if let Kind::Planned(arena) = &self.kind {
            arena.discard_contents();
        }
    }

    /// The trace of a measuring workspace; `None` for others.
    pub fn trace(&self) -> Option<RunTrace> {
        match &self.kind {
            Kind::Measuring(recorder) => Some(RunTrace::of(&lock(recorder))),
            _ => None,
        }
    }
}

fn plans<'a>(traces: &[&'a RunTrace]) -> Vec<(&'a [Lifetime], &'a Plan)> {
    (traces.iter())
        .map(|trace| (trace.lifetimes.as_slice(), &trace.plan))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct RunTracer {
    clock: u32,
    lifetimes: Vec<Lifetime>,
}

impl RunTracer {
    fn begin(recorder: &Arc<Mutex<RunTracer>>, bytes: usize) -> RecordedPiece {
        let mut state = lock(recorder);
        let index = state.lifetimes.len();
        let lifetime = Lifetime {
            first: state.clock,
            // It lives for ever unless it is dropped.
            last: u32::MAX,
            bytes: bytes.next_multiple_of(ALIGNMENT) as u64,
        };
        state.lifetimes.push(lifetime);
        state.clock += 1;
        RecordedPiece {
            recorder: Arc::clone(recorder),
            index,
        }
    }
}

/// A tensor's entry in a trace.
pub(crate) struct RecordedPiece {
    recorder: Arc<Mutex<RunTracer>>,
    index: usize,
}

impl Drop for RecordedPiece {
    fn drop(&mut self) {
        let mut state = lock(&self.recorder);
        let now = state.clock;
        state.lifetimes[self.index].last = now;
        state.clock += 1;
    }
}

/// The lifetimes of one run, and the offset of each tensor.
#[derive(Clone, Debug)]
pub struct RunTrace {
    lifetimes: Vec<Lifetime>,
    plan: Plan,
}

impl RunTrace {
    fn of(recorder: &RunTracer) -> RunTrace {
        RunTrace {
            lifetimes: recorder.lifetimes.clone(),
            plan: plan::solve(&recorder.lifetimes, &SolveOptions::default()),
        }
    }

    /// Size of the run's arena in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.plan.peak
    }
}
