//! Keys and values of earlier positions, as rows of bytes in memory that belongs to a stream.

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

/// How cached keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePrecision {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point; what does not fit is clamped to the largest value.
    F16,
    /// 8 bits with one f32 scale for each head.
    Int8,
}

impl CachePrecision {
    /// Bytes of one position's keys (or values) of `columns` channels in `heads` heads.
    pub fn row_bytes(self, columns: usize, heads: usize) -> usize {
        match self {
            CachePrecision::F32 => columns * 4,
            CachePrecision::F16 => columns * 2,
            CachePrecision::Int8 => heads * 4 + columns.next_multiple_of(4),
        }
    }

    /// Stores one position.
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
                let (scales, levels) = out.split_at_mut(heads * 4);
                let size = row.len() / heads;
                let heads = row.chunks_exact(size).zip(levels.chunks_exact_mut(size));
                for ((values, levels), scale) in heads.zip(scales.chunks_exact_mut(4)) {
                    let largest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                    let step = largest / 127.0;
                    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
                    scale.copy_from_slice(&step.to_le_bytes());
                    for (level, &value) in levels.iter_mut().zip(values) {
                        *level = (value * inverse).round() as i8 as u8;
                    }
                }
            }
        }
    }

    /// Reads `out.len() / size` heads from head `first` on of one position.
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
                let (scales, levels) = row.split_at(heads * 4);
                for (index, out) in out.chunks_exact_mut(size).enumerate() {
                    let scale = &scales[(first + index) * 4..][..4];
                    let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
                    let levels = &levels[start + index * size..][..size];
                    for (out, &level) in out.iter_mut().zip(levels) {
                        *out = f32::from(level as i8) * scale;
                    }
                }
            }
        }
    }
}

/// Keys and values of some positions, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct CachedPart<'a> {
    /// `[positions][row bytes]`.
    pub keys: &'a [u8],
    /// `[positions][row bytes]`.
    pub values: &'a [u8],
    /// How many.
    pub positions: usize,
}

/// How the caches of an attention are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Heads, side by side in a row.
    pub heads: usize,
    /// Channels of a head, at most 512.
    pub size: usize,
    /// How rows are stored.
    pub precision: CachePrecision,
}

impl CacheLayout {
    /// Bytes of one position's keys (or values).
    pub fn row_bytes(&self) -> usize {
        self.precision.row_bytes(self.heads * self.size, self.heads)
    }
}
