//! GEMM: products of rows with packed weights, the basis of linear layers, convolutions and
//! attention.
//!
//! With rows M, outputs N and inputs K, a task multiplies MC rows with one panel of NR outputs at a
//! time, a block of KC inputs after the other, in tiles of MR rows. A [`TileKernel`] multiplies the
//! tiles; one exists for each kind of operands.

use super::maths;
use super::output::{Cuts, Grid, OutputPart, for_each_part};
use super::rows;
use super::vectorised::vectorised;
use crate::matrix::{NARROW_PANEL, PANEL};
use crate::operations::{Activation, Store};
use crate::threads::Threads;
use crate::view::ViewMut;
use std::ops::Range;

/// Most rows of a task of any kernel. Their tiles (12 KiB) stay in the L1 cache beside the weights.
pub(crate) const MC: usize = 96;
/// Number of rows that count as few: a decoding step has no more.
pub(crate) const FEW_ROWS: usize = 24;

/// The operands of a product, and how a tile of rows is multiplied with a block of a panel.
pub(crate) trait TileKernel: Sync {
    /// MR: most rows of a tile.
    const MR: usize;
    /// MC: most rows of a task.
    const MC: usize;
    /// NR: outputs of a panel.
    const NR: usize;
    /// What a task keeps from block to block.
    type Buffer;
    /// The weights of one panel for one block of inputs.
    type PanelBlock<'b>
    where
        Self: 'b;

    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of outputs.
    fn outputs(&self) -> usize;
    /// Number of blocks of inputs.
    fn blocks(&self) -> usize;
    /// The buffer of a task with `rows` rows.
    fn buffer(&self, rows: usize) -> Self::Buffer;
    /// A block of a panel.
    fn block<'b>(
        &'b self,
        panel: usize,
        block: usize,
        buffer: &'b mut Self::Buffer,
    ) -> Self::PanelBlock<'b>;
    /// Products of up to [`TileKernel::MR`] rows with a block, to rows of [`TileKernel::NR`].
    fn multiply_tile(
        &self,
        block: &Self::PanelBlock<'_>,
        rows: Range<usize>,
        initial: InitialSum,
        tile: &mut [f32],
    );
}

/// Initial value of the sums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InitialSum {
    /// Zero; the contents of the tile are lost.
    Zero,
    /// The contents of the tile.
    Tile,
}

/// What follows the sums: `out = activation(sums + bias)`, or added to the contents of `out`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// Bias of each output.
    pub(crate) bias: Option<&'a [f32]>,
    /// Activation of each element.
    pub(crate) activation: Activation,
    /// Treatment of the output's contents; `Add` comes after the activation.
    pub(crate) store: Store,
}

impl Epilogue<'_> {
    /// Stores the sums as they are.
    pub(crate) const NONE: Epilogue<'static> = Epilogue {
        bias: None,
        activation: Activation::Identity,
        store: Store::Overwrite,
    };

    /// The epilogue of some outputs.
    fn columns(&self, columns: Range<usize>) -> Epilogue<'_> {
        Epilogue {
            bias: self.bias.map(|bias| &bias[columns]),
            ..*self
        }
    }
}

/// A product and its epilogue.
pub(crate) struct Product<'a, K> {
    pub(crate) kernel: K,
    pub(crate) epilogue: Epilogue<'a>,
}

