//! Work on one row at a time.

use super::gemm::SharedOutput;
use super::maths::{activate, sum};
use crate::operations::Activation;
use crate::tensor::ViewMut;
use crate::threads::Threads;

/// Elements that one task takes, so that starting it costs little beside its work.
const ELEMENTS_A_TASK: usize = 16_384;

/// Calls `work` with each row's index and elements, on all threads.
pub(crate) fn for_each(
    threads: &Threads,
    x: &mut ViewMut<'_>,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (count, columns) = (x.row_count(), x.column_count());
    let rows_a_task = (ELEMENTS_A_TASK / columns.max(1)).max(1);
    let output = SharedOutput::of(x.reborrow());
    threads.for_each(count.div_ceil(rows_a_task), |task| {
        for row in task * rows_a_task..((task + 1) * rows_a_task).min(count) {
            // SAFETY: each row belongs to one task.
            work(row, unsafe { output.row(row, 0, columns) });
        }
    });
}

/// Mean 0 and variance 1, then scale and shift.
pub(crate) fn layer_norm(
    x: &[f32],
    scale: Option<&[f32]>,
    shift: Option<&[f32]>,
    epsilon: f32,
    out: &mut [f32],
) {
    let mean = sum(x.iter().copied()) / x.len() as f32;
    let variance = sum(x.iter().map(|&value| (value - mean) * (value - mean))) / x.len() as f32;
    let factor = 1.0 / (variance + epsilon).sqrt();
    (out.iter_mut().zip(x)).for_each(|(out, &value)| *out = (value - mean) * factor);
    if let Some(scale) = scale {
        (out.iter_mut().zip(scale)).for_each(|(out, &scale)| *out *= scale);
    }
    if let Some(shift) = shift {
        (out.iter_mut().zip(shift)).for_each(|(out, &shift)| *out += shift);
    }
}

/// Divided by the root mean square, then scaled.
pub(crate) fn rms_norm(x: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
    let mean_square = sum(x.iter().map(|&value| value * value)) / x.len() as f32;
    let factor = 1.0 / (mean_square + epsilon).sqrt();
    for ((out, &value), &scale) in out.iter_mut().zip(x).zip(scale) {
        *out = value * factor * scale;
    }
}

/// Gates in the order input, forget, cell, output.
pub(crate) fn lstm_cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    let size = cell.len();
    for index in 0..size {
        let mut sigmoids = [gates[index], gates[size + index], gates[3 * size + index]];
        let mut candidate = [gates[2 * size + index]];
        activate(&mut sigmoids, Activation::Sigmoid);
        activate(&mut candidate, Activation::Tanh);
        cell[index] = sigmoids[1] * cell[index] + sigmoids[0] * candidate[0];
        let mut squashed = [cell[index]];
        activate(&mut squashed, Activation::Tanh);
        hidden[index] = sigmoids[2] * squashed[0];
    }
}
