//! GEMM in f32, with weights at any precision.

use super::gemm::{Epilogue, FEW_ROWS, InitialSum, Product, TileKernel};
use super::instruction_set::InstructionSet;
use super::kernel::{self, Lhs, Weights};
use super::unpack::unpack;
use crate::matrix::{GROUP, Matrix, PANEL, Precision};
use crate::view::View;
use half::f16;
use std::ops::Range;

/// MR: with two vectors of 16 columns, the sums use 24 of AVX-512's 32 registers.
pub(crate) const MR: usize = 12;
/// KC: inputs per block, 24 KiB of f32 weights of a panel. A fixed number, because it determines
/// the order of summation.
const KC: usize = 192;

/// The left-hand side (A): `count` rows of `segments` segments of inputs. Input (s, c) of row i is
/// `data[i · stride + s · segment_stride + c]`. Rows may overlap: the windows of a convolution are
/// rows whose segments are its taps.
#[derive(Clone, Copy)]
pub(crate) struct RowsF32<'a> {
    /// The elements.
    pub(crate) data: &'a [f32],
    /// Number of rows.
    pub(crate) count: usize,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Segments per row.
    pub(crate) segments: usize,
    /// Inputs per segment.
    pub(crate) segment_len: usize,
    /// Elements from one segment to the next.
    pub(crate) segment_stride: usize,
}

impl<'a> RowsF32<'a> {
    /// The rows of a view.
    pub(crate) fn of(x: View<'a>) -> RowsF32<'a> {
        RowsF32 {
            data: x.data(),
            count: x.row_count(),
            stride: x.stride(),
            segments: 1,
            segment_len: x.column_count(),
            segment_stride: 0,
        }
    }

    /// Windows of `taps` rows, `dilation` apart, one every `step` rows, over a view of contiguous
    /// rows.
    pub(crate) fn windows(
        x: View<'a>,
        count: usize,
        taps: usize,
        dilation: usize,
        step: usize,
    ) -> Self {
        let contiguous = dilation == 1 && x.stride() == x.column_count();
        let (segments, segment_len) = match contiguous {
            true => (1, taps * x.column_count()),
            false => (taps, x.column_count()),
        };
        RowsF32 {
            data: x.data(),
            count,
            stride: step * x.stride(),
            segments,
            segment_len,
            segment_stride: dilation * x.stride(),
        }
    }

    fn inputs(&self) -> usize {
        self.segments * self.segment_len
    }
}

/// The right-hand side (B).
#[derive(Clone, Copy)]
pub(crate) enum PanelsF32<'a> {
    /// Packed weights.
    Matrix(&'a Matrix),
    /// f32 panels in the layout of a matrix: `[panel][input][32]`; the last one is 16 or 32 wide.
    Packed {
        /// The panels.
        data: &'a [f32],
        /// Number of outputs.
        outputs: usize,
    },
    /// Row-major f32 `[inputs, outputs]`, used in place. Every row, also the last, must be at least
    /// as long as the outputs rounded up to 16.
    Plain {
        /// The elements.
        data: &'a [f32],
        /// Elements from one input to the next.
        stride: usize,
        /// Number of outputs.
        outputs: usize,
    },
}

impl PanelsF32<'_> {
    fn outputs(&self) -> usize {
        match self {
            PanelsF32::Matrix(matrix) => matrix.rows(),
            PanelsF32::Packed { outputs, .. } | PanelsF32::Plain { outputs, .. } => *outputs,
        }
    }
}

/// Floats of packed panels of `outputs` × `inputs`.
pub(crate) fn packed_len(outputs: usize, inputs: usize) -> usize {
    outputs.next_multiple_of(16) * inputs
}

/// Packs the rows of a view, as outputs, into f32 panels.
pub(crate) fn pack(x: View<'_>, out: &mut [f32]) {
    let (outputs, inputs) = (x.row_count(), x.column_count());
    let padded = outputs.next_multiple_of(16);
    for (panel, out) in out[..padded * inputs]
        .chunks_mut(PANEL * inputs)
        .enumerate()
    {
        let width = out.len() / inputs.max(1);
        for lane in 0..width {
            let row = panel * PANEL + lane;
            if row < outputs {
                let values = x.row(row).iter();
                (values.enumerate()).for_each(|(k, &value)| out[k * width + lane] = value);
            } else {
                (0..inputs).for_each(|k| out[k * width + lane] = 0.0);
            }
        }
    }
}

/// A product of rows with panels.
#[derive(Clone, Copy)]
pub(crate) struct F32Kernel<'a> {
    set: InstructionSet,
    left: RowsF32<'a>,
    right: PanelsF32<'a>,
}

