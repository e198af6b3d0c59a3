//! Outputs that several tasks write at a time: each task holds a part, which it alone can access.
//!
//! A [`Grid`] cuts an output into cells. [`for_each_part`] and [`share_parts`] call a task for each
//! cell with that cell's [`OutputPart`], the exclusive borrow of its elements.

use super::lanes::prefetch_far;
use crate::threads::Threads;
use crate::view::ViewMut;
use std::marker::PhantomData;
use std::ops::Range;

/// Rows and columns of an output, which nothing else can access while the part exists. As opposed
/// to a [`ViewMut`] it has none of the elements between its rows, so that parts may lie side by
/// side.
pub(crate) struct OutputPart<'a> {
    /// The first row's first element; each row has `columns` elements that are borrowed.
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    elements: PhantomData<&'a mut [f32]>,
}

// SAFETY: a part is an exclusive borrow of its elements, as `&mut [f32]` is.
unsafe impl Send for OutputPart<'_> {}
// SAFETY: through a shared reference, elements are accessed by `OutputPart::cell` alone, whose
// contract keeps its results disjoint.
unsafe impl Sync for OutputPart<'_> {}

impl<'a> OutputPart<'a> {
    /// The whole of an output.
    ///
    /// # Panics
    /// If it is not on the host.
    pub(crate) fn of(out: ViewMut<'a>) -> OutputPart<'a> {
        let (rows, columns, stride) = (out.row_count(), out.column_count(), out.stride());
        let data = out.into_data();
        let len = rows
            .checked_sub(1)
            .map_or(0, |last| last * stride + columns);
        assert!(len <= data.len(), "elements of {rows} × {columns}");
        OutputPart {
            start: data.as_mut_ptr(),
            rows,
            columns,
            stride,
            elements: PhantomData,
        }
    }

    /// The whole of `rows` × `columns` contiguous elements.
    ///
    /// # Panics
    /// If `data` has another length.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> OutputPart<'a> {
        OutputPart::of(ViewMut::new(data, rows, columns))
    }

    /// Number of rows.
    pub(crate) fn row_count(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn column_count(&self) -> usize {
        self.columns
    }

    /// One row.
    ///
    /// # Panics
    /// If the part has fewer.
    #[inline(always)]
    pub(crate) fn row(&mut self, index: usize) -> &mut [f32] {
        self.row_columns(index, 0..self.columns)
    }

    /// Some columns of a row.
    ///
    /// # Panics
    /// If the part has fewer rows or columns.
    #[inline(always)]
    pub(crate) fn row_columns(&mut self, index: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(
            index < self.rows && columns.start <= columns.end && columns.end <= self.columns,
            "row {index}, columns {columns:?} of {} × {}",
            self.rows,
            self.columns
        );
        // SAFETY: elements of the part, which are borrowed exclusively with it.
        unsafe {
            let start = self.start.add(index * self.stride + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }

    /// A range of rows.
    ///
    /// # Panics
    /// If the part has fewer.
    pub(crate) fn rows(&mut self, rows: Range<usize>) -> OutputPart<'_> {
        // SAFETY: the part is borrowed exclusively as long as the result exists.
        unsafe { self.cell(rows, 1, 0..self.columns) }
    }

    /// Fetches columns of a range of rows into the L2 cache, before they are written.
    pub(crate) fn prefetch(&self, rows: Range<usize>, columns: Range<usize>) {
        for row in rows {
            let start = self.start.wrapping_add(row * self.stride + columns.start);
            for line in (0..columns.len() * size_of::<f32>()).step_by(64) {
                prefetch_far(start.cast::<u8>().wrapping_add(line));
            }
        }
    }

    /// Every `step`-th row of `rows`, and of these some columns.
    ///
    /// # Panics
    /// If the part has fewer rows or columns.
    ///
    /// # Safety
    /// While the result exists, nothing else may access its elements: neither this part nor another
    /// result.
    unsafe fn cell(
        &self,
        rows: Range<usize>,
        step: usize,
        columns: Range<usize>,
    ) -> OutputPart<'_> {
        assert!(
            rows.start <= rows.end
                && rows.end <= self.rows
                && columns.start <= columns.end
                && columns.end <= self.columns,
            "rows {rows:?}, columns {columns:?} of {} × {}",
            self.rows,
            self.columns
        );
        let start = rows.start * self.stride + columns.start;
        OutputPart {
            start: self.start.wrapping_add(start),
            rows: rows.len().div_ceil(step),
            columns: columns.len(),
            stride: self.stride * step,
            elements: PhantomData,
        }
    }
}

/// Cuts of a length into consecutive ranges, which do not overlap.
#[derive(Clone, Copy)]
pub(crate) struct Cuts {
    len: usize,
    /// Ranges start at multiples of it.
    unit: usize,
    units: usize,
    count: usize,
}

impl Cuts {
    /// Ranges of `size`, of which the last may be shorter.
    pub(crate) fn every(len: usize, size: usize) -> Cuts {
        let size = size.max(1);
        Cuts::even(len, size, len.div_ceil(size))
    }

