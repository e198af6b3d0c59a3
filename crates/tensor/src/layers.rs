//! Weights of single layers.

use crate::matrix::{Matrix, Vector};

/// y = W x + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
}

/// A norm of each row.
#[derive(Clone, Debug)]
pub enum Norm {
    /// RMS normalisation, then scale.
    RootMeanSquare {
        /// `[channels]`.
        scale: Vector,
        /// Added to the mean square.
        epsilon: f32,
    },
    /// Layer normalisation, then scale and shift.
    Layer(LayerNorm),
}

/// Zero padding of a convolution's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows before the input.
    pub left: usize,
    /// Rows after the input.
    pub right: usize,
}

/// A convolution over time: `[time, inputs]` → `[time, outputs]`.
#[derive(Clone, Debug)]
pub struct Conv1d {
    /// `[outputs, kernel · inputs]`, the inputs of the first tap first.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
    /// Number of taps.
    pub kernel: usize,
    /// Rows from one window to the next.
    pub stride: usize,
    /// Rows from one tap to the next.
    pub dilation: usize,
    /// Zero padding.
    pub padding: Padding,
}

impl Conv1d {
    /// Input channels.
    pub fn inputs(&self) -> usize {
        self.weight.columns() / self.kernel
    }

    /// Output rows for `time` input rows, or 0 if there are too few for one window.
    pub fn output_time(&self, time: usize) -> usize {
        let padded = time + self.padding.left + self.padding.right;
        let window = (self.kernel - 1) * self.dilation + 1;
        match padded.checked_sub(window) {
            Some(rest) => rest / self.stride + 1,
            None => 0,
        }
    }
}

/// A transposed convolution over time: `stride` output rows for each input row.
#[derive(Clone, Debug)]
pub struct ConvTranspose1d {
    /// `[kernel · outputs, inputs]`, the outputs of the first tap first.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
    /// Number of taps.
    pub kernel: usize,
    /// Output rows per input row.
    pub stride: usize,
    /// Rows cut from the start and the end of the result.
    pub padding: usize,
}

impl ConvTranspose1d {
    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.weight.rows() / self.kernel
    }

    /// Output rows for `time` input rows.
    pub fn output_time(&self, time: usize) -> usize {
        match time {
            0 => 0,
            _ => ((time - 1) * self.stride + self.kernel).saturating_sub(2 * self.padding),
        }
    }
}

/// A two-dimensional convolution: `[height, width, inputs]` → `[height, width, outputs]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[outputs, kernel height · kernel width · inputs]`, taps in row-major order, the inputs of
    /// the first tap first.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Zero padding on both sides, vertical and horizontal.
    pub padding: [usize; 2],
}

impl Conv2d {
    /// Output height and width.
    pub fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = size[axis] + 2 * self.padding[axis];
            match padded.checked_sub(self.kernel[axis]) {
                Some(rest) => rest / self.stride[axis] + 1,
                None => 0,
            }
        })
    }
}

/// Scale and shift of a layer normalisation.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[channels]`.
    pub weight: Vector,
    /// `[channels]`.
    pub bias: Vector,
    /// Added to the variance.
    pub epsilon: f32,
}

/// One layer of an LSTM; gates in the order input, forget, cell, output.
#[derive(Clone, Debug)]
pub struct LstmLayer {
    /// `[4 · hidden, inputs]` with both biases summed.
    pub input: Linear,
    /// `[4 · hidden, hidden]`.
    pub recurrent: Linear,
}

/// Layers of an LSTM, first to last.
#[derive(Clone, Debug)]
pub struct Lstm {
    /// The layers.
    pub layers: Vec<LstmLayer>,
}
