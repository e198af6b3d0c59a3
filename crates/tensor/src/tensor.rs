//! Activations.

use crate::view::{Place, PlaceMut, View, ViewMut};
use crate::workspace::RecordedPiece;
use sottovoce_memory::{Block, PlannedPiece};
use std::fmt;

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

/// Storage of a tensor's elements.
pub(crate) enum Storage {
    /// None: the workspace is measuring, or ran out of memory.
    Dry,
    /// None, and the lifetime is being recorded.
    Recorded(#[allow(dead_code, reason = "held for its drop")] RecordedPiece),
    /// In a block of its own.
    Pooled(Block),
    /// In a planned arena.
    Planned(PlannedPiece),
}

/// f32 activations, row-major and contiguous; sequences are `[time, channels]`. The memory is freed
/// on drop.
pub struct Tensor {
    shape: Shape,
    storage: Storage,
}

impl Tensor {
    pub(crate) fn new(shape: Shape, storage: Storage) -> Tensor {
        Tensor { shape, storage }
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        self.shape.as_slice()
    }

    /// One dimension.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn dim(&self, index: usize) -> usize {
        self.shape()[index]
    }

    /// Product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.shape()[..self.shape.rank - 1].iter().product()
    }

    /// The last dimension.
    pub fn columns(&self) -> usize {
        self.shape()[self.shape.rank - 1]
    }

    /// Changes the dimensions.
    ///
    /// # Panics
    /// If their product differs.
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

    /// All elements as rows of the last dimension.
    pub fn view(&self) -> View<'_> {
        let place = match &self.storage {
            Storage::Dry | Storage::Recorded(_) => Place::Dry,
            Storage::Pooled(block) => match block.host_accessible() {
                true => Place::Host(bytemuck::cast_slice(block.bytes())),
                false => Place::Device(block.address()),
            },
            Storage::Planned(piece) => match piece.host_accessible() {
                true => Place::Host(bytemuck::cast_slice(piece.bytes())),
                false => Place::Device(piece.address()),
            },
        };
        View::at(place, self.rows(), self.columns())
    }

    /// All elements as rows of the last dimension, for writing.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let (rows, columns) = (self.rows(), self.columns());
        let place = match &mut self.storage {
            Storage::Dry | Storage::Recorded(_) => PlaceMut::Dry,
            Storage::Pooled(block) => match block.host_accessible() {
                true => PlaceMut::Host(bytemuck::cast_slice_mut(block.bytes_mut())),
                false => PlaceMut::Device(block.address()),
            },
            Storage::Planned(piece) => match piece.host_accessible() {
                true => PlaceMut::Host(bytemuck::cast_slice_mut(piece.bytes_mut())),
                false => PlaceMut::Device(piece.address()),
            },
        };
        ViewMut::at(place, rows, columns)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor{:?}", self.shape())
    }
}
