//! Parallel work on rows.

use super::output::{Cuts, Grid, OutputPart, for_each_part, share_parts};
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
    let grid = Grid::of_rows(Cuts::every(count, rows_a_task), columns);
    let mut output = OutputPart::of(x.reborrow());
    for_each_part(threads, &mut output, grid, |cell, mut part| {
        for (index, row) in cell.rows.enumerate() {
            work(row, part.row(index));
        }
    });
}

/// Copies a row. With the constant length `LEN` it is a few moves in place of a call.
#[inline(always)]
pub(crate) fn copy<const LEN: usize>(from: &[f32], to: &mut [f32]) {
    match (
        <&[f32; LEN]>::try_from(from),
        <&mut [f32; LEN]>::try_from(&mut *to),
    ) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
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
    // All rows as one, so that a chunk is a range of its columns.
    let len = count * columns;
    let mut output = OutputPart::new(&mut x.reborrow().into_data()[..len], 1, len);
    let grid = Grid {
        columns: Cuts::every(len, rows_per_chunk * columns),
        ..Grid::of_rows(Cuts::every(1, 1), len)
    };
    let buffers = &mut OutputPart::new(&mut [], threads.count(), 0);
    share_parts(threads, &mut output, grid, buffers, |cell, mut part, _| {
        work(cell.columns.start / columns, part.row(0));
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
