//! Planned arenas: the i-th allocation of a run lies at the i-th offset of its plan.

use super::Block;
use crate::driver::Address;
use crate::memory::Memory;
use crate::out_of_memory::OutOfMemory;
use crate::owner::Owner;
use crate::plan::{Lifetime, Plan};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// Value of [`PlannedBytes::turn`] while a thread takes a piece.
const BUSY: u64 = u64::MAX;

/// An arena that serves every run of a plan out of one block: an allocation is a table look-up, a
/// free is a flag.
///
/// A run takes its pieces in the order of the lifetimes that the plan was made from. The arena
/// checks this order: a piece is refused while another piece lives in its place.
///
/// Pieces hold no reference count, which would cost more than all other work of an allocation. If a
/// piece outlives the last arena over its bytes, those bytes are leaked.
pub struct PlannedArena {
    bytes: Arc<Holder>,
    plan: usize,
}

/// The shared owner of the bytes under all arenas.
struct Holder(NonNull<PlannedBytes>);

// SAFETY: the box is shared by all arenas, and its contents are `Send` and `Sync`.
unsafe impl Send for Holder {}
// SAFETY: the box is shared by all arenas, and its contents are `Send` and `Sync`.
unsafe impl Sync for Holder {}

impl Holder {
    fn new(bytes: PlannedBytes) -> Holder {
        Holder(NonNull::from(Box::leak(Box::new(bytes))))
    }
}

impl Holder {
    /// The owned bytes, or `None` if a piece is still in use; the bytes are leaked then.
    fn into_bytes(self) -> Option<PlannedBytes> {
        let idle = self.is_idle();
        let bytes = self.0;
        // Drop would free the box, or leak it to the live piece.
        std::mem::forget(self);
        // SAFETY: the pointer came from a box in `new`. This was the last holder and no piece is
        // left, so no other pointer to the box exists.
        idle.then(|| *unsafe { Box::from_raw(bytes.as_ptr()) })
    }
}

impl Deref for Holder {
    type Target = PlannedBytes;

    #[inline]
    fn deref(&self) -> &PlannedBytes {
        // SAFETY: only the drop of the last holder frees the box.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if !self.is_idle() {
            return;
        }
        // SAFETY: the pointer came from a box in `new`. No arena and no piece is left, so no other
        // pointer to the box exists.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The bytes of plans that run one after the other.
struct PlannedBytes {
    block: Block,
    plans: Box<[Slots]>,
    /// For each piece of each plan, whether it is live.
    live: Box<[AtomicBool]>,
    /// The running plan and the number of pieces that it has taken, or [`BUSY`]. Only the thread
    /// that swapped in `BUSY` may take a piece.
    turn: AtomicU64,
}

/// The pieces of one plan.
struct Slots {
    /// Index of the plan's first piece among the pieces of all plans.
    first: usize,
    slots: Box<[Slot]>,
    /// The predecessors of all pieces in one list: the earlier pieces that last held a part of the
    /// same bytes.
    before: Box<[u32]>,
}

#[derive(Clone, Copy)]
struct Slot {
    offset: usize,
    bytes: usize,
    /// End of the piece's predecessors in `before`. They begin where those of the previous piece
    /// end.
    before_end: usize,
}

/// A run that deviates from its plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanMismatch {
    /// More pieces than planned.
    #[error("the run takes more pieces than the {planned} that were planned")]
    TooMany {
        /// Pieces planned.
        planned: usize,
    },
    /// A larger piece than planned.
    #[error("piece {index} takes {bytes} bytes, {planned} were planned")]
    TooLarge {
        /// The piece, counted from 0.
        index: usize,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes planned.
        planned: usize,
    },
    /// An earlier piece is still live in the same place.
    #[error("piece {index} overlaps piece {other}, which lives longer than planned")]
    Overlaps {
        /// The piece, counted from 0.
        index: usize,
        /// The earlier piece.
        other: usize,
    },
    /// A piece of the previous run, perhaps of another plan over the same bytes, is still in use.
    #[error("a run begins that overlaps the one before: its piece {other} is still in use")]
    StillRunning {
        /// The piece of the previous run.
        other: usize,
    },
    /// Two threads take pieces concurrently, so the order of pieces differs from the plan.
    #[error("two threads take pieces of one run concurrently")]
    AtOnce,
}

impl PlannedArena {
    /// An arena for each plan, all over one block of the size of the largest peak. Runs of
    /// different plans must not overlap.
    ///
    /// # Errors
    /// If the memory has no room for the largest peak.
    pub fn together(
        memory: &Memory,
        plans: &[(&[Lifetime], &Plan)],
        owner: Owner,
    ) -> Result<Vec<PlannedArena>, OutOfMemory> {
        let block = memory.reserve_exact(peak_bytes(plans), owner)?;
        // Runs shorter than planned use the beginnings of their pieces.
        block.prefer_small_pages();
        Ok(PlannedArena::over(block, plans))
    }

