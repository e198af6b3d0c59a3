//! Products of `Int8` and `Q4` weights with rows in 16-bit integers, on AVX-512 with VNNI.
//!
//! Each row is scaled so that its largest magnitude is 127 · 256 + 127 and split into two signed bytes, high and low: the products are
//! exact, and what rounding a row costs is far below what the weights' own rounding costs. A row's result does not depend on the others.

use super::gemm::{self, SharedOutput, finish};
use super::rows;
use crate::matrix::Matrix;
#[cfg(target_arch = "x86_64")]
use crate::matrix::{GROUP, Int8Parts, NARROW_PANEL, Precision, Q4_BLOCK};
use crate::operations::{Activation, Store};
use crate::tensor::{View, ViewMut};
use crate::threads::Threads;

/// Rows that one pass over a panel serves: two sums a row leave half the registers for weights.
const ROWS: usize = 8;
/// Rows of one task.
const CHUNK_ROWS: usize = 64;
/// The largest 16-bit level: its high byte is 127 after rounding.
const LEVEL_MAX: f32 = 32_512.0;

/// Whether this machine has the instructions.
pub(crate) fn available() -> bool {
    #[cfg(test)]
    if super::kernel::forced::current().is_some_and(|set| set.name() != "avx512") {
        return false;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::sync::OnceLock;
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("f16c")
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// How a quantised row lies in scratch, in f32 units: bytes (four high ones, then the four low ones of the same inputs, and so on), sums of
/// levels by 32, then scale and the sum of the high bytes.
#[derive(Clone, Copy)]
struct RowLayout {
    /// Inputs, padded with zeros to a multiple of 64.
    inputs: usize,
}

impl RowLayout {
    fn of(inputs: usize) -> RowLayout {
        RowLayout {
            inputs: inputs.next_multiple_of(64),
        }
    }

    fn len(self) -> usize {
        // A whole number of cache lines.
        (self.inputs / 2 + self.inputs / 32 + 2).next_multiple_of(16)
    }
}

/// f32 elements of scratch for `rows` rows of `inputs`.
pub(crate) fn scratch(rows: usize, inputs: usize) -> usize {
    rows * RowLayout::of(inputs).len()
}

/// Quantised rows, one after the other.
#[derive(Clone, Copy)]
struct Quantised<'a> {
    data: &'a [f32],
    layout: RowLayout,
}

impl<'a> Quantised<'a> {
    fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.layout.len()..][..self.layout.len()]
    }

    /// Sums of levels of 32 inputs each.
    fn sums(&self, index: usize) -> &'a [i32] {
        let sums = &self.row(index)[self.layout.inputs / 2..][..self.layout.inputs / 32];
        bytemuck::cast_slice(sums)
    }

    fn scale(&self, index: usize) -> f32 {
        self.row(index)[self.layout.inputs / 2 + self.layout.inputs / 32]
    }

    /// Sums of the high and low bytes.
    fn totals(&self, index: usize) -> [i32; 2] {
        let total: i32 = self.sums(index).iter().sum();
        let high = self.row(index)[self.layout.inputs / 2 + self.layout.inputs / 32 + 1];
        let high = high.to_bits() as i32;
        [high, total.wrapping_sub(high.wrapping_mul(256))]
    }
}

