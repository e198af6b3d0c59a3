//! Parallel work on rows.

use super::shared_output::SharedOutput;
use crate::threads::Threads;
use crate::view::ViewMut;

/// Elements per task, so that starting a task costs little beside its work.
const ELEMENTS_A_TASK: usize = 16_384;

/// Calls `work` with each row's index and elements, on all threads.
pub(crate) fn for_each(
    threads: &Threads,
    x: &mut ViewMut<'_>,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (count, columns) = (x.row_count(), x.column_count());
    let rows_a_task = (ELEMENTS_A_TASK / columns.max(1)).max(1);
    let output = SharedOutput::of(x.reborrow());
    threads.for_each(count.div_ceil(rows_a_task), |task| {
        for row in task * rows_a_task..((task + 1) * rows_a_task).min(count) {
            // SAFETY: each row belongs to one task.
            work(row, unsafe { output.row(row, 0, columns) });
        }
    });
}

/// Calls `work` with the first row and the elements of each chunk of contiguous rows, on all
/// threads.
pub(crate) fn fill(
    threads: &Threads,
    x: &mut ViewMut<'_>,
    rows_per_chunk: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let (count, columns) = (x.row_count(), x.column_count());
    assert_eq!(x.stride(), columns, "rows to fill are contiguous");
    let output = SharedOutput::of(x.reborrow());
    threads.share(count.div_ceil(rows_per_chunk), |_, piece| {
        let first = piece * rows_per_chunk;
        let rows = rows_per_chunk.min(count - first);
        // SAFETY: each row belongs to one chunk.
        work(first, unsafe { output.row(first, 0, rows * columns) });
    });
}

/// `N` values of a row from `first` on: in place, or padded with zeros in `last` at the row's end.
#[inline(always)]
pub(crate) fn zero_padded<'a, const N: usize>(
    row: &'a [f32],
    first: usize,
    last: &'a mut [f32; N],
) -> &'a [f32; N] {
    let rest = row.get(first..).unwrap_or_default();
    match rest.first_chunk() {
        Some(piece) => piece,
        None => {
            last[..rest.len()].copy_from_slice(rest);
            last[rest.len()..].fill(0.0);
            last
        }
    }
}