impl<K: TileKernel> Product<'_, K> {
    /// Computes the product on all threads.
    ///
    /// # Panics
    /// If the output has another shape.
    pub(crate) fn multiply(&self, threads: &Threads, out: ViewMut<'_>) {
        let (rows, outputs) = (self.kernel.rows(), self.kernel.outputs());
        assert_eq!(
            (out.row_count(), out.column_count()),
            (rows, outputs),
            "shape of a product's output"
        );
        let mut out = OutputPart::of(out);
        // Few parts, but enough to balance the threads: about equal ones, and for each thread as
        // many as for the others, if there are panels enough.
        let panels = outputs.div_ceil(K::NR);
        let chunks = rows.div_ceil(K::MC).max(1);
        let chunk_rows = rows.div_ceil(chunks);
        let least = (4 * threads.count()).div_ceil(chunks);
        let even = (least..=2 * least).find(|groups| chunks * groups % threads.count() == 0);
        let groups = even.unwrap_or(least).clamp(1, panels.max(1));
        let grid = Grid {
            columns: Cuts::even(outputs, K::NR, groups),
            ..Grid::of_rows(Cuts::every(rows, chunk_rows), outputs)
        };
        for_each_part(threads, &mut out, grid, |cell, mut part| {
            let panels = cell.columns.start / K::NR..cell.columns.end.div_ceil(K::NR);
            self.multiply_part(cell.rows, panels, &mut part);
        });
    }

    /// Computes the product on the calling thread, for operations with their own parallelism. The
    /// output's first rows and columns are written.
    pub(crate) fn multiply_here(&self, out: &mut OutputPart<'_>) {
        let (rows, panels) = (self.kernel.rows(), self.kernel.outputs().div_ceil(K::NR));
        for first in (0..rows).step_by(K::MC) {
            let rows = first..(first + K::MC).min(rows);
            self.multiply_part(rows.clone(), 0..panels, &mut out.rows(rows));
        }
    }

    /// Computes up to [`TileKernel::MC`] rows of some panels, to the part's rows and columns.
    fn multiply_part(&self, rows: Range<usize>, panels: Range<usize>, out: &mut OutputPart<'_>) {
        const { assert!(K::MC <= MC && K::NR <= PANEL) }
        // A decoding step does not clear tiles that it does not need.
        if rows.len() <= FEW_ROWS {
            self.multiply_panels(rows, panels, &mut [0.0; FEW_ROWS * PANEL], out);
        } else {
            self.multiply_panels(rows, panels, &mut [0.0; MC * PANEL], out);
        }
    }

    fn multiply_panels(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        tiles: &mut [f32],
        out: &mut OutputPart<'_>,
    ) {
        let kernel = &self.kernel;
        let tiles = &mut tiles[..rows.len() * K::NR];
        // Tiles of equal height: a short last tile would wait for its weights.
        let tile_rows = rows
            .len()
            .div_ceil(rows.len().div_ceil(K::MR).max(1))
            .max(1);
        let many = rows.len() > FEW_ROWS;
        let mut buffer = kernel.buffer(rows.len());
        let first_column = panels.start * K::NR;
        for panel in panels {
            let columns = panel * K::NR..kernel.outputs().min((panel + 1) * K::NR);
            let part_columns = columns.start - first_column..columns.end - first_column;
            let mut initial = InitialSum::Zero;
            for block in 0..kernel.blocks() {
                let weights = kernel.block(panel, block, &mut buffer);
                let places = rows.clone().step_by(tile_rows);
                for (first, tile) in places.zip(tiles.chunks_mut(tile_rows * K::NR)) {
                    let tile_range = first..rows.end.min(first + tile_rows);
                    if initial == InitialSum::Zero && many {
                        let part_rows = first - rows.start..tile_range.end - rows.start;
                        out.prefetch(part_rows, part_columns.clone());
                    }
                    kernel.multiply_tile(&weights, tile_range, initial, tile);
                }
                initial = InitialSum::Tile;
            }
            if initial == InitialSum::Zero {
                tiles.fill(0.0);
            }
            let epilogue = self.epilogue.columns(columns);
            // The widths of panels are constants, for loops of a known length.
            if K::NR == PANEL {
                finish_rows::<PANEL>(tiles, epilogue, out, part_columns);
            } else {
                finish_rows::<NARROW_PANEL>(tiles, epilogue, out, part_columns);
            }
        }
    }
}

vectorised! {
    /// The epilogue of rows of sums, each as long as a panel.
    fn finish_rows<const NR: usize>(
        tiles: &mut [f32],
        epilogue: Epilogue<'_>,
        out: &mut OutputPart<'_>,
        columns: Range<usize>,
    ) {
        if let Some(bias) = epilogue.bias {
            for tile in tiles.chunks_exact_mut(NR) {
                (tile.iter_mut().zip(bias)).for_each(|(value, &bias)| *value += bias);
            }
        }
        // The padding of the last panel is included: one long loop is faster than many short ones.
        maths::activate_here::<FUSED>(tiles, epilogue.activation);
        for (row, tile) in tiles.chunks_exact_mut(NR).enumerate() {
            let out = out.row_columns(row, columns.clone());
            match epilogue.store {
                Store::Overwrite => rows::copy::<NR>(&tile[..columns.len()], out),
                Store::Add => (out.iter_mut().zip(tile)).for_each(|(out, value)| *out += *value),
            }
        }
    }
}

/// The epilogue of one row of sums, for callers that are themselves compiled for an instruction
/// set.
#[inline(always)]
pub(crate) fn finish_row<const FUSED: bool>(
    sums: &mut [f32],
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    if let Some(bias) = epilogue.bias {
        (sums.iter_mut().zip(bias)).for_each(|(value, &bias)| *value += bias);
    }
    maths::activate_here::<FUSED>(sums, epilogue.activation);
    match epilogue.store {
        Store::Overwrite => out.copy_from_slice(sums),
        Store::Add => (out.iter_mut().zip(&*sums)).for_each(|(out, &value)| *out += value),
    }
}
