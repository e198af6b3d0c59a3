//! The f32 micro-kernel, a product of a few rows with one panel, for each instruction set.
//!
//! Every instruction set adds the same products in the same order; those with fused multiply-add
//! round once instead of twice.

use super::gemm::InitialSum;
use super::gemm_f32::MR;
use super::instruction_set::{InstructionSet, enter};
use crate::matrix::PANEL;
use half::f16;

/// A few rows of the left-hand side over one KC block of inputs.
#[derive(Clone, Copy)]
pub(crate) struct Lhs<'a> {
    /// Elements from the first one of the first row on.
    pub(crate) data: &'a [f32],
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Number of rows, at most [`MR`].
    pub(crate) rows: usize,
    /// Number of inputs.
    pub(crate) depth: usize,
}

/// Weights that a kernel reads in place.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit, converted on load; only where [`InstructionSet::reads_halves`] says so.
    F16(&'a [f16]),
}

impl<'a> Weights<'a> {
    fn len(self) -> usize {
        match self {
            Weights::F32(panel) => panel.len(),
            Weights::F16(panel) => panel.len(),
        }
    }

    /// The weights, which must be 32-bit.
    #[inline(always)]
    fn floats(self) -> &'a [f32] {
        match self {
            Weights::F32(panel) => panel,
            Weights::F16(_) => unreachable!("these kernels read no 16-bit weights"),
        }
    }
}

/// `tile[r][j] = initial + Σₖ lhs[r][k] · panel[k · panel_stride + j]` for j below `width`, a
/// multiple of 16 up to 32. Rows of `tile` are 32 long.
///
/// # Panics
/// If `weights` are 16-bit and the set does not read them.
pub(crate) fn accumulate(
    set: InstructionSet,
    lhs: Lhs<'_>,
    weights: Weights<'_>,
    panel_stride: usize,
    width: usize,
    initial: InitialSum,
    tile: &mut [f32],
) {
    let Lhs { rows, depth, .. } = lhs;
    if rows == 0 || depth == 0 {
        return;
    }
    assert!(rows <= MR && (width == 16 || width == PANEL) && panel_stride >= width);
    assert!(lhs.data.len() >= (rows - 1) * lhs.stride + depth);
    assert!(weights.len() >= (depth - 1) * panel_stride + width);
    assert!(tile.len() >= rows * PANEL);
    enter!(
        floats set,
        [] (
            lhs: Lhs<'_>,
            weights: Weights<'_>,
            stride: usize,
            width: usize,
            initial: InitialSum,
            tile: &mut [f32]
        ) -> [],
        [] (lhs, weights, panel_stride, width, initial, tile),
        // SAFETY: the lengths were checked above.
        unsafe {
            match weights {
                Weights::F32(data) => avx512_panel(lhs, data.as_ptr(), stride, width, initial, tile),
                Weights::F16(data) => avx512_panel(lhs, data.as_ptr(), stride, width, initial, tile),
            }
        },
        portable::<true, 6>(lhs, weights.floats(), stride, width, initial, tile),
        {
            const FUSED: bool = cfg!(target_arch = "aarch64");
            portable::<FUSED, 4>(lhs, weights.floats(), panel_stride, width, initial, tile);
        }
    );
}

/// 16 columns of `BLOCK` rows at a time, in code that the compiler vectorises for the caller's
/// instruction set.
#[inline(always)]
fn portable<const FUSED: bool, const BLOCK: usize>(
    lhs: Lhs<'_>,
    panel: &[f32],
    panel_stride: usize,
    width: usize,
    initial: InitialSum,
    tile: &mut [f32],
) {
    for first in (0..lhs.rows).step_by(BLOCK) {
        let block = Lhs {
            data: &lhs.data[first * lhs.stride..],
            rows: BLOCK.min(lhs.rows - first),
            ..lhs
        };
        for column in (0..width).step_by(16) {
            let tile = &mut tile[first * PANEL + column..];
            let panel = &panel[column..];
            if block.rows == BLOCK {
                portable_block::<FUSED, BLOCK>(block, panel, panel_stride, initial, tile);
            } else {
                for row in 0..block.rows {
                    let one = Lhs {
                        data: &block.data[row * lhs.stride..],
                        rows: 1,
                        ..lhs
                    };
                    portable_block::<FUSED, 1>(
                        one,
                        panel,
                        panel_stride,
                        initial,
                        &mut tile[row * PANEL..],
                    );
                }
            }
        }
    }
}

#[inline(always)]
fn portable_block<const FUSED: bool, const ROWS: usize>(
    lhs: Lhs<'_>,
    panel: &[f32],
    panel_stride: usize,
    initial: InitialSum,
    tile: &mut [f32],
) {
    let mut sums = [[0.0_f32; 16]; ROWS];
    if initial == InitialSum::Tile {
        for (row, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(&tile[row * PANEL..][..16]);
        }
    }
    for k in 0..lhs.depth {
        let weights: &[f32; 16] = panel[k * panel_stride..]
            .first_chunk()
            .expect("checked length");
        for (row, sums) in sums.iter_mut().enumerate() {
            let value = lhs.data[row * lhs.stride + k];
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum = if FUSED {
                    value.mul_add(weight, *sum)
                } else {
                    value * weight + *sum
                };
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        tile[row * PANEL..][..16].copy_from_slice(sums);
    }
}

/// Stored numbers, loaded sixteen at a time as f32.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Element: Copy {
    /// # Safety
    /// Sixteen elements must lie at `from`, and the machine must have AVX-512F.
    unsafe fn load(from: *const Self) -> std::arch::x86_64::__m512;
}

