//! Dequantisation of packed weights to f32, one KC block of one wide panel at a time.

use super::instruction_set::{InstructionSet, enter};
use crate::matrix::{GROUP, Int8Parts, Matrix, NARROW_PANEL, PANEL, Precision, Q4_BLOCK};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Writes the f32 weights `[inputs][width]` of panel `panel`, inputs `first..first + depth`, to
/// `out`. `first` is a multiple of 32.
pub(crate) fn unpack(
    set: InstructionSet,
    matrix: &Matrix,
    panel: usize,
    first: usize,
    depth: usize,
    out: &mut [f32],
) {
    enter!(
        floats set,
        [] (matrix: &Matrix, panel: usize, first: usize, depth: usize, out: &mut [f32]) -> [],
        [] (matrix, panel, first, depth, out),
        unpack_body(matrix, panel, first, depth, out),
        unpack_body(matrix, panel, first, depth, out),
        unpack_body(matrix, panel, first, depth, out)
    );
}

#[inline(always)]
fn unpack_body(matrix: &Matrix, panel: usize, first: usize, depth: usize, out: &mut [f32]) {
    let data = matrix.packed_bytes();
    let columns = matrix.columns();
    let width = PANEL.min(matrix.padded_rows() - panel * PANEL);
    match matrix.precision() {
        Precision::F32 => {
            let start = panel * PANEL * columns + first * width;
            let packed: &[f32] = bytemuck::cast_slice(data);
            out[..depth * width].copy_from_slice(&packed[start..start + depth * width]);
        }
        Precision::F16 => {
            let start = panel * PANEL * columns + first * width;
            let packed: &[f16] = bytemuck::cast_slice(data);
            packed[start..start + depth * width].convert_to_f32_slice(&mut out[..depth * width]);
        }
        Precision::Int8 => {
            let parts = Int8Parts::of(data, matrix.padded_rows());
            let padded = columns.next_multiple_of(4);
            for narrow in 0..width / NARROW_PANEL {
                let row = panel * PANEL + narrow * NARROW_PANEL;
                let scales: &[f32; 16] = parts.scales[row..].first_chunk().expect("padded");
                let weights = &parts.weights[row * padded + first * NARROW_PANEL..];
                let out = &mut out[narrow * NARROW_PANEL..];
                int8_panel(weights, scales, depth, width, out);
            }
        }
        Precision::Q4 => {
            let groups = columns.div_ceil(GROUP);
            for narrow in 0..width / NARROW_PANEL {
                let row = panel * PANEL + narrow * NARROW_PANEL;
                for group in 0..depth.div_ceil(GROUP) {
                    let block = (row / NARROW_PANEL * groups + first / GROUP + group) * Q4_BLOCK;
                    let out = &mut out[group * GROUP * width + narrow * NARROW_PANEL..];
                    let depth = GROUP.min(depth - group * GROUP);
                    q4_block(&data[block..block + Q4_BLOCK], depth, width, out);
                }
            }
        }
    }
}

#[inline(always)]
fn int8_panel(weights: &[u8], scales: &[f32; 16], depth: usize, width: usize, out: &mut [f32]) {
    for (step, quad) in weights.chunks_exact(64).take(depth.div_ceil(4)).enumerate() {
        let words: [u32; 16] = bytemuck::pod_read_unaligned(quad);
        for inner in 0..4.min(depth - 4 * step) {
            let out: &mut [f32; 16] = (out[(4 * step + inner) * width..].first_chunk_mut())
                .expect("the buffer holds the block");
            for lane in 0..16 {
                let level = (words[lane] >> (8 * inner) & 255) as i32 - 128;
                out[lane] = level as f32 * scales[lane];
            }
        }
    }
}

#[inline(always)]
fn q4_block(block: &[u8], depth: usize, width: usize, out: &mut [f32]) {
    let (lines, scales) = block.split_at(Q4_BLOCK - 32);
    let halves: [u16; 16] = bytemuck::pod_read_unaligned(scales);
    let mut scales = [0.0; 16];
    for (scale, bits) in scales.iter_mut().zip(halves) {
        *scale = f16::from_bits(bits).to_f32();
    }
    for (line, bytes) in lines.chunks_exact(64).enumerate() {
        let words: [u32; 16] = bytemuck::pod_read_unaligned(bytes);
        for inner in 0..8.min(depth.saturating_sub(8 * line)) {
            let shift = inner % 4 * 8 + inner / 4 * 4;
            let out: &mut [f32; 16] = (out[(8 * line + inner) * width..].first_chunk_mut())
                .expect("the buffer holds the block");
            for lane in 0..16 {
                let level = (words[lane] >> shift & 15) as i32 - 8;
                out[lane] = level as f32 * scales[lane];
            }
        }
    }
}
