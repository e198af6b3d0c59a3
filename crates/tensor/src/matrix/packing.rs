//! Layouts of packed weights: packing, unpacking and checks.

use super::{MatrixError, Precision};
use half::f16;
use sottovoce_memory::ArenaSlice;

/// NR of `F32` and `F16`: outputs per panel.
pub(crate) const PANEL: usize = 32;
/// NR of `Int8` and `Q4`. Outputs are padded to a multiple of it at every precision.
pub(crate) const NARROW_PANEL: usize = 16;
/// Inputs that share a scale in `Q4`.
pub(crate) const GROUP: usize = 32;
/// Bytes of a `Q4` block of 16 outputs × 32 inputs: 256 of weights, 32 of scales.
pub(crate) const Q4_BLOCK: usize = NARROW_PANEL * GROUP / 2 + NARROW_PANEL * size_of::<f16>();

/// Packs all outputs. If the block is not host memory, each panel is packed on the host and copied.
pub(super) fn pack(
    mut block: ArenaSlice,
    rows: usize,
    columns: usize,
    precision: Precision,
    mut read_row: impl FnMut(usize, &mut [f32]) -> Result<(), MatrixError>,
) -> Result<ArenaSlice, MatrixError> {
    let padded = rows.next_multiple_of(NARROW_PANEL);
    let panel_rows = match precision {
        Precision::F32 | Precision::F16 => PANEL,
        Precision::Int8 | Precision::Q4 => NARROW_PANEL,
    };
    let mut scales = match precision {
        Precision::Int8 => vec![0.0_f32; padded],
        Precision::F32 | Precision::F16 | Precision::Q4 => Vec::new(),
    };
    let mut start = scales.len() * size_of::<f32>();
    let mut weights = vec![0.0; columns];
    // f32, so that it is aligned for every precision.
    let mut staging: Vec<f32> = Vec::new();
    for first in (0..padded).step_by(panel_rows) {
        let width = panel_rows.min(padded - first);
        let len = match precision {
            Precision::F32 => width * columns * size_of::<f32>(),
            Precision::F16 => width * columns * size_of::<f16>(),
            Precision::Int8 => width * columns.next_multiple_of(4),
            Precision::Q4 => columns.div_ceil(GROUP) * Q4_BLOCK,
        };
        let panel = if block.host_accessible() {
            &mut block.bytes_mut()[start..start + len]
        } else {
            staging.resize(len / size_of::<f32>(), 0.0);
            bytemuck::cast_slice_mut(&mut staging)
        };
        panel.fill(0);
        for within in 0..width.min(rows - first) {
            let row = first + within;
            read_row(row, &mut weights)?;
            match precision {
                Precision::F32 => {
                    let out: &mut [f32] = bytemuck::cast_slice_mut(panel);
                    for (column, &value) in weights.iter().enumerate() {
                        out[column * width + within] = value;
                    }
                }
                Precision::F16 => {
                    let out: &mut [f16] = bytemuck::cast_slice_mut(panel);
                    for (column, &value) in weights.iter().enumerate() {
                        out[column * width + within] = f16::from_f32(value);
                    }
                }
                Precision::Int8 => scales[row] = pack_int8(panel, within, &weights),
                Precision::Q4 => pack_q4(panel, within, &weights),
            }
        }
        if !block.host_accessible() {
            block.stage(start, bytemuck::cast_slice(&staging))?;
        }
        start += len;
    }
    block.stage(0, bytemuck::cast_slice(&scales))?;
    Ok(block)
}

/// Dequantises one output of packed weights, which need not be aligned, to `out`.
pub(super) fn unpack_row(
    data: &[u8],
    padded_rows: usize,
    precision: Precision,
    row: usize,
    out: &mut [f32],
) {
    let columns = out.len();
    let place = WidePlace::of(row, padded_rows, columns);
    match precision {
        Precision::F32 => {
            let packed = data.as_chunks::<4>().0;
            for (column, value) in out.iter_mut().enumerate() {
                *value = f32::from_le_bytes(packed[place.index(column)]);
            }
        }
        Precision::F16 => {
            let packed = data.as_chunks::<2>().0;
            for (column, value) in out.iter_mut().enumerate() {
                *value = f16::from_le_bytes(packed[place.index(column)]).to_f32();
            }
        }
        Precision::Int8 => {
            let (scales, weights) = data.split_at(padded_rows * 4);
            let scale = f32::from_le_bytes(scales.as_chunks::<4>().0[row]);
            for (column, value) in out.iter_mut().enumerate() {
                *value = (f32::from(weights[int8_index(row, column, columns)]) - 128.0) * scale;
            }
        }
        Precision::Q4 => {
            for (column, value) in out.iter_mut().enumerate() {
                let block = q4_block_start(row, column, columns);
                let (byte, shift) = q4_nibble(row, column);
                let level = i32::from(data[block + byte] >> shift & 15) - 8;
                let scale = block + Q4_BLOCK - 32 + 2 * (row % NARROW_PANEL);
                let scale = f16::from_le_bytes([data[scale], data[scale + 1]]);
                *value = level as f32 * scale.to_f32();
            }
        }
    }
}

