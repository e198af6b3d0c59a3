//! A plan in use: the i-th allocation lies at the i-th offset.

use super::{Lifetime, Plan};

/// Hands out a plan's offsets in the order of the lifetimes that it was made from. An allocation is one look-up; a free is nothing.
#[derive(Clone, Debug)]
pub struct Arena {
    slots: Box<[Slot]>,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    bytes: u64,
}

impl Arena {
    /// The arena of a plan for `lifetimes`, in the order in which they are born.
    pub fn new(lifetimes: &[Lifetime], plan: &Plan) -> Arena {
        let slots = lifetimes.iter().zip(&plan.offsets);
        Arena {
            slots: slots
                .map(|(lifetime, &offset)| Slot {
                    offset,
                    bytes: lifetime.bytes,
                })
                .collect(),
            next: 0,
        }
    }

    /// The offset of the next allocation, in bytes from the arena's start. `None` if more is asked for than was planned: more
    /// allocations, or a larger one.
    #[inline]
    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let slot = self.slots.get(self.next)?;
        self.next += 1;
        (bytes <= slot.bytes).then_some(slot.offset)
    }

    /// Begins again with the first allocation.
    pub fn restart(&mut self) {
        self.next = 0;
    }
}