    /// `count` ranges of about as many units each; the last unit may be shorter than `unit`.
    pub(crate) fn even(len: usize, unit: usize, count: usize) -> Cuts {
        Cuts {
            len,
            unit,
            units: len.div_ceil(unit),
            count,
        }
    }

    fn range(&self, index: usize) -> Range<usize> {
        let cut = |index: usize| (self.units * index / self.count * self.unit).min(self.len);
        cut(index)..cut(index + 1)
    }
}

/// How an output is cut into cells, none of which overlap.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    /// Cuts of the rows; with several phases, of those of the first phase, which has the most.
    pub(crate) rows: Cuts,
    /// Cuts of the columns.
    pub(crate) columns: Cuts,
    /// Phases: a cell has every such row, from its phase's first one on.
    pub(crate) phases: usize,
    /// Whether all cells of some columns come before those of the next columns.
    pub(crate) by_columns: bool,
}

/// The place of a part in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GridCell {
    /// The output's row of the phase's first row.
    pub(crate) phase: usize,
    /// The rows, counted within the phase.
    pub(crate) rows: Range<usize>,
    /// The columns.
    pub(crate) columns: Range<usize>,
}

impl Grid {
    /// All columns of each range of rows.
    pub(crate) fn of_rows(rows: Cuts, columns: usize) -> Grid {
        Grid {
            rows,
            columns: Cuts::every(columns, columns),
            phases: 1,
            by_columns: false,
        }
    }

    fn count(&self) -> usize {
        self.phases * self.rows.count * self.columns.count
    }

    /// A cell of an output of `row_count` rows.
    fn cell(&self, index: usize, row_count: usize) -> GridCell {
        let (phase, index) = match self.phases {
            1 => (0, index),
            _ => {
                let cells = self.rows.count * self.columns.count;
                (index / cells, index % cells)
            }
        };
        let (row, column) = match self.by_columns {
            true => (index % self.rows.count, index / self.rows.count),
            false => (index / self.columns.count, index % self.columns.count),
        };
        let phase_rows = (row_count + self.phases - 1 - phase) / self.phases;
        let rows = self.rows.range(row);
        GridCell {
            phase,
            rows: rows.start.min(phase_rows)..rows.end.min(phase_rows),
            columns: self.columns.range(column),
        }
    }

    /// A cell and its part of the output.
    ///
    /// # Safety
    /// While the part exists, nothing else may access the output, and no index may be used twice.
    unsafe fn part<'b>(&self, index: usize, out: &'b OutputPart<'_>) -> (GridCell, OutputPart<'b>) {
        let cell = self.cell(index, out.row_count());
        let row = |row: usize| (cell.phase + row * self.phases).min(out.row_count());
        let rows = row(cell.rows.start)..row(cell.rows.end);
        // SAFETY: cells of different indices do not overlap, and each index is used once.
        let part = unsafe { out.cell(rows, self.phases, cell.columns.clone()) };
        (cell, part)
    }
}