#[cfg(target_arch = "x86_64")]
impl Element for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f32) -> std::arch::x86_64::__m512 {
        // SAFETY: the caller's contract.
        unsafe { std::arch::x86_64::_mm512_loadu_ps(from) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Element for f16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f16) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::{_mm256_loadu_si256, _mm512_cvtph_ps};
        // SAFETY: the caller's contract.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Element for i8 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const i8) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::{_mm_loadu_si128, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps};
        // SAFETY: the caller's contract.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
}

/// # Safety
/// The lengths must be as [`accumulate`] checks them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_panel<E: Element>(
    lhs: Lhs<'_>,
    panel: *const E,
    panel_stride: usize,
    width: usize,
    initial: InitialSum,
    tile: &mut [f32],
) {
    macro_rules! rows {
        ($vectors:literal, $($rows:literal)*) => {
            match lhs.rows {
                // SAFETY: the caller's contract.
                $($rows => unsafe { avx512_tile::<$rows, $vectors, E>(lhs, panel, panel_stride, initial, tile) },)*
                _ => unreachable!("at most {MR} rows"),
            }
        };
    }
    if width == PANEL {
        rows!(2, 1 2 3 4 5 6 7 8 9 10 11 12);
    } else {
        rows!(1, 1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

/// Prefetch distance in inputs: 4 KiB of 16-bit weights. The processor's own prefetching keeps too
/// few lines on their way, with one row even more than with many.
#[cfg(target_arch = "x86_64")]
const INPUTS_AHEAD: usize = 64;

/// # Safety
/// The lengths must be as [`accumulate`] checks them, for `ROWS` rows and 16 · `VECTORS` columns.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn avx512_tile<const ROWS: usize, const VECTORS: usize, E: Element>(
    lhs: Lhs<'_>,
    panel: *const E,
    panel_stride: usize,
    initial: InitialSum,
    tile: &mut [f32],
) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let rows = lhs.data.as_ptr();
    let mut weights = panel;
    // SAFETY: every one of `ROWS` rows of the tile is 32 long; `lhs` reaches (ROWS − 1) · stride +
    // depth; `panel` reaches (depth − 1) · panel_stride + 16 · VECTORS.
    unsafe {
        if initial == InitialSum::Tile {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(tile.as_ptr().add(row * PANEL + 16 * vector));
                }
            }
        }
        for k in 0..lhs.depth {
            let ahead = weights.wrapping_add(INPUTS_AHEAD * panel_stride);
            for line in (0..16 * VECTORS * size_of::<E>()).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast::<i8>().wrapping_add(line));
            }
            let mut loaded = [_mm512_setzero_ps(); VECTORS];
            for (vector, loaded) in loaded.iter_mut().enumerate() {
                *loaded = E::load(weights.add(16 * vector));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(*rows.add(row * lhs.stride + k));
                for (sum, &weight) in sums.iter_mut().zip(&loaded) {
                    *sum = _mm512_fmadd_ps(value, weight, *sum);
                }
            }
            weights = weights.wrapping_add(panel_stride);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(tile.as_mut_ptr().add(row * PANEL + 16 * vector), sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, factor: usize) -> Vec<f32> {
        (0..count)
            .map(|place| ((place * factor) % 257) as f32 / 128.0 - 1.0)
            .collect()
    }

    #[test]
    fn every_instruction_set_multiplies_like_the_formula() {
        let (stride, depth) = (83, 77);
        let x = numbers(MR * stride, 31);
        for set in InstructionSet::detect() {
            for (rows, width) in (1..=MR).flat_map(|rows| [(rows, 16), (rows, PANEL)]) {
                let weights = numbers(depth * width, 101);
                let halves: Vec<f16> = weights.iter().map(|&w| f16::from_f32(w)).collect();
                let mut kinds = vec![Weights::F32(&weights)];
                if set.reads_halves() {
                    kinds.push(Weights::F16(&halves));
                }
                for kind in kinds {
                    let lhs = Lhs {
                        data: &x,
                        stride,
                        rows,
                        depth,
                    };
                    let mut tile = vec![0.5; rows * PANEL];
                    accumulate(set, lhs, kind, width, width, InitialSum::Tile, &mut tile);
                    for (row, tile) in tile.chunks_exact(PANEL).enumerate() {
                        for (column, &got) in tile.iter().enumerate().take(width) {
                            let terms = (0..depth).map(|k| {
                                f64::from(x[row * stride + k])
                                    * f64::from(weights[k * width + column])
                            });
                            let expected = 0.5 + terms.sum::<f64>();
                            assert!(
                                (f64::from(got) - expected).abs() < 1e-4,
                                "{set:?}, {rows} rows of {width}: {got}, not {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}