impl<'a> F32Kernel<'a> {
    /// # Panics
    /// If the right-hand side is a matrix of another number of inputs.
    pub(crate) fn new(left: RowsF32<'a>, right: PanelsF32<'a>) -> F32Kernel<'a> {
        if let PanelsF32::Matrix(matrix) = right {
            assert_eq!(matrix.columns(), left.inputs(), "inputs of a product");
        }
        F32Kernel {
            set: InstructionSet::best(),
            left,
            right,
        }
    }

    /// The product without an epilogue.
    pub(crate) fn product(self) -> Product<'static, F32Kernel<'a>> {
        Product {
            kernel: self,
            epilogue: Epilogue::NONE,
        }
    }

    /// Blocks of one segment.
    fn segment_blocks(&self) -> usize {
        self.left.segment_len.div_ceil(KC)
    }
}

/// Weights of a panel for one KC block of inputs.
pub(crate) struct BlockF32<'b> {
    weights: Weights<'b>,
    /// Elements from one input to the next.
    stride: usize,
    /// Number of outputs.
    width: usize,
    /// Number of inputs.
    depth: usize,
    /// The first input's place in a row.
    start: usize,
}

impl TileKernel for F32Kernel<'_> {
    const MR: usize = MR;
    const MC: usize = 8 * MR;
    const NR: usize = PANEL;
    /// Weights that are unpacked first.
    type Buffer = Option<[f32; KC * PANEL]>;
    type PanelBlock<'b>
        = BlockF32<'b>
    where
        Self: 'b;

    fn rows(&self) -> usize {
        self.left.count
    }

    fn outputs(&self) -> usize {
        self.right.outputs()
    }

    fn blocks(&self) -> usize {
        self.left.segments * self.segment_blocks()
    }

    fn buffer(&self, rows: usize) -> Self::Buffer {
        let in_place = match self.right {
            PanelsF32::Matrix(matrix) => match matrix.precision() {
                Precision::F32 => true,
                // Up to a number of rows, it costs less to convert the weights for each tile.
                Precision::F16 => rows <= FEW_ROWS && self.set.reads_halves(),
                Precision::Int8 | Precision::Q4 => false,
            },
            PanelsF32::Packed { .. } | PanelsF32::Plain { .. } => true,
        };
        if in_place {
            None
        } else {
            Some([0.0; KC * PANEL])
        }
    }

    // Inlined, so that a block's fields stay in registers from tile to tile.
    #[inline(always)]
    fn block<'b>(
        &'b self,
        panel: usize,
        block: usize,
        buffer: &'b mut Self::Buffer,
    ) -> BlockF32<'b> {
        let (segment, first) = (
            block / self.segment_blocks(),
            block % self.segment_blocks() * KC,
        );
        let depth = KC.min(self.left.segment_len - first);
        let (inputs, input) = (self.left.inputs(), segment * self.left.segment_len + first);
        let width = PANEL.min(self.outputs().next_multiple_of(16) - panel * PANEL);
        let packed = panel * PANEL * inputs + input * width;
        let (weights, stride) = match (self.right, buffer) {
            (PanelsF32::Matrix(matrix), Some(buffer)) => {
                let unit = match matrix.precision() {
                    Precision::F32 | Precision::F16 => 1,
                    Precision::Int8 => 4,
                    Precision::Q4 => GROUP,
                };
                assert!(
                    input.is_multiple_of(unit),
                    "a matrix in {} needs segments of a multiple of {unit} inputs",
                    matrix.precision()
                );
                unpack(self.set, matrix, panel, input, depth, buffer);
                (Weights::F32(buffer), width)
            }
            (PanelsF32::Matrix(matrix), None) if matrix.precision() == Precision::F16 => {
                let data: &[f16] = bytemuck::cast_slice(matrix.packed_bytes());
                (Weights::F16(&data[packed..]), width)
            }
            (PanelsF32::Matrix(matrix), None) => {
                let data: &[f32] = bytemuck::cast_slice(matrix.packed_bytes());
                (Weights::F32(&data[packed..]), width)
            }
            (PanelsF32::Packed { data, .. }, _) => (Weights::F32(&data[packed..]), width),
            (PanelsF32::Plain { data, stride, .. }, _) => {
                let data = &data[input * stride + panel * PANEL..];
                (Weights::F32(data), stride)
            }
        };
        BlockF32 {
            weights,
            stride,
            width,
            depth,
            start: segment * self.left.segment_stride + first,
        }
    }

    #[inline(always)]
    fn multiply_tile(
        &self,
        block: &BlockF32<'_>,
        rows: Range<usize>,
        initial: InitialSum,
        tile: &mut [f32],
    ) {
        let lhs = Lhs {
            data: &self.left.data[rows.start * self.left.stride + block.start..],
            stride: self.left.stride,
            rows: rows.len(),
            depth: block.depth,
        };
        kernel::accumulate(
            self.set,
            lhs,
            block.weights,
            block.stride,
            block.width,
            initial,
            tile,
        );
    }
}
