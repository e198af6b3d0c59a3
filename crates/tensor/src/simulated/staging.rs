//! Copies of an operation's operands to the host and back.

use super::{SimulatedDevice, shape};
use crate::cache::CachePlaces;
use crate::device::Device;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d};
use crate::matrix::{Matrix, Vector};
use crate::view::{View, ViewMut};
use sottovoce_memory::driver::Address;
use sottovoce_memory::{Block, Owner, Region};

/// An operation and the addresses of its operands, except those in cache pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    operation: &'static str,
    /// Address, rows, columns and stride of views; address and size of weights.
    places: Vec<[u64; 4]>,
}

/// An operation in progress.
pub(super) struct Staging<'d> {
    device: &'d SimulatedDevice,
    step: Step,
}

/// A copy of device rows on the host.
pub(super) struct Staged {
    block: Block,
    rows: usize,
    columns: usize,
}

impl Staged {
    pub(super) fn view(&self) -> View<'_> {
        View::new(
            bytemuck::cast_slice(self.block.bytes()),
            self.rows,
            self.columns,
        )
    }

    pub(super) fn view_mut(&mut self) -> ViewMut<'_> {
        let (rows, columns) = (self.rows, self.columns);
        ViewMut::new(
            bytemuck::cast_slice_mut(self.block.bytes_mut()),
            rows,
            columns,
        )
    }
}