/// Calls `work` with each cell of a grid and its part of the output, on all threads.
pub(crate) fn for_each_part(
    threads: &Threads,
    out: &mut OutputPart<'_>,
    grid: Grid,
    work: impl Fn(GridCell, OutputPart<'_>) + Sync,
) {
    let out = &*out;
    threads.for_each(grid.count(), |index| {
        // SAFETY: `for_each` passes each index once, and the output is borrowed exclusively.
        let (cell, part) = unsafe { grid.part(index, out) };
        work(cell, part);
    });
}

/// As [`for_each_part`], with a row of `buffers` that belongs to the worker; idle workers take the
/// next cell. Buffers need a row for each thread, or for each cell if these are fewer.
pub(crate) fn share_parts(
    threads: &Threads,
    out: &mut OutputPart<'_>,
    grid: Grid,
    buffers: &mut OutputPart<'_>,
    work: impl Fn(GridCell, OutputPart<'_>, &mut [f32]) + Sync,
) {
    let (out, buffers) = (&*out, &*buffers);
    threads.share(grid.count(), |worker, index| {
        // SAFETY: a worker has one cell at a time, and the buffers are borrowed exclusively.
        let mut buffer = unsafe { buffers.cell(worker..worker + 1, 1, 0..buffers.column_count()) };
        // SAFETY: `share` passes each index once, and the output is borrowed exclusively.
        let (cell, part) = unsafe { grid.part(index, out) };
        work(cell, part, buffer.row(0));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each element is in a cell.
    fn visits(rows: usize, columns: usize, stride: usize, grid: Grid) -> Vec<f32> {
        let mut data = vec![0.0; rows * stride];
        let mut out = OutputPart::of(ViewMut::new(&mut data, rows, stride).columns(0..columns));
        for_each_part(&Threads::new(3), &mut out, grid, |cell, mut part| {
            assert_eq!(
                (part.row_count(), part.column_count()),
                (cell.rows.len(), cell.columns.len())
            );
            for (row, index) in cell.rows.clone().enumerate() {
                for (value, column) in part.row(row).iter_mut().zip(cell.columns.clone()) {
                    let place = (cell.phase + index * grid.phases) * stride + column;
                    *value += 1.0 + place as f32;
                }
            }
        });
        (data.iter().enumerate())
            .map(|(place, value)| value / (1.0 + place as f32))
            .collect()
    }

    #[test]
    fn the_cells_of_a_grid_cover_each_element_once_and_nothing_between_the_rows() {
        for (rows, columns, phases) in [
            (1_usize, 1, 1),
            (7, 5, 1),
            (7, 5, 3),
            (2, 33, 5),
            (64, 96, 2),
        ] {
            for (row_size, column_unit, groups) in [(1, 1, 1), (3, 2, 2), (100, 32, 1)] {
                for by_columns in [false, true] {
                    let grid = Grid {
                        rows: Cuts::every(rows.div_ceil(phases), row_size),
                        columns: Cuts::even(columns, column_unit, groups),
                        phases,
                        by_columns,
                    };
                    let stride = columns + 3;
                    let expected: Vec<f32> = (0..rows * stride)
                        .map(|place| f32::from(u8::from(place % stride < columns)))
                        .collect();
                    assert_eq!(visits(rows, columns, stride, grid), expected);
                }
            }
        }
    }

    #[test]
    fn an_output_without_rows_or_columns_has_no_elements_to_visit() {
        for (rows, columns) in [(0, 4), (4, 0), (0, 0)] {
            let grid = Grid::of_rows(Cuts::every(rows, 2), columns);
            assert!(visits(rows, columns, columns, grid).is_empty());
        }
    }

    #[test]
    fn each_worker_has_a_buffer_of_its_own() {
        let (mut data, mut scratch) = (vec![0.0; 1000], vec![0.0; 4 * 8]);
        let mut out = OutputPart::new(&mut data, 1000, 1);
        let mut buffers = OutputPart::new(&mut scratch, 4, 8);
        let grid = Grid::of_rows(Cuts::every(1000, 10), 1);
        let threads = Threads::new(4);
        share_parts(
            &threads,
            &mut out,
            grid,
            &mut buffers,
            |cell, mut part, buffer| {
                buffer.fill(cell.rows.start as f32);
                for row in 0..part.row_count() {
                    part.row(row)[0] = buffer[row % 8];
                }
            },
        );
        assert!((0..1000).all(|row| data[row] == (row / 10 * 10) as f32));
    }

    #[test]
    #[should_panic(expected = "row 2, columns 0..3 of 2 × 3")]
    fn a_row_outside_a_part_is_refused() {
        OutputPart::new(&mut [0.0; 6], 2, 3).row(2);
    }

    #[test]
    #[should_panic(expected = "columns 0..4 of 2 × 3")]
    fn columns_outside_a_part_are_refused() {
        OutputPart::new(&mut [0.0; 6], 2, 3).row_columns(0, 0..4);
    }
}
