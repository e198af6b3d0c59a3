//! An LSTM layer, step by step for all sequences of a batch.

use super::{Cpu, maths};
use crate::matrix::Matrix;
use crate::operations::{Activation, Operations, Rounding, Store};
use crate::view::{View, ViewMut};

/// Floats of scratch: hidden states, cells and gates of all sequences, and the scratch of their
/// product.
pub(crate) fn scratch(cpu: &Cpu, batch: usize, recurrent: &Matrix) -> usize {
    let hidden = recurrent.columns();
    6 * batch * hidden + cpu.linear_scratch(batch, recurrent, Rounding::Fine)
}

pub(crate) fn layer(
    cpu: &Cpu,
    inputs: View<'_>,
    batch: usize,
    recurrent: &Matrix,
    mut out: ViewMut<'_>,
    scratch: ViewMut<'_>,
) {
    let size = recurrent.columns();
    let time = inputs.row_count() / batch.max(1);
    let (hidden, rest) = scratch.into_data().split_at_mut(batch * size);
    let (cells, rest) = rest.split_at_mut(batch * size);
    let (gates, rest) = rest.split_at_mut(4 * batch * size);
    hidden.fill(0.0);
    cells.fill(0.0);
    for step in 0..time {
        for (sequence, gates) in gates.chunks_exact_mut(4 * size).enumerate() {
            gates.copy_from_slice(inputs.row(sequence * time + step));
        }
        let needed = rest.len();
        cpu.linear(
            View::new(hidden, batch, size),
            recurrent,
            None,
            Activation::Identity,
            Store::Add,
            Rounding::Fine,
            ViewMut::new(gates, batch, 4 * size),
            ViewMut::new(rest, 1, needed),
        );
        let states = (hidden.chunks_exact_mut(size)).zip(cells.chunks_exact_mut(size));
        let states = states.zip(gates.chunks_exact(4 * size));
        for (sequence, ((hidden, cell), gates)) in states.enumerate() {
            maths::lstm_cell(gates, cell, hidden);
            out.row_mut(sequence * time + step).copy_from_slice(hidden);
        }
    }
}
