//! Where activations live: a pool block each, a planned arena, or nowhere while measuring.

use crate::tensor::{Shape, Storage, Tensor};
use sottovoce_memory::plan::{self, Lifetime, SolveOptions};
use sottovoce_memory::{Block, Memory, OutOfMemory, Owner, Region};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tensors start at multiples of this: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// Where the activations of one worker live. Operations take their outputs and scratch from it and from nowhere else.
///
/// Running out of memory is remembered: from then on the workspace is dry (operations compute nothing), and
/// [`Workspace::take_failure`] tells why. So a `forward` needs no check after each operation.
pub struct Workspace {
    kind: Kind,
    failure: Mutex<Option<OutOfMemory>>,
}

enum Kind {
    Pooled { memory: Memory, owner: Owner },
    Measuring(Arc<Mutex<Recorder>>),
    Planned(PlannedArena),
}

impl Workspace {
    /// Each tensor in a block of the caching pool: for voice preparation and tests.
    pub fn pooled(memory: &Memory, tag: &'static str) -> Workspace {
        Workspace::pooled_for(memory, Owner::new(Region::Workspace, tag))
    }

    /// As [`Workspace::pooled`], with the owner in full.
    pub fn pooled_for(memory: &Memory, owner: Owner) -> Workspace {
        Workspace::of(Kind::Pooled {
            memory: memory.clone(),
            owner,
        })
    }

    /// No bytes: operations only allocate, and the lifetimes are recorded.
    pub fn measuring() -> Workspace {
        Workspace::of(Kind::Measuring(Arc::default()))
    }

    /// One arena that serves every run of what was recorded. Call [`Workspace::restart`] before each run.
    ///
    /// # Errors
    /// If the memory has no room for the plan's peak.
    pub fn planned(
        memory: &Memory,
        recording: &Recording,
        tag: &'static str,
    ) -> Result<Workspace, OutOfMemory> {
        let mut one = Workspace::planned_together(memory, &[recording], tag)?;
        Ok(one.remove(0))
    }

