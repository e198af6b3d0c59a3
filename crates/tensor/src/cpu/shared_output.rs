//! An output that several tasks write at a time.

use super::lanes::prefetch_far;
use crate::view::ViewMut;
use std::marker::PhantomData;
use std::ops::Range;

/// Output rows that tasks write concurrently, each task its own rows or columns.
pub(crate) struct SharedOutput<'a> {
    start: *mut f32,
    len: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `row` accesses the elements, and its contract keeps tasks disjoint.
unsafe impl Sync for SharedOutput<'_> {}

impl<'a> SharedOutput<'a> {
    pub(crate) fn of(out: ViewMut<'a>) -> SharedOutput<'a> {
        let stride = out.stride();
        let data = out.into_data();
        SharedOutput {
            start: data.as_mut_ptr(),
            len: data.len(),
            stride,
            lifetime: PhantomData,
        }
    }

    /// The part from `row` and `column` on.
    pub(crate) fn from(&self, row: usize, column: usize) -> SharedOutput<'a> {
        let start = row * self.stride + column;
        assert!(start <= self.len, "row {row} of the output");
        SharedOutput {
            start: self.start.wrapping_add(start),
            len: self.len - start,
            ..*self
        }
    }

    /// Fetches `count` columns of a range of rows into the L2 cache, before they are written.
    pub(crate) fn prefetch(&self, rows: Range<usize>, column: usize, count: usize) {
        for row in rows {
            let start = self.start.wrapping_add(row * self.stride + column);
            for line in (0..count * size_of::<f32>()).step_by(64) {
                prefetch_far(start.cast::<u8>().wrapping_add(line));
            }
        }
    }

    /// Columns `first..first + count` of row `index`.
    ///
    /// # Safety
    /// No other task may access any of these elements.
    #[allow(clippy::mut_from_ref, reason = "the contract keeps the parts disjoint")]
    pub(crate) unsafe fn row(&self, index: usize, first: usize, count: usize) -> &mut [f32] {
        let start = index * self.stride + first;
        assert!(start + count <= self.len, "row {index} of the output");
        // SAFETY: inside the output's elements, and exclusive by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), count) }
    }
}