/// Scales a row and splits its levels into bytes.
fn quantise(row: &[f32], layout: RowLayout, out: &mut [f32]) {
    assert!(row.len() <= layout.inputs && out.len() == layout.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `available` was asked; the lengths were checked.
    unsafe {
        x86::quantise(row, layout, out);
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("asked for only where it is available")
}

/// `out = activation(x Wᵀ + bias)` or added to what it held, for an `Int8` or `Q4` matrix.
#[allow(
    clippy::too_many_arguments,
    reason = "one fused product: operands, epilogue, output, scratch"
)]
pub(crate) fn multiply(
    threads: &Threads,
    x: View<'_>,
    weight: &Matrix,
    bias: Option<&[f32]>,
    activation: Activation,
    store: Store,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let layout = RowLayout::of(weight.columns());
    let count = x.row_count();
    let mut quantised = ViewMut::new(scratch, count, layout.len());
    rows::for_each(threads, &mut quantised, |row, out| {
        quantise(x.row(row), layout, out);
    });
    let scratch = &*scratch;
    let panels = weight.rows().div_ceil(16);
    let out = SharedOutput::of(out);
    gemm::for_each_part(threads, count, CHUNK_ROWS, panels, |rows, panels| {
        for panel in panels {
            for first in rows.clone().step_by(ROWS) {
                let count = ROWS.min(rows.end - first);
                let mut tile = [[0.0; 16]; ROWS];
                let rows = Quantised {
                    data: &scratch[first * layout.len()..(first + count) * layout.len()],
                    layout,
                };
                panel_product(weight, panel, rows, count, &mut tile);
                let valid = 16.min(weight.rows() - 16 * panel);
                for (index, tile) in tile.iter_mut().take(count).enumerate() {
                    // SAFETY: each task has its own rows and panels.
                    let out = unsafe { out.row(first + index, 16 * panel, valid) };
                    let bias = bias.map(|bias| &bias[16 * panel..16 * panel + valid]);
                    finish(&mut tile[..valid], bias, activation, store, out);
                }
            }
        }
    });
}

#[cfg(not(target_arch = "x86_64"))]
fn panel_product(_: &Matrix, _: usize, _: Quantised<'_>, _: usize, _: &mut [[f32; 16]; ROWS]) {
    unreachable!("asked for only where it is available")
}