impl<'d> Staging<'d> {
    /// Begins an operation, unless the device has failed.
    pub(super) fn begin(
        device: &'d SimulatedDevice,
        operation: &'static str,
    ) -> Option<Staging<'d>> {
        device.check().ok()?;
        device.state().operations += 1;
        let step = Step {
            operation,
            places: Vec::new(),
        };
        Some(Staging { device, step })
    }

    fn block(&self, bytes: usize) -> Block {
        let owner = Owner::new(Region::Staging, "simulated");
        match self.device.scratch.allocate(bytes, owner) {
            Ok(block) => block,
            Err(error) => panic!("{}: {error}", self.step.operation),
        }
    }

    fn note(&mut self, view: View<'_>) {
        let (address, stride, columns) = shape(view);
        let sizes = [view.row_count(), columns, stride].map(|size| size as u64);
        self.step
            .places
            .push([address.0, sizes[0], sizes[1], sizes[2]]);
    }

    fn rows(&self, rows: usize, columns: usize) -> Staged {
        Staged {
            block: self.block(rows * columns * size_of::<f32>()),
            rows,
            columns,
        }
    }

    /// Rows that are read.
    pub(super) fn input(&mut self, view: View<'_>) -> Staged {
        self.note(view);
        let mut staged = self.rows(view.row_count(), view.column_count());
        let values = bytemuck::cast_slice_mut(staged.block.bytes_mut());
        self.device.rows_in(view, values);
        staged
    }

    /// Rows that are written. With `kept` they are read first; otherwise they start as NaN.
    pub(super) fn output(&mut self, view: &ViewMut<'_>, kept: bool) -> Staged {
        if kept {
            return self.input(view.as_view());
        }
        self.note(view.as_view());
        let mut staged = self.rows(view.row_count(), view.column_count());
        let values: &mut [f32] = bytemuck::cast_slice_mut(staged.block.bytes_mut());
        values.fill(f32::NAN);
        staged
    }

    pub(super) fn matrix(&mut self, matrix: &Matrix) -> Matrix {
        let (rows, columns, precision) = (matrix.rows(), matrix.columns(), matrix.precision());
        let bytes = Matrix::bytes_for(rows, columns, precision);
        let mut block = self.block(bytes);
        self.weights(matrix.address(), block.bytes_mut());
        match Matrix::from_packed(block.into_shared(), rows, columns, precision) {
            Ok(matrix) => matrix,
            Err(error) => panic!("{}: {error}", self.step.operation),
        }
    }

    pub(super) fn vector(&mut self, vector: &Vector) -> Vector {
        let mut block = self.block(Vector::bytes_for(vector.len()));
        let (address, ..) = shape(vector.view());
        self.weights(address, block.bytes_mut());
        Vector::from_packed(block.into_shared())
    }

    pub(super) fn optional(&mut self, vector: Option<&Vector>) -> Option<Vector> {
        vector.map(|vector| self.vector(vector))
    }

    fn weights(&mut self, address: Address, into: &mut [u8]) {
        self.step.places.push([address.0, into.len() as u64, 0, 0]);
        self.device.copy_in(address, into);
    }

    pub(super) fn conv1d(&mut self, layer: &Conv1d) -> Conv1d {
        Conv1d {
            weight: self.matrix(&layer.weight),
            bias: self.optional(layer.bias.as_ref()),
            ..*layer
        }
    }

    pub(super) fn conv_transpose1d(&mut self, layer: &ConvTranspose1d) -> ConvTranspose1d {
        ConvTranspose1d {
            weight: self.matrix(&layer.weight),
            bias: self.optional(layer.bias.as_ref()),
            ..*layer
        }
    }

    pub(super) fn conv2d(&mut self, layer: &Conv2d) -> Conv2d {
        Conv2d {
            weight: self.matrix(&layer.weight),
            bias: self.optional(layer.bias.as_ref()),
            ..*layer
        }
    }

    /// One layer's part of all pages.
    pub(super) fn pages(&mut self, places: &CachePlaces<'_>, layer: usize) -> Pages {
        let nothing = |&address: &Address| (address, self.block(0));
        let mut pages: Vec<_> = places.pages().iter().map(nothing).collect();
        for sequence in places.sequences() {
            for stretch in [sequence.prefix, sequence.own] {
                let count = stretch.positions.div_ceil(stretch.positions_a_page.max(1));
                let own = stretch.first_page as usize..(stretch.first_page + count) as usize;
                let bytes = stretch.layer_bytes as usize;
                for (address, block) in &mut pages[own] {
                    if block.len() == 0 {
                        *address = address.offset((layer * bytes) as u64);
                        *block = self.block(bytes);
                        self.device.copy_in(*address, block.bytes_mut());
                    }
                }
            }
        }
        let (homes, blocks) = pages.into_iter().unzip();
        Pages { homes, blocks }
    }

    /// Copies results to the device.
    pub(super) fn store(&mut self, staged: &Staged, view: ViewMut<'_>) {
        let values = bytemuck::cast_slice(staged.block.bytes());
        self.device.rows_out(values, view.as_view());
    }

    /// Copies each row's own position back to the device.
    pub(super) fn store_cached(&mut self, pages: &mut Pages, of: &CachePlaces<'_>) {
        let starts: Vec<_> = (pages.blocks.iter())
            .map(|block| (block.address().0, block.len() as u64))
            .collect();
        let (mut places, homes) = pages.places(of);
        for row in 0..of.rows().len() {
            for bytes in places.own_bytes(row, 0) {
                let written = bytes.as_ptr().addr() as u64;
                let page = (starts.iter())
                    .position(|(start, len)| (*start..start + len).contains(&written));
                match page {
                    Some(page) => {
                        let to = homes[page].offset(written - starts[page].0);
                        self.device.copy_out(bytes, to);
                    }
                    None => panic!("row {row} has no page"),
                }
            }
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if let Some(steps) = &mut self.device.state().replayed {
            steps.push(self.step.clone());
        }
    }
}

/// One layer's part of a cache's pages on the host, and the device address of each.
pub(super) struct Pages {
    homes: Vec<Address>,
    blocks: Vec<Block>,
}

impl Pages {
    /// The block table with these pages, which have one layer.
    pub(super) fn places(&mut self, of: &CachePlaces<'_>) -> (CachePlaces<'_>, &[Address]) {
        let pages = self.blocks.iter_mut().map(|block| {
            // The contents are written through the address.
            let start = block.bytes_mut().as_mut_ptr();
            Address(start.expose_provenance() as u64)
        });
        let pages = pages.collect();
        // SAFETY: each page of a sequence is a block as long as a layer's part of it, and the
        // blocks are borrowed exclusively while the places live.
        let places = unsafe { of.in_pages(pages) };
        (places, &self.homes)
    }
}
