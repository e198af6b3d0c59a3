//! Kernels for products of few rows with packed weights, of which a step of T3 is made.
//!
//! Those on matrix units (`gemv_mma.cu`) take any number of rows, in blocks along the grid's second
//! axis; the plain ones (`gemv.cu`) are for few rows only.

use super::Blocks;
use super::launches::number;
use crate::matrix::Precision;
use sottovoce_memory::driver::cuda::{CudaError, Kernel};
use std::sync::Arc;

/// Rows of a block of the plain kernels, by variant.
pub(super) const PLAIN_ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Rows of a block of the kernels on matrix units, by variant.
pub(super) const UNITS_ROWS: [usize; 4] = [8, 16, 32, 64];
/// Inputs that a warp of a block on matrix units sums at a time, and most warps of such a block.
const UNITS_SLOT: usize = 128;
const UNITS_WARPS_MAX: usize = 8;
/// Outputs of a block on matrix units: a group.
const UNITS_OUTPUTS: usize = 16;

/// One kind of product with weights of one precision.
pub(super) struct FewRows {
    on_units: bool,
    /// By rows of a block, fewest first.
    variants: Vec<(usize, Arc<Kernel>)>,
}

impl FewRows {
    /// Gets the kernels of a kind ("", "_gated" or "_project"); `units` says whether the device's
    /// image has those on matrix units.
    pub fn load(
        kind: &str,
        precision: Precision,
        units: bool,
        get: impl Fn(&str) -> Result<Arc<Kernel>, CudaError>,
    ) -> Result<FewRows, CudaError> {
        let on_units = units && precision != Precision::F32;
        let (family, rows) = match on_units {
            true => ("rows_mma", &UNITS_ROWS[..]),
            false => ("rows", &PLAIN_ROWS[..]),
        };
        let of = |&rows: &usize| Ok((rows, get(&format!("{family}{kind}_{precision}_{rows}"))?));
        let variants = rows.iter().map(of).collect::<Result<_, CudaError>>()?;
        Ok(FewRows { on_units, variants })
    }

    /// Whether so many rows are few enough.
    pub fn takes(&self, rows: usize) -> bool {
        self.on_units || rows <= PLAIN_ROWS[PLAIN_ROWS.len() - 1]
    }

    /// Whether they run on matrix units, whose sums have other bits than those of `gemm.cu`.
    pub fn are_on_units(&self) -> bool {
        self.on_units
    }

    /// The kernel that has all of so many rows in a block, or as many as any has.
    pub fn of_rows(&self, rows: usize) -> Variant<'_> {
        self.variant(|block| rows <= block)
    }

    /// The same of a projection to heads of `size` channels, of which blocks of more than 16 rows
    /// hold small ones only.
    pub fn of_heads(&self, rows: usize, size: usize) -> Variant<'_> {
        let holds = |block: usize| block <= 16 || size <= 4096 / block;
        self.variant(|block| rows <= block || !holds(2 * block))
    }

    fn variant(&self, suits: impl Fn(usize) -> bool) -> Variant<'_> {
        let found = self.variants.iter().position(|&(rows, _)| suits(rows));
        let (rows, kernel) = &self.variants[found.unwrap_or(self.variants.len() - 1)];
        Variant {
            on_units: self.on_units,
            rows: *rows,
            kernel,
        }
    }
}

/// A kernel whose blocks have so many rows.
pub(super) struct Variant<'a> {
    on_units: bool,
    rows: usize,
    pub kernel: &'a Arc<Kernel>,
}

impl Variant<'_> {
    /// The blocks of a product with so many outputs of so many inputs.
    ///
    /// A block of a plain kernel has as many groups of 16 outputs as leave a quad of threads for
    /// each slot of inputs, or for those that a team has at a time.
    pub fn blocks(&self, outputs: usize, inputs: usize, rows: usize) -> Blocks {
        let slot_length = 32 * inputs.div_ceil(1024);
        let slots = inputs.div_ceil(slot_length.max(1));
        let all = match self.rows {
            0..=16 => 32,
            rows => 256 / rows,
        };
        let quads = slots.min(all).next_power_of_two().max(4);
        let of_block = match self.on_units {
            true => UNITS_OUTPUTS,
            false => all / quads * 16,
        };
        self.across(outputs.div_ceil(of_block), inputs, rows)
    }

    /// Blocks of which so many have different outputs of so many inputs.
    pub fn across(&self, across: usize, inputs: usize, rows: usize) -> Blocks {
        let grid = [number(across), number(rows.div_ceil(self.rows)), 1];
        if !self.on_units {
            return grid.into();
        }
        let warps = inputs.div_ceil(UNITS_SLOT).clamp(1, UNITS_WARPS_MAX);
        Blocks {
            grid,
            threads: 32 * number(warps),
        }
    }
}