    /// Replaces the plans over the same bytes. A block that is larger than the new peaks is shrunk
    /// where its driver supports that. The call allocates no memory, so it cannot fail for lack of
    /// it.
    ///
    /// Returns `None`, with all bytes freed, if the block is smaller than a peak, if `arenas` are
    /// not all arenas over the block, or if a piece is still in use.
    pub fn replan(
        mut arenas: Vec<PlannedArena>,
        plans: &[(&[Lifetime], &Plan)],
    ) -> Option<Vec<PlannedArena>> {
        let bytes = arenas.pop()?.bytes;
        drop(arenas);
        let mut block = Arc::into_inner(bytes)?.into_bytes()?.block;
        let peak = peak_bytes(plans);
        if peak > block.len() {
            return None;
        }
        // Bytes that the driver does not take back stay unused at the end.
        let _ = block.shrink(peak);
        Some(PlannedArena::over(block, plans))
    }

    /// An arena for each plan over one block, which is as large as the largest peak.
    fn over(block: Block, plans: &[(&[Lifetime], &Plan)]) -> Vec<PlannedArena> {
        let slots: Vec<_> = plans
            .iter()
            .scan(0, |first, (lifetimes, plan)| {
                let slots = Slots::new(*first, lifetimes, plan);
                *first += slots.slots.len();
                Some(slots)
            })
            .collect();
        let count = slots.iter().map(|plan| plan.slots.len()).sum();
        let bytes = Arc::new(Holder::new(PlannedBytes {
            block,
            plans: slots.into(),
            live: (0..count).map(|_| AtomicBool::new(false)).collect(),
            turn: AtomicU64::new(turn(0, 0)),
        }));
        let arena = |plan| PlannedArena {
            bytes: Arc::clone(&bytes),
            plan,
        };
        (0..plans.len()).map(arena).collect()
    }

    /// The next piece of the run, `bytes` long, with whatever its last user left there. A run
    /// begins after [`PlannedArena::restart`], or after a run of another plan.
    ///
    /// # Errors
    /// If the run deviates from its plan. The run may go on with other pieces.
    #[inline]
    pub fn allocate(&self, bytes: usize) -> Result<PlannedPiece, PlanMismatch> {
        let shared: &PlannedBytes = &self.bytes;
        let before = shared.turn.swap(BUSY, Ordering::Acquire);
        if before == BUSY {
            return Err(PlanMismatch::AtOnce);
        }
        let (running, taken) = (before >> 32, before & u64::from(u32::MAX));
        let index = if running == self.plan as u64 {
            taken as usize
        } else {
            0
        };
        let placed = shared.place(self.plan, running as usize, index, bytes);
        let after = match placed {
            Ok(_) => turn(self.plan, index + 1),
            Err(_) => before,
        };
        shared.turn.store(after, Ordering::Release);
        let (place, offset) = placed?;
        Ok(PlannedPiece {
            bytes: self.bytes.0,
            place,
            offset,
            len: bytes,
        })
    }