    /// A workspace for each recording, all in one arena as large as the largest needs. Runs of different ones must not overlap: a
    /// tensor of one that is still alive when another needs its place is an error like one kept too long.
    ///
    /// # Errors
    /// If the memory has no room for the largest peak.
    pub fn planned_together(
        memory: &Memory,
        recordings: &[&Recording],
        tag: &'static str,
    ) -> Result<Vec<Workspace>, OutOfMemory> {
        let peak = recordings
            .iter()
            .map(|recording| recording.peak_bytes)
            .max();
        let owner = Owner::new(Region::Workspace, tag);
        let block = memory.reserve_exact(peak.unwrap_or(0) as usize, owner)?;
        let bytes = Arc::new(PlannedBytes::new(block));
        let arena = |recording: &&Recording| PlannedArena::new(Arc::clone(&bytes), recording);
        Ok(recordings
            .iter()
            .map(|recording| Workspace::of(Kind::Planned(arena(recording))))
            .collect())
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
    /// In a planned workspace, if the run differs from the recorded one: more tensors, a larger one, or one alive longer.
    pub fn tensor(&self, dimensions: &[usize]) -> Tensor {
        let shape = Shape::new(dimensions);
        Tensor::new(shape, self.storage(shape.elements()))
    }

    fn storage(&self, elements: usize) -> Storage {
        if lock(&self.failure).is_some() {
            return Storage::Dry;
        }
        let bytes = elements * size_of::<f32>();
        match &self.kind {
            Kind::Pooled { memory, owner } => match memory.allocate(bytes, *owner) {
                Ok(block) => Storage::Pooled(block),
                Err(error) => {
                    *lock(&self.failure) = Some(error);
                    Storage::Dry
                }
            },
            Kind::Measuring(recorder) => Storage::Recorded(Recorder::begin(recorder, bytes)),
            Kind::Planned(arena) => Storage::Planned(PlannedArena::take(arena, elements)),
        }
    }

    /// Whether operations should compute nothing.
    pub fn is_dry(&self) -> bool {
        matches!(self.kind, Kind::Measuring(_)) || lock(&self.failure).is_some()
    }

    /// Why the workspace went dry, if it ran out of memory; it works again afterwards.
    pub fn take_failure(&self) -> Option<OutOfMemory> {
        lock(&self.failure).take()
    }

    /// Begins the next run of a planned workspace; others have nothing to begin.
    pub fn restart(&self) {
        if let Kind::Planned(arena) = &self.kind {
            *lock(&arena.next) = 0;
        }
    }

    /// What a measuring workspace recorded; `None` for the others.
    pub fn recording(&self) -> Option<Recording> {
        match &self.kind {
            Kind::Measuring(recorder) => Some(Recording::of(&lock(recorder))),
            _ => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Recorder {
    clock: u32,
    lifetimes: Vec<Lifetime>,
}

impl Recorder {
    fn begin(recorder: &Arc<Mutex<Recorder>>, bytes: usize) -> RecordedPiece {
        let mut state = lock(recorder);
        let index = state.lifetimes.len();
        let lifetime = Lifetime {
            first: state.clock,
            // Until it is dropped, it lives for ever.
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

/// A tensor's place in a recording.
pub(crate) struct RecordedPiece {
    recorder: Arc<Mutex<Recorder>>,
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

/// The lifetimes of one run and where each tensor goes.
#[derive(Clone, Debug)]
pub struct Recording {
    offsets: Vec<u64>,
    bytes: Vec<u64>,
    peak_bytes: u64,
    lower_bound_bytes: u64,
}

impl Recording {
    fn of(recorder: &Recorder) -> Recording {
        let lifetimes = &recorder.lifetimes;
        let plan = plan::solve(lifetimes, &SolveOptions::default());
        Recording {
            offsets: plan.offsets,
            bytes: lifetimes.iter().map(|lifetime| lifetime.bytes).collect(),
            peak_bytes: plan.peak,
            lower_bound_bytes: plan.lower_bound,
        }
    }

    /// Size of the arena that holds the run.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// The most bytes alive at once: no plan can need less.
    pub fn lower_bound_bytes(&self) -> u64 {
        self.lower_bound_bytes
    }

    /// How many tensors a run takes.
    pub fn tensor_count(&self) -> usize {
        self.offsets.len()
    }
}

/// The bytes of planned workspaces, perhaps of several that run one after the other.
struct PlannedBytes {
    /// Keeps the bytes; they are reached only through `base`.
    _block: Block,
    base: NonNull<u8>,
    len: usize,
    /// Byte ranges handed out now; few, so a list is the quickest.
    live: Mutex<Vec<(usize, usize)>>,
}

// SAFETY: the pointer reaches bytes that the block owns; pieces handed out never overlap (checked in `take`), so threads that hold
// different pieces touch different bytes.
unsafe impl Send for PlannedBytes {}
// SAFETY: as above; all other state is behind the mutex or never changes.
unsafe impl Sync for PlannedBytes {}

impl PlannedBytes {
    fn new(mut block: Block) -> PlannedBytes {
        let base = NonNull::from(block.bytes_mut()).cast::<u8>();
        PlannedBytes {
            len: block.len(),
            _block: block,
            base,
            live: Mutex::default(),
        }
    }
}

/// One plan over shared bytes.
struct PlannedArena {
    bytes: Arc<PlannedBytes>,
    offsets: Vec<u64>,
    sizes: Vec<u64>,
    next: Mutex<usize>,
}

impl PlannedArena {
    fn new(bytes: Arc<PlannedBytes>, recording: &Recording) -> PlannedArena {
        PlannedArena {
            bytes,
            offsets: recording.offsets.clone(),
            sizes: recording.bytes.clone(),
            next: Mutex::default(),
        }
    }

    fn take(arena: &PlannedArena, elements: usize) -> PlannedPiece {
        let mut next = lock(&arena.next);
        let index = *next;
        assert!(
            index < arena.offsets.len(),
            "the run takes more tensors than the {} that were recorded",
            arena.offsets.len()
        );
        let bytes = elements * size_of::<f32>();
        assert!(
            bytes as u64 <= arena.sizes[index],
            "tensor {index} takes {bytes} bytes, {} were recorded",
            arena.sizes[index]
        );
        let start = arena.offsets[index] as usize;
        let end = start + bytes;
        // Soundness must not hang on the plan or on drop order, so bounds and overlap are checked here, not trusted.
        assert!(
            end <= arena.bytes.len,
            "tensor {index} lies beyond the arena"
        );
        let mut live = lock(&arena.bytes.live);
        assert!(
            live.iter()
                .all(|&(first, last)| end <= first || last <= start),
            "tensor {index} overlaps one that lives longer than in the recorded run"
        );
        live.push((start, end));
        *next += 1;
        PlannedPiece {
            bytes: Arc::clone(&arena.bytes),
            start,
            elements,
        }
    }
}

/// A tensor's exclusive part of a planned arena.
pub(crate) struct PlannedPiece {
    bytes: Arc<PlannedBytes>,
    start: usize,
    elements: usize,
}

impl PlannedPiece {
    pub(crate) fn data(&self) -> &[f32] {
        // SAFETY: the part lies inside the arena (checked when it was taken), starts at a multiple of 64, is
        // initialised (drivers hand out initialised bytes), and belongs to this piece alone until it is dropped.
        unsafe {
            let pointer = self.bytes.base.add(self.start).cast::<f32>();
            std::slice::from_raw_parts(pointer.as_ptr(), self.elements)
        }
    }

    pub(crate) fn data_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `data`, and `&mut self` is the only way to this part.
        unsafe {
            let pointer = self.bytes.base.add(self.start).cast::<f32>();
            std::slice::from_raw_parts_mut(pointer.as_ptr(), self.elements)
        }
    }
}

impl Drop for PlannedPiece {
    fn drop(&mut self) {
        let mut live = lock(&self.bytes.live);
        let range = (self.start, self.start + self.elements * size_of::<f32>());
        if let Some(place) = live.iter().position(|&other| other == range) {
            live.swap_remove(place);
        }
    }
}
