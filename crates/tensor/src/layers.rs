//! The weights of one layer each.

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
    /// Division by the root mean square, then scaling.
    RootMeanSquare {
        /// `[channels]`.
        scale: Vector,
        /// Added to the mean of the squares.
        epsilon: f32,
    },
    /// To mean 0 and variance 1, then scaling and shifting.
    Layer(LayerNorm),
}

/// What stands before the first and after the last row of a convolution's input, as zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows before.
    pub left: usize,
    /// Rows after.
    pub right: usize,
}

/// A convolution over time: `[time, inputs]` to `[time, outputs]`.
#[derive(Clone, Debug)]
pub struct Conv1d {
    /// `[outputs, kernel · inputs]`, the inputs of the first tap first.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
    /// Taps.
    pub kernel: usize,
    /// Rows from one window to the next.
    pub stride: usize,
    /// Rows from one tap to the next.
    pub dilation: usize,
    /// Zeros around the input.
    pub padding: Padding,
}

impl Conv1d {
    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.weight.columns() / self.kernel
    }

    /// Rows that come out of `time` rows, or 0 if there are too few for one window.
    pub fn output_time(&self, time: usize) -> usize {
        let padded = time + self.padding.left + self.padding.right;
        let window = (self.kernel - 1) * self.dilation + 1;
        match padded.checked_sub(window) {
            Some(rest) => rest / self.stride + 1,
            None => 0,
        }
    }
}

/// A transposed convolution over time: `stride` rows out for each row in.
#[derive(Clone, Debug)]
pub struct ConvTranspose1d {
    /// `[kernel · outputs, inputs]`, the outputs of the first tap first.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
    /// Taps.
    pub kernel: usize,
    /// Rows out for each row in.
    pub stride: usize,
    /// Rows cut from the start and the end of the result.
    pub padding: usize,
}

impl ConvTranspose1d {
    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.weight.rows() / self.kernel
    }

    /// Rows that come out of `time` rows.
    pub fn output_time(&self, time: usize) -> usize {
        match time {
            0 => 0,
            _ => ((time - 1) * self.stride + self.kernel).saturating_sub(2 * self.padding),
        }
    }
}

/// A convolution over a plane: `[height, width, inputs]` to `[height, width, outputs]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[outputs, kernel height · kernel width · inputs]`, the inputs of the first tap first, taps row by row.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vector>,
    /// Taps down and across.
    pub kernel: [usize; 2],
    /// Steps down and across.
    pub stride: [usize; 2],
    /// Zeros on both sides, down and across.
    pub padding: [usize; 2],
}

impl Conv2d {
    /// Height and width that come out.
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

/// Scale and shift after normalising over channels.
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