#[cfg(target_arch = "x86_64")]
fn panel_product(
    weight: &Matrix,
    panel: usize,
    rows: Quantised<'_>,
    count: usize,
    tile: &mut [[f32; 16]; ROWS],
) {
    let data = weight.packed_bytes();
    match weight.precision() {
        Precision::Int8 => {
            let parts = Int8Parts::of(data, weight.padded_rows());
            let scales = &parts.scales[panel * NARROW_PANEL..][..NARROW_PANEL];
            let bytes = weight.columns().next_multiple_of(4) * NARROW_PANEL;
            let weights = &parts.weights[panel * bytes..][..bytes];
            macro_rules! dispatch {
                ($($rows:literal)*) => {
                    match count {
                        // SAFETY: `available` was asked; the panel is whole and rows are at least as long as it is deep.
                        $($rows => unsafe { x86::int8_panel::<$rows>(weights, scales, rows, tile) },)*
                        _ => unreachable!("at most {ROWS} rows"),
                    }
                };
            }
            dispatch!(1 2 3 4 5 6 7 8);
        }
        Precision::Q4 => {
            let bytes = weight.columns().div_ceil(GROUP) * Q4_BLOCK;
            let blocks = &data[panel * bytes..][..bytes];
            macro_rules! dispatch {
                ($($rows:literal)*) => {
                    match count {
                        // SAFETY: as above.
                        $($rows => unsafe { x86::q4_panel::<$rows>(blocks, rows, tile) },)*
                        _ => unreachable!("at most {ROWS} rows"),
                    }
                };
            }
            dispatch!(1 2 3 4 5 6 7 8);
        }
        other => unreachable!("{other} has no integer product"),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LEVEL_MAX, Q4_BLOCK, Quantised, ROWS, RowLayout};
    use std::arch::x86_64::{
        __m256i, __m512, __m512i, _CMP_ORD_Q, _MM_HINT_T0, _mm_prefetch, _mm_storeu_si128,
        _mm_unpackhi_epi32, _mm_unpacklo_epi32, _mm256_loadu_si256, _mm512_abs_ps,
        _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_cvtps_epi32,
        _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_epi32,
        _mm512_reduce_max_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srai_epi32,
        _mm512_srli_epi32, _mm512_storeu_ps, _mm512_sub_epi32,
    };

    /// # Safety
    /// `row` is at most as long as the layout's inputs, and `out` as long as its rows.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn quantise(row: &[f32], layout: RowLayout, out: &mut [f32]) {
        // The part of 16 values that the row has.
        let part = |first: usize| -> __m512 {
            let count = row.len().saturating_sub(first).min(16) as u32;
            let mask = ((1_u32 << count) - 1) as u16;
            // SAFETY: the mask keeps to the row.
            unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().wrapping_add(first)) }
        };
        let mut largest = _mm512_setzero_ps();
        for first in (0..layout.inputs).step_by(16) {
            // The second operand is taken where the first is not a number.
            largest = _mm512_max_ps(_mm512_abs_ps(part(first)), largest);
        }
        let scale = _mm512_reduce_max_ps(largest) / LEVEL_MAX;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (bytes, rest) = out.split_at_mut(layout.inputs / 2);
        let (sums, last) = rest.split_at_mut(layout.inputs / 32);
        let mut high_total = _mm512_setzero_si512();
        for (group, sum) in sums.iter_mut().enumerate() {
            let mut total = _mm512_setzero_si512();
            for first in [32 * group, 32 * group + 16] {
                let scaled = _mm512_mul_ps(part(first), _mm512_set1_ps(inverse));
                // Not a number becomes 0, as no weight can turn it into one.
                let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(scaled, scaled);
                let levels = _mm512_maskz_cvtps_epi32(number, scaled);
                let upper =
                    _mm512_srai_epi32::<8>(_mm512_add_epi32(levels, _mm512_set1_epi32(128)));
                let lower = _mm512_sub_epi32(levels, _mm512_slli_epi32::<8>(upper));
                total = _mm512_add_epi32(total, levels);
                high_total = _mm512_add_epi32(high_total, upper);
                let (upper, lower) = (_mm512_cvtepi32_epi8(upper), _mm512_cvtepi32_epi8(lower));
                let place = bytes[first / 2..first / 2 + 8].as_mut_ptr();
                // SAFETY: 32 bytes from `place` are inside the slice.
                unsafe {
                    _mm_storeu_si128(place.cast(), _mm_unpacklo_epi32(upper, lower));
                    _mm_storeu_si128(place.add(4).cast(), _mm_unpackhi_epi32(upper, lower));
                }
            }
            *sum = f32::from_bits(_mm512_reduce_add_epi32(total) as u32);
        }
        last[0] = scale;
        last[1] = f32::from_bits(_mm512_reduce_add_epi32(high_total) as u32);
    }

    /// The high and the low bytes of four neighbouring inputs in every lane.
    ///
    /// # Safety
    /// Eight bytes must lie at `from`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quads(from: *const u8) -> [__m512i; 2] {
        // SAFETY: passed on from the caller.
        let [high, low] = unsafe {
            [
                from.cast::<i32>().read_unaligned(),
                from.add(4).cast::<i32>().read_unaligned(),
            ]
        };
        [_mm512_set1_epi32(high), _mm512_set1_epi32(low)]
    }

    /// # Safety
    /// `weights` is whole steps of 64 bytes, `scales` 16 long, and every row has as many steps.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn int8_panel<const N: usize>(
        weights: &[u8],
        scales: &[f32],
        rows: Quantised<'_>,
        tile: &mut [[f32; 16]; ROWS],
    ) {
        let mut sums = [[_mm512_setzero_si512(); 2]; N];
        let steps = weights.len() / 64;
        let stride = rows.layout.len() * 4;
        assert!(rows.data.len() * 4 >= N * stride && rows.layout.inputs >= 4 * steps);
        let bytes: *const u8 = rows.data.as_ptr().cast();
        for step in 0..steps {
            // SAFETY: inside the panel, and inside the rows by the assertion.
            unsafe {
                let place = weights.as_ptr().add(64 * step);
                if N == ROWS {
                    // Arithmetic holds this panel up: the next one comes meanwhile, wherever it ends.
                    _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(weights.len()).cast());
                }
                let levels = _mm512_loadu_si512(place.cast());
                for (row, [high, low]) in sums.iter_mut().enumerate() {
                    let [upper, lower] = quads(bytes.add(row * stride + 8 * step));
                    *high = _mm512_dpbusd_epi32(*high, levels, upper);
                    *low = _mm512_dpbusd_epi32(*low, levels, lower);
                }
            }
        }
        // SAFETY: 16 scales; a row of the tile is 16 long.
        unsafe {
            let scales = _mm512_loadu_ps(scales.as_ptr());
            for (index, [high, low]) in sums.into_iter().enumerate() {
                let totals = rows.totals(index);
                // Levels were stored with 128 added.
                let [high, low] = [(high, totals[0]), (low, totals[1])].map(|(sum, total)| {
                    let extra = _mm512_set1_epi32(total.wrapping_mul(128));
                    _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, extra))
                });
                let sum = _mm512_fmadd_ps(high, _mm512_set1_ps(256.0), low);
                let scale = _mm512_mul_ps(scales, _mm512_set1_ps(rows.scale(index)));
                _mm512_storeu_ps(tile[index].as_mut_ptr(), _mm512_mul_ps(sum, scale));
            }
        }
    }

    /// # Safety
    /// `blocks` is whole blocks, and every row has 32 inputs for each.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c")]
    pub(super) unsafe fn q4_panel<const N: usize>(
        blocks: &[u8],
        rows: Quantised<'_>,
        tile: &mut [[f32; 16]; ROWS],
    ) {
        let mask = _mm512_set1_epi8(15);
        let mut sums = [_mm512_setzero_ps(); N];
        let groups = blocks.len() / Q4_BLOCK;
        let stride = rows.layout.len() * 4;
        assert!(rows.data.len() * 4 >= N * stride && rows.layout.inputs >= 32 * groups);
        let bytes: *const u8 = rows.data.as_ptr().cast();
        let group_sums: [&[i32]; N] = std::array::from_fn(|index| rows.sums(index));
        for (group, block) in blocks.chunks_exact(Q4_BLOCK).enumerate() {
            // SAFETY: four lines of 64 bytes and 16 half-precision scales are a block; rows reach this group by the assertion.
            unsafe {
                if N == ROWS {
                    // As above.
                    for line in 0..5 {
                        let place = block.as_ptr().wrapping_add(blocks.len() + 64 * line);
                        _mm_prefetch::<_MM_HINT_T0>(place.cast());
                    }
                }
                let mut levels = [_mm512_setzero_si512(); 8];
                for line in 0..4 {
                    let packed = _mm512_loadu_si512(block.as_ptr().add(64 * line).cast());
                    levels[2 * line] = _mm512_and_si512(packed, mask);
                    let upper = _mm512_srli_epi32::<4>(packed);
                    levels[2 * line + 1] = _mm512_and_si512(upper, mask);
                }
                let halves: __m256i = _mm256_loadu_si256(block.as_ptr().add(256).cast());
                let scales = _mm512_cvtph_ps(halves);
                for (index, sum) in sums.iter_mut().enumerate() {
                    let mut parts = [[_mm512_setzero_si512(); 2]; 2];
                    for (step, &levels) in levels.iter().enumerate() {
                        // Two sums each, because the next product must wait for the last.
                        let [high, low] = &mut parts[step % 2];
                        let step = 8 * group + step;
                        let [upper, lower] = quads(bytes.add(index * stride + 8 * step));
                        *high = _mm512_dpbusd_epi32(*high, levels, upper);
                        *low = _mm512_dpbusd_epi32(*low, levels, lower);
                    }
                    let high = _mm512_add_epi32(parts[0][0], parts[1][0]);
                    let low = _mm512_add_epi32(parts[0][1], parts[1][1]);
                    // Levels were stored with 8 added.
                    let extra = _mm512_set1_epi32(8 * group_sums[index][group]);
                    let both = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
                    let value = _mm512_cvtepi32_ps(_mm512_sub_epi32(both, extra));
                    *sum = _mm512_add_ps(*sum, _mm512_mul_ps(value, scales));
                }
            }
        }
        for (index, sum) in sums.into_iter().enumerate() {
            let scaled = _mm512_mul_ps(sum, _mm512_set1_ps(rows.scale(index)));
            // SAFETY: a row of the tile is 16 long.
            unsafe { _mm512_storeu_ps(tile[index].as_mut_ptr(), scaled) };
        }
    }
}
