//! Column means and standard deviations, summed in f64 on one thread.

use crate::view::{View, ViewMut};

/// Column means.
fn mean(x: View<'_>) -> Vec<f64> {
    let mut sums = vec![0.0; x.column_count()];
    for index in 0..x.row_count() {
        for (sum, &value) in sums.iter_mut().zip(x.row(index)) {
            *sum += f64::from(value);
        }
    }
    sums.iter().map(|sum| sum / x.row_count() as f64).collect()
}

pub(crate) fn moments(x: View<'_>, mut out: ViewMut<'_>) {
    let means = mean(x);
    let mut squares = vec![0.0; means.len()];
    for index in 0..x.row_count() {
        for ((square, mean), &value) in squares.iter_mut().zip(&means).zip(x.row(index)) {
            *square += (f64::from(value) - mean).powi(2);
        }
    }
    let others = x.row_count().saturating_sub(1).max(1) as f64;
    let (first, second) = out.row_mut(0).split_at_mut(means.len());
    for (out, mean) in first.iter_mut().zip(&means) {
        *out = *mean as f32;
    }
    for (out, square) in second.iter_mut().zip(squares) {
        *out = (square / others).sqrt() as f32;
    }
}

pub(crate) fn segment_means(x: View<'_>, segment: usize, mut out: ViewMut<'_>) {
    let whole = mean(x);
    for index in 0..out.row_count() {
        let own = mean(x.rows(index * segment..((index + 1) * segment).min(x.row_count())));
        for ((out, whole), own) in out.row_mut(index).iter_mut().zip(&whole).zip(own) {
            *out = (whole + own) as f32;
        }
    }
}