/// Checks packed bytes of the right size, which need not be aligned, for non-finite weights.
pub(super) fn check_finite(
    data: &[u8],
    rows: usize,
    columns: usize,
    precision: Precision,
) -> Result<(), MatrixError> {
    let padded = rows.next_multiple_of(NARROW_PANEL);
    let finite = match precision {
        Precision::F32 => are_finite(data),
        Precision::F16 => are_finite_halves(data),
        Precision::Int8 => are_finite(&data[..padded * 4]),
        Precision::Q4 => data.chunks_exact(Q4_BLOCK).all(|block| {
            let scales = block[Q4_BLOCK - 32..].as_chunks::<2>().0;
            (scales.iter()).all(|scale| f16::from_le_bytes(*scale).is_finite())
        }),
    };
    if finite {
        return Ok(());
    }
    // The offending weight is located only now. None is found if it is padding, which nothing
    // reads.
    let mut weights = vec![0.0; columns];
    for row in 0..rows {
        unpack_row(data, padded, precision, row, &mut weights);
        if let Some(column) = weights.iter().position(|value| !value.is_finite()) {
            return Err(MatrixError::NotRepresentable {
                value: weights[column],
                row,
                column,
                precision,
            });
        }
    }
    Ok(())
}

/// Whether all f32 are finite, without an early exit, so that the loop vectorises.
fn are_finite(values: &[u8]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values.as_chunks::<4>().0.chunks(4096).all(|piece| {
        let exponents = piece.iter().map(|v| u32::from_le_bytes(*v) & EXPONENT);
        exponents.max() != Some(EXPONENT)
    })
}

/// As [`are_finite`], for 16-bit floats.
fn are_finite_halves(values: &[u8]) -> bool {
    const EXPONENT: u16 = 0x7c00;
    values.as_chunks::<2>().0.chunks(4096).all(|piece| {
        let exponents = piece.iter().map(|v| u16::from_le_bytes(*v) & EXPONENT);
        exponents.max() != Some(EXPONENT)
    })
}

/// Position of an output's weights in wide panels.
struct WidePlace {
    start: usize,
    width: usize,
}

impl WidePlace {
    fn of(row: usize, padded_rows: usize, columns: usize) -> WidePlace {
        let panel = row / PANEL;
        WidePlace {
            start: panel * PANEL * columns + row % PANEL,
            width: PANEL.min(padded_rows - panel * PANEL),
        }
    }

    fn index(&self, column: usize) -> usize {
        self.start + column * self.width
    }
}

/// The parts of an `Int8` matrix.
pub(crate) struct Int8Parts<'a> {
    /// One scale per output.
    pub(crate) scales: &'a [f32],
    /// The panels.
    pub(crate) weights: &'a [u8],
}

impl<'a> Int8Parts<'a> {
    pub(crate) fn of(data: &'a [u8], padded_rows: usize) -> Int8Parts<'a> {
        let (scales, weights) = data.split_at(padded_rows * 4);
        Int8Parts {
            scales: bytemuck::cast_slice(scales),
            weights,
        }
    }
}

fn int8_index(row: usize, column: usize, columns: usize) -> usize {
    let panel = row / NARROW_PANEL * NARROW_PANEL * columns.next_multiple_of(4);
    panel + column / 4 * 4 * NARROW_PANEL + row % NARROW_PANEL * 4 + column % 4
}

/// Rounds a value within ± 2²² to the nearest integer in two additions, where `round` would be a
/// call: adding 1.5 · 2²³ leaves no fraction bits.
fn nearest(value: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (value + ROUND) - ROUND
}

/// Packs one output into its panel; returns its scale.
fn pack_int8(panel: &mut [u8], row: usize, weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (column, &weight) in weights.iter().enumerate() {
        let level = nearest(weight * inverse).clamp(-127.0, 127.0) as i32;
        panel[int8_index(row, column, weights.len())] = (level + 128) as u8;
    }
    scale
}

fn q4_block_start(row: usize, column: usize, columns: usize) -> usize {
    (row / NARROW_PANEL * columns.div_ceil(GROUP) + column / GROUP) * Q4_BLOCK
}

/// The byte within a block, and the shift of its nibble.
fn q4_nibble(row: usize, column: usize) -> (usize, u32) {
    let within = column % GROUP;
    let byte = within / 8 * 64 + row % NARROW_PANEL * 4 + within % 4;
    (byte, if within % 8 < 4 { 0 } else { 4 })
}

fn pack_q4(data: &mut [u8], row: usize, weights: &[f32]) {
    for (group, values) in weights.chunks(GROUP).enumerate() {
        let first = group * GROUP;
        let scale = f16::from_f32(q4_scale(values));
        let inverse = match scale.to_f32() {
            0.0 => 0.0,
            scale => 1.0 / scale,
        };
        let block = q4_block_start(row, first, weights.len());
        for within in 0..GROUP {
            let value = values.get(within).copied().unwrap_or(0.0);
            let level = nearest(value * inverse).clamp(-8.0, 7.0) as i32 + 8;
            let (byte, shift) = q4_nibble(row, first + within);
            data[block + byte] |= (level as u8) << shift;
        }
        let place = block + Q4_BLOCK - 32 + 2 * (row % NARROW_PANEL);
        data[place..place + 2].copy_from_slice(&scale.to_le_bytes());
    }
}

/// The best of a few scales by squared error: the largest magnitude may be clipped slightly or use
/// the eighth negative level.
fn q4_scale(values: &[f32]) -> f32 {
    let extreme = (values.iter()).fold(
        0.0_f32,
        |most, &v| if v.abs() > most.abs() { v } else { most },
    );
    if extreme == 0.0 {
        return 0.0;
    }
    let mut best = (f32::INFINITY, 0.0);
    for step in 0..12 {
        let scale = extreme / -(8.0 - 0.25 * step as f32);
        let inverse = 1.0 / scale;
        // Separate sums, so that the loop vectorises.
        let mut sums = [0.0; 8];
        for part in values.chunks(8) {
            for (sum, &value) in sums.iter_mut().zip(part) {
                let difference = value - nearest(value * inverse).clamp(-8.0, 7.0) * scale;
                *sum += difference * difference;
            }
        }
        let error: f32 = sums.iter().sum();
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}
