//! The KV cache: keys and values of earlier positions, as rows of bytes in memory that belongs to a
//! stream.

mod places;

pub use places::{CachePlaces, CacheRow, CacheSequence, CacheStretch, CachedPages, PageLayout};
pub(crate) use places::{CachedPart, CachedParts};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Storage format of cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePrecision {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point; larger values are clamped.
    F16,
    /// 8 bits with one bf16 scale per head.
    Int8,
}

impl fmt::Display for CachePrecision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            CachePrecision::F32 => "f32",
            CachePrecision::F16 => "f16",
            CachePrecision::Int8 => "int8",
        })
    }
}

impl CachePrecision {
    /// Bytes of one position's keys (or values): `columns` channels in `heads` heads.
    pub fn row_bytes(self, columns: usize, heads: usize) -> usize {
        match self {
            CachePrecision::F32 => columns * 4,
            CachePrecision::F16 => columns * 2,
            CachePrecision::Int8 => scales_bytes(heads) + columns.next_multiple_of(4),
        }
    }

    /// Encodes the keys (or values) of one position.
    pub(crate) fn encode(self, row: &[f32], heads: usize, out: &mut [u8]) {
        match self {
            CachePrecision::F32 => out.copy_from_slice(bytemuck::cast_slice(row)),
            CachePrecision::F16 => {
                let largest = f32::from(f16::MAX);
                let out: &mut [f16] = bytemuck::cast_slice_mut(out);
                let mut clamped = [0.0; 64];
                for (out, values) in out.chunks_mut(64).zip(row.chunks(64)) {
                    for (clamped, value) in clamped.iter_mut().zip(values) {
                        *clamped = value.clamp(-largest, largest);
                    }
                    out.convert_from_f32_slice(&clamped[..values.len()]);
                }
            }
            CachePrecision::Int8 => {
                let (scales, levels) = out.split_at_mut(scales_bytes(heads));
                let size = row.len() / heads;
                let heads = row.chunks_exact(size).zip(levels.chunks_exact_mut(size));
                for ((values, levels), scale) in heads.zip(scales.chunks_exact_mut(2)) {
                    let largest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                    // Rounded up, so that no level exceeds 127.
                    let stored = (largest / 127.0).to_bits().div_ceil(1 << 16) as u16;
                    let step = bf16::from_bits(stored).to_f32();
                    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
                    scale.copy_from_slice(&stored.to_le_bytes());
                    for (level, &value) in levels.iter_mut().zip(values) {
                        *level = (value * inverse).round() as i8 as u8;
                    }
                }
            }
        }
    }

    /// Decodes `out.len() / size` heads of one position, from head `first` on.
    pub(crate) fn decode(
        self,
        row: &[u8],
        heads: usize,
        size: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let start = first * size;
        match self {
            CachePrecision::F32 => {
                let values: &[f32] = bytemuck::cast_slice(row);
                out.copy_from_slice(&values[start..start + out.len()]);
            }
            CachePrecision::F16 => {
                let values: &[f16] = bytemuck::cast_slice(row);
                values[start..start + out.len()].convert_to_f32_slice(out);
            }
            CachePrecision::Int8 => {
                for (index, out) in out.chunks_exact_mut(size).enumerate() {
                    let (scale, levels) = head_of_int8(row, heads, first + index, size);
                    for (out, &level) in out.iter_mut().zip(levels) {
                        *out = f32::from(level as i8) * scale;
                    }
                }
            }
        }
    }
}

/// Bytes of the scales before a row of 8-bit levels.
pub(crate) fn scales_bytes(heads: usize) -> usize {
    (heads * 2).next_multiple_of(4)
}

/// The scale and the levels of one head in an 8-bit row.
pub(crate) fn head_of_int8(row: &[u8], heads: usize, head: usize, size: usize) -> (f32, &[u8]) {
    let (scales, levels) = row.split_at(scales_bytes(heads));
    let scale = bf16::from_le_bytes([scales[head * 2], scales[head * 2 + 1]]);
    (scale.to_f32(), &levels[head * size..][..size])
}

/// Layout of an attention's caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Number of heads, side by side in a row.
    pub heads: usize,
    /// Channels per head, at most 512.
    pub size: usize,
    /// Storage format of rows.
    pub precision: CachePrecision,
}

impl CacheLayout {
    /// Bytes of one position's keys (or values).
    pub fn row_bytes(&self) -> usize {
        self.precision.row_bytes(self.heads * self.size, self.heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_rounds_every_value_to_half_a_step_of_its_head() {
        let (heads, size) = (3, 5);
        let row: Vec<f32> = (0..heads * size)
            .map(|index| {
                ((index * 7919 % 101) as f32 - 50.0) * 10_f32.powi(index as i32 / 5 * 9 - 9)
            })
            .collect();
        let mut stored = vec![0; CachePrecision::Int8.row_bytes(heads * size, heads)];
        CachePrecision::Int8.encode(&row, heads, &mut stored);
        let mut read = vec![0.0; row.len()];
        CachePrecision::Int8.decode(&stored, heads, size, 0, &mut read);
        for (row, read) in row.chunks_exact(size).zip(read.chunks_exact(size)) {
            let largest = row
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            // A bf16 scale is at most 1/128 larger than necessary.
            let half_a_step = largest / 127.0 * (1.0 + 1.0 / 128.0) / 2.0;
            for (value, read) in row.iter().zip(read) {
                assert!(
                    (value - read).abs() <= half_a_step * 1.0001,
                    "{read} for {value} of {row:?}"
                );
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let mut stored = vec![1; CachePrecision::Int8.row_bytes(8, 2)];
        CachePrecision::Int8.encode(&[0.0; 8], 2, &mut stored);
        let mut read = [1.0; 8];
        CachePrecision::Int8.decode(&stored, 2, 4, 0, &mut read);
        assert_eq!(read, [0.0; 8]);
    }
}
