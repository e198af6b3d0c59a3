//! Activations.

use crate::workspace::RecordedPiece;
use sottovoce_memory::{Block, PlannedPiece};
use std::fmt;
use std::ops::Range;

/// Dimensions, at most four, outermost first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    dimensions: [usize; 4],
    rank: usize,
}

impl Shape {
    pub(crate) fn new(dimensions: &[usize]) -> Shape {
        assert!(
            (1..=4).contains(&dimensions.len()),
            "a tensor has one to four dimensions, not {dimensions:?}"
        );
        let mut all = [1; 4];
        all[..dimensions.len()].copy_from_slice(dimensions);
        Shape {
            dimensions: all,
            rank: dimensions.len(),
        }
    }

    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.dimensions[..self.rank]
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.dimensions.iter().product()
    }
}

/// Where a tensor's elements are.
pub(crate) enum Storage {
    /// Nowhere: the workspace has no bytes to give (it measures, or ran out of memory).
    Dry,
    /// As `Dry`, and its lifetime is being recorded.
    Recorded(#[allow(dead_code, reason = "held for its drop")] RecordedPiece),
    /// In a block of its own.
    Pooled(Block),
    /// In a planned arena.
    Planned(PlannedPiece),
}

/// f32 activations, row-major and contiguous; sequences are `[time, channels]`. Gives its memory back on drop.
pub struct Tensor {
    shape: Shape,
    storage: Storage,
}

impl Tensor {
    pub(crate) fn new(shape: Shape, storage: Storage) -> Tensor {
        Tensor { shape, storage }
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        self.shape.as_slice()
    }

    /// One dimension.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn dim(&self, index: usize) -> usize {
        self.shape()[index]
    }

    /// The product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.shape()[..self.shape.rank - 1].iter().product()
    }

    /// The last dimension.
    pub fn columns(&self) -> usize {
        self.shape()[self.shape.rank - 1]
    }

    /// The elements; empty in a dry run. For what enters and leaves a network, not for arithmetic inside it.
    pub fn data(&self) -> &[f32] {
        match &self.storage {
            Storage::Dry | Storage::Recorded(_) => &[],
            Storage::Pooled(block) => bytemuck::cast_slice(block.bytes()),
            Storage::Planned(piece) => bytemuck::cast_slice(piece.bytes()),
        }
    }

    /// The elements, to write; empty in a dry run.
    pub fn data_mut(&mut self) -> &mut [f32] {
        match &mut self.storage {
            Storage::Dry | Storage::Recorded(_) => &mut [],
            Storage::Pooled(block) => bytemuck::cast_slice_mut(block.bytes_mut()),
            Storage::Planned(piece) => bytemuck::cast_slice_mut(piece.bytes_mut()),
        }
    }

    /// Takes other dimensions of the same product.
    ///
    /// # Panics
    /// If the product differs.
    pub fn reshape(mut self, dimensions: &[usize]) -> Tensor {
        let shape = Shape::new(dimensions);
        assert_eq!(
            shape.elements(),
            self.shape.elements(),
            "cannot reshape {:?} to {dimensions:?}",
            self.shape()
        );
        self.shape = shape;
        self
    }

    /// All of it as rows of the last dimension.
    pub fn view(&self) -> View<'_> {
        View {
            data: self.data(),
            rows: self.rows(),
            columns: self.columns(),
            stride: self.columns(),
        }
    }

    /// All of it as rows of the last dimension, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let (rows, columns) = (self.rows(), self.columns());
        ViewMut {
            data: self.data_mut(),
            rows,
            columns,
            stride: columns,
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor{:?}", self.shape())
    }
}

/// Rows of a tensor, perhaps only some of their columns. In a dry run it has a shape and no data.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> View<'a> {
    /// `rows` × `columns` elements lying one after the other.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> View<'a> {
        assert_eq!(
            data.len(),
            rows * columns,
            "a view of {rows} × {columns} needs as many elements"
        );
        View {
            data,
            rows,
            columns,
            stride: columns,
        }
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn column_count(&self) -> usize {
        self.columns
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The elements from the first of the first row to the last of the last row, with the gaps between rows.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// One row.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.columns]
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn rows(&self, range: Range<usize>) -> View<'a> {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of {}",
            self.rows
        );
        let (start, end) = (range.start * self.stride, range.end * self.stride);
        View {
            data: &self.data[start.min(self.data.len())..end.min(self.data.len())],
            rows: range.len(),
            ..*self
        }
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn columns(&self, range: Range<usize>) -> View<'a> {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns {range:?} of {}",
            self.columns
        );
        View {
            data: &self.data[range.start.min(self.data.len())..],
            columns: range.len(),
            ..*self
        }
    }
}

impl<'a> From<&'a Tensor> for View<'a> {
    fn from(tensor: &'a Tensor) -> View<'a> {
        tensor.view()
    }
}

/// Rows to write.
pub struct ViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> ViewMut<'a> {
    /// `rows` × `columns` elements lying one after the other.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> ViewMut<'a> {
        assert_eq!(
            data.len(),
            rows * columns,
            "a view of {rows} × {columns} needs as many elements"
        );
        ViewMut {
            data,
            rows,
            columns,
            stride: columns,
        }
    }

    /// The same rows, to read.
    pub fn as_view(&self) -> View<'_> {
        View {
            data: self.data,
            rows: self.rows,
            columns: self.columns,
            stride: self.stride,
        }
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn column_count(&self) -> usize {
        self.columns
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The elements, with the gaps between rows.
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.data
    }

    /// One row.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.data[index * self.stride..][..self.columns]
    }

    /// The same rows for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut {
            data: self.data,
            rows: self.rows,
            columns: self.columns,
            stride: self.stride,
        }
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn rows(self, range: Range<usize>) -> ViewMut<'a> {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of {}",
            self.rows
        );
        let (start, end) = (range.start * self.stride, range.end * self.stride);
        let len = self.data.len();
        ViewMut {
            data: &mut self.data[start.min(len)..end.min(len)],
            rows: range.len(),
            columns: self.columns,
            stride: self.stride,
        }
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn columns(self, range: Range<usize>) -> ViewMut<'a> {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns {range:?} of {}",
            self.columns
        );
        let start = range.start.min(self.data.len());
        ViewMut {
            data: &mut self.data[start..],
            rows: self.rows,
            columns: range.len(),
            stride: self.stride,
        }
    }
}

impl<'a> From<&'a mut Tensor> for ViewMut<'a> {
    fn from(tensor: &'a mut Tensor) -> ViewMut<'a> {
        tensor.view_mut()
    }
}
