//! The harmonic source signal, one frame per task.

use super::{maths, rows};
use crate::harmonics::Harmonics;
use crate::threads::Threads;
use crate::view::{View, ViewMut};

pub(crate) fn harmonics(
    threads: &Threads,
    f0: View<'_>,
    source: &Harmonics<'_>,
    mut out: ViewMut<'_>,
) {
    let per_frame = source.samples_a_frame;
    let mut phases = source.phases.to_vec();
    let frames: Vec<(f32, Vec<u64>)> = (0..f0.row_count())
        .map(|frame| {
            let f0 = f0.row(frame)[0];
            let start = phases.clone();
            Harmonics::advance(&mut phases, &[f0], source.sample_rate, per_frame);
            (f0, start)
        })
        .collect();
    rows::fill(threads, &mut out, per_frame, &|first, rows| {
        let (f0, phases) = &frames[first / per_frame];
        frame(source, *f0, phases, source.position + first as u64, rows);
    });
}

/// One frame, `[samples][harmonics]`, whose first sample is at `position`.
fn frame(source: &Harmonics<'_>, f0: f32, phases: &[u64], position: u64, rows: &mut [f32]) {
    let count = phases.len();
    source.noise.normals(position, count, rows);
    if f0 <= source.voiced_threshold {
        let deviation = source.sine_amplitude / 3.0;
        rows.iter_mut().for_each(|value| *value *= deviation);
        return;
    }
    let turns: Vec<u64> = Harmonics::turns(f0, source.sample_rate, count).collect();
    let mut phases = phases.to_vec();
    let mut sines = vec![0.0; count];
    for row in rows.chunks_exact_mut(count) {
        for ((phase, turn), sine) in phases.iter_mut().zip(&turns).zip(&mut sines) {
            *phase = phase.wrapping_add(*turn);
            *sine = (*phase >> 40) as f32 * (std::f32::consts::TAU / (1 << 24) as f32);
        }
        maths::sines(&mut sines);
        for (value, sine) in row.iter_mut().zip(&sines) {
            *value = source.sine_amplitude * sine + source.noise_deviation * *value;
        }
    }
}