    /// Starts the next run at the first piece.
    pub fn restart(&self) {
        let shared: &PlannedBytes = &self.bytes;
        // A thread that takes a piece concurrently finds the run restarted or its piece refused.
        // Both are sound.
        let before = shared.turn.load(Ordering::Acquire);
        let restarted = turn(self.plan, 0);
        if before != BUSY && before >> 32 == self.plan as u64 {
            let _ = (shared.turn).compare_exchange(
                before,
                restarted,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    /// Gives the memory behind the bytes of all plans back until they are written again, where the
    /// driver can do that. They stay reserved. Has no effect while a piece is in use.
    pub fn discard_contents(&self) {
        let shared: &PlannedBytes = &self.bytes;
        let before = shared.turn.swap(BUSY, Ordering::Acquire);
        if before == BUSY {
            return;
        }
        if shared.is_idle() {
            // SAFETY: no piece exists, and none is handed out before the turn is given back. A
            // piece begins with unspecified contents.
            unsafe { shared.block.discard() };
        }
        shared.turn.store(before, Ordering::Release);
    }

    /// Bytes of the block that all plans share.
    pub fn len(&self) -> usize {
        self.bytes.block.len()
    }

    /// Whether the plans need no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The highest end of any piece of any plan.
fn peak_bytes(plans: &[(&[Lifetime], &Plan)]) -> usize {
    let ends = plans.iter().flat_map(|(lifetimes, plan)| {
        let pieces = lifetimes.iter().zip(&plan.offsets);
        pieces.map(|(lifetime, offset)| offset.saturating_add(lifetime.bytes) as usize)
    });
    ends.max().unwrap_or(0)
}

fn turn(plan: usize, taken: usize) -> u64 {
    (plan as u64) << 32 | taken as u64
}

impl PlannedBytes {
    /// Whether no piece is in use.
    fn is_idle(&self) -> bool {
        !self.live.iter().any(|live| live.load(Ordering::Acquire))
    }

    /// Places piece `index` of a plan: marks it as live and returns its index among all pieces and
    /// its offset. Only the holder of the turn may call this.
    #[inline]
    fn place(
        &self,
        plan: usize,
        running: usize,
        index: usize,
        bytes: usize,
    ) -> Result<(usize, usize), PlanMismatch> {
        let Slots {
            first,
            slots,
            before,
        } = &self.plans[plan];
        let Some(slot) = slots.get(index) else {
            let planned = slots.len();
            return Err(PlanMismatch::TooMany { planned });
        };
        if bytes > slot.bytes {
            let planned = slot.bytes;
            return Err(PlanMismatch::TooLarge {
                index,
                bytes,
                planned,
            });
        }
        let lives = |place: usize| self.live[place].load(Ordering::Acquire);
        if index == 0 {
            // Every run starts with nothing live, so a live piece belongs to the previous run.
            let Slots { first, slots, .. } = &self.plans[running];
            if let Some(other) = (0..slots.len()).find(|other| lives(first + other)) {
                return Err(PlanMismatch::StillRunning { other });
            }
        }
        // Only the direct predecessors need a check: each of them was placed after its own
        // predecessors were dead.
        let start = index
            .checked_sub(1)
            .map_or(0, |last| slots[last].before_end);
        for &other in &before[start..slot.before_end] {
            let other = other as usize;
            if lives(first + other) {
                return Err(PlanMismatch::Overlaps { index, other });
            }
        }
        self.live[first + index].store(true, Ordering::Relaxed);
        Ok((first + index, slot.offset))
    }
}

impl Slots {
    fn new(first: usize, lifetimes: &[Lifetime], plan: &Plan) -> Slots {
        // The last piece of each range of bytes: start → (end, piece).
        let mut last: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
        let mut before = Vec::new();
        let slots = (lifetimes.iter().zip(&plan.offsets))
            .enumerate()
            .map(|(index, (lifetime, &offset))| {
                let end = offset.saturating_add(lifetime.bytes);
                let (start, end) = (offset as usize, end as usize);
                take_over(&mut last, start, end, index as u32, &mut before);
                Slot {
                    offset: start,
                    bytes: end - start,
                    before_end: before.len(),
                }
            })
            .collect();
        Slots {
            first,
            slots,
            before: before.into(),
        }
    }
}

/// Assigns `start..end` to piece `index`, and lists the previous pieces of these bytes.
fn take_over(
    last: &mut BTreeMap<usize, (usize, u32)>,
    start: usize,
    end: usize,
    index: u32,
    before: &mut Vec<u32>,
) {
    if start >= end {
        return;
    }
    let overlapping: Vec<_> = last
        .range(..end)
        .rev()
        .take_while(|(_, (other_end, _))| *other_end > start)
        .map(|(&other_start, &(other_end, other))| (other_start, other_end, other))
        .collect();
    let listed = before.len();
    for (other_start, other_end, other) in overlapping {
        last.remove(&other_start);
        if other_start < start {
            last.insert(other_start, (start, other));
        }
        if other_end > end {
            last.insert(end, (other_end, other));
        }
        if !before[listed..].contains(&other) {
            before.push(other);
        }
    }
    last.insert(start, (end, index));
}

impl fmt::Debug for PlannedArena {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = self.bytes.plans[self.plan].slots.len();
        write!(
            formatter,
            "PlannedArena({pieces} pieces in {} bytes)",
            self.len()
        )
    }
}

/// An exclusive part of a [`PlannedArena`]'s block. Later pieces may use its bytes once it is
/// dropped.
pub struct PlannedPiece {
    bytes: NonNull<PlannedBytes>,
    place: usize,
    offset: usize,
    len: usize,
}

// SAFETY: the piece stands for exclusive bytes of a block, which is `Send` and `Sync`, and its end
// is marked by an atomic flag.
unsafe impl Send for PlannedPiece {}
// SAFETY: the piece stands for exclusive bytes of a block, which is `Send` and `Sync`.
unsafe impl Sync for PlannedPiece {}

impl PlannedPiece {
    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address on the device.
    pub fn address(&self) -> Address {
        self.block().address.offset(self.offset as u64)
    }

    /// Whether this process can access the bytes.
    #[inline]
    pub fn host_accessible(&self) -> bool {
        self.block().host_accessible()
    }

    /// The bytes.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the piece lies within the block, which reaches to the highest end of any plan.
        // While the piece lives, no overlapping piece is handed out.
        unsafe {
            let start = self.block().pointer().add(self.offset);
            std::slice::from_raw_parts(start.as_ptr(), self.len)
        }
    }

    /// The bytes, for writing.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the piece lies within the block and overlaps no live piece; `&mut self` is the
        // only access.
        unsafe {
            let start = self.block().pointer().add(self.offset);
            std::slice::from_raw_parts_mut(start.as_ptr(), self.len)
        }
    }

    fn block(&self) -> &Block {
        // SAFETY: the holder keeps the block and the flags while this piece is marked as live.
        unsafe { &(*self.bytes.as_ptr()).block }
    }
}

impl Drop for PlannedPiece {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the piece is marked as live until this store, so the holder keeps the flags.
        // Nothing is accessed after the store.
        unsafe { &(&(*self.bytes.as_ptr()).live)[self.place] }.store(false, Ordering::Release);
    }
}

impl fmt::Debug for PlannedPiece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "PlannedPiece({} bytes at {})",
            self.len,
            self.address()
        )
    }
}
