//! Plans in use: the i-th allocation of a run lies at the i-th offset.

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

/// Somebody is taking a piece just now.
const BUSY: u64 = u64::MAX;

/// Serves every run of what was planned out of one block: an allocation is a look-up, a free is a flag.
///
/// A run takes its pieces in the order of the lifetimes that the plan was made from. That it keeps to them is checked and not
/// trusted: a piece is refused while another one lives in its place.
///
/// Pieces do not count references, which would cost more than all the rest: bytes of which a piece is still in use when their last
/// arena goes are never given back.
pub struct PlannedArena {
    bytes: Arc<Holder>,
    plan: usize,
}

/// Owns the bytes for all their arenas.
struct Holder(NonNull<PlannedBytes>);

// SAFETY: it is a box that all arenas share, and what is in the box is `Send` and `Sync`.
unsafe impl Send for Holder {}
// SAFETY: as above.
unsafe impl Sync for Holder {}

impl Holder {
    fn new(bytes: PlannedBytes) -> Holder {
        Holder(NonNull::from(Box::leak(Box::new(bytes))))
    }
}

impl Holder {
    /// What it owns, unless a piece of it is still in use: then that is never given back.
    fn into_bytes(self) -> Option<PlannedBytes> {
        let idle = !self.live.iter().any(|live| live.load(Ordering::Acquire));
        let bytes = self.0;
        // Its drop would free the box, or leave it to the piece that lives.
        std::mem::forget(self);
        // SAFETY: it came from a box in `new`; this was the last holder, and no piece is left, so nobody has its address.
        idle.then(|| *unsafe { Box::from_raw(bytes.as_ptr()) })
    }
}

impl Deref for Holder {
    type Target = PlannedBytes;

    #[inline]
    fn deref(&self) -> &PlannedBytes {
        // SAFETY: the box is freed by nobody else than this holder's drop.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if self.live.iter().any(|live| live.load(Ordering::Acquire)) {
            return;
        }
        // SAFETY: it came from a box in `new`; no arena is left, and no piece, so nobody has its address.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The bytes of plans that run one after the other.
struct PlannedBytes {
    block: Block,
    plans: Box<[Slots]>,
    /// The pieces of all plans: whether they live.
    live: Box<[AtomicBool]>,
    /// The plan that runs and the pieces that it has taken, or [`BUSY`]. Who swaps it for `BUSY` alone takes a piece.
    turn: AtomicU64,
}

/// One plan's pieces.
struct Slots {
    /// Place of its first piece among those of all plans.
    first: usize,
    slots: Box<[Slot]>,
    /// For each piece the pieces that had its bytes last, all in one list.
    before: Box<[u32]>,
}

#[derive(Clone, Copy)]
struct Slot {
    offset: usize,
    bytes: usize,
    /// Its part of `before` ends there, and begins where that of the piece before it ends.
    before_end: usize,
}

/// A run that differs from what was planned.
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
    /// An earlier piece lives on in its place.
    #[error("piece {index} overlaps piece {other}, which lives longer than planned")]
    Overlaps {
        /// The piece, counted from 0.
        index: usize,
        /// The earlier one.
        other: usize,
    },
    /// A piece of the run before, perhaps of another plan in the same bytes, is still in use.
    #[error("a run begins that overlaps the one before: its piece {other} is still in use")]
    StillRunning {
        /// The piece of the run before.
        other: usize,
    },
    /// Two threads take pieces at once, so the order of pieces is not that of the plan.
    #[error("two threads take pieces of one run at once")]
    AtOnce,
}

impl PlannedArena {
    /// An arena for each plan, all in one block as large as the largest of their peaks. Runs of different plans must not overlap.
    ///
    /// # Errors
    /// If the memory has no room for the largest peak.
    pub fn together(
        memory: &Memory,
        plans: &[(&[Lifetime], &Plan)],
        owner: Owner,
    ) -> Result<Vec<PlannedArena>, OutOfMemory> {
        let block = memory.reserve_exact(peak_bytes(plans), owner)?;
        Ok(PlannedArena::over(block, plans))
    }

    /// Other plans in the same bytes. A block that is larger than their peaks gives its end back, where its driver can do that. Without a
    /// piece of memory more than there was, this cannot fail for want of it.
    ///
    /// `None`, and all bytes given back, if the block is smaller than a peak, if these are not all its arenas, or a piece is still in use.
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
        // What the driver does not take back stays at the end.
        let _ = block.shrink(peak);
        Some(PlannedArena::over(block, plans))
    }

    /// An arena for each plan, over a block that is as large as the largest of their peaks.
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

    /// The next piece of the run, `bytes` long, with whatever the last one there left in it. A run begins after
    /// [`PlannedArena::restart`], or when another plan has run in between.
    ///
    /// # Errors
    /// If the run differs from what was planned; it may go on otherwise.
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

    /// Begins the next run with the first piece.
    pub fn restart(&self) {
        let shared: &PlannedBytes = &self.bytes;
        // A thread that takes a piece just now will find the run restarted or its piece refused; both are sound.
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

    /// Bytes of the block that all plans share.
    pub fn len(&self) -> usize {
        self.bytes.block.len()
    }

    /// Whether nothing was planned.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The end of the furthest piece of any plan.
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
    /// Where piece `index` of a plan goes: its place among all pieces, now marked as living, and its offset. Only who has the turn calls it.
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
            // Whatever lives belongs to the run before: each run began with nothing alive.
            let Slots { first, slots, .. } = &self.plans[running];
            if let Some(other) = (0..slots.len()).find(|other| lives(first + other)) {
                return Err(PlanMismatch::StillRunning { other });
            }
        }
        // It is enough to look at those that had its bytes last: they were let in only when those before them were gone.
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
        // Who had which bytes last: start → end and piece.
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

/// Gives `start..end` to piece `index`, and lists who had a part of it.
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

/// An exclusive part of a [`PlannedArena`]'s block, free for the pieces after it once it is dropped.
pub struct PlannedPiece {
    bytes: NonNull<PlannedBytes>,
    place: usize,
    offset: usize,
    len: usize,
}

// SAFETY: it stands for exclusive bytes of a block, which is `Send` and `Sync`, and marks its end with an atomic flag.
unsafe impl Send for PlannedPiece {}
// SAFETY: as above.
unsafe impl Sync for PlannedPiece {}

impl PlannedPiece {
    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where it lies on its device.
    pub fn address(&self) -> Address {
        self.block().address.offset(self.offset as u64)
    }

    /// Whether its bytes can be reached by this process.
    #[inline]
    pub fn host_accessible(&self) -> bool {
        self.block().host_accessible()
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If the device's memory cannot be reached by this process.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the piece lies within the block, which is as long as the furthest piece of any plan, and while it lives no
        // other piece is given out that overlaps it.
        unsafe {
            let start = self.block().pointer().add(self.offset);
            std::slice::from_raw_parts(start.as_ptr(), self.len)
        }
    }

    /// Its bytes, to write.
    ///
    /// # Panics
    /// If the device's memory cannot be reached by this process.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only way to this piece.
        unsafe {
            let start = self.block().pointer().add(self.offset);
            std::slice::from_raw_parts_mut(start.as_ptr(), self.len)
        }
    }

    fn block(&self) -> &Block {
        // SAFETY: the holder keeps what it owns as long as this piece is marked as living.
        unsafe { &(*self.bytes.as_ptr()).block }
    }
}

impl Drop for PlannedPiece {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: up to this store the piece is marked as living, and so its holder keeps the flags; nothing is touched after it.
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
