//! Weights, packed for the kernels, in shared blocks.

use crate::view::{Place, View};
use half::f16;
use serde::{Deserialize, Serialize};
use sottovoce_memory::driver::{Address, DriverError};
use sottovoce_memory::{ArenaSlice, Memory, OutOfMemory, Owner, SharedBlock};
use std::fmt;
use std::str::FromStr;

/// Storage format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point; arithmetic in 32 bits.
    F16,
    /// 8 bits with one scale per output.
    Int8,
    /// 4 bits with one 16-bit scale per 32 neighbouring inputs of an output.
    Q4,
}

impl Precision {
    /// All precisions, widest first.
    pub const ALL: [Precision; 4] = [
        Precision::F32,
        Precision::F16,
        Precision::Int8,
        Precision::Q4,
    ];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
            Precision::Q4 => "q4",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = MatrixError;

    fn from_str(text: &str) -> Result<Precision, MatrixError> {
        (Precision::ALL.into_iter())
            .find(|precision| precision.name() == text)
            .ok_or_else(|| MatrixError::UnknownPrecision(text.to_owned()))
    }
}

/// Why weights were not accepted.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum MatrixError {
    /// A weight that the precision cannot represent.
    #[error("weight {value} at [{row}, {column}] cannot be stored as {precision}")]
    NotRepresentable {
        /// The weight.
        value: f32,
        /// Index of the output.
        row: usize,
        /// Index of the input.
        column: usize,
        /// The precision.
        precision: Precision,
    },
    /// The block's size does not match the shape.
    #[error("a {precision} matrix of {rows} × {columns} takes {expected} bytes, not {found}")]
    WrongSize {
        /// Outputs.
        rows: usize,
        /// Inputs.
        columns: usize,
        /// The precision.
        precision: Precision,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The device refused them.
    #[error(transparent)]
    Device(#[from] DriverError),
    /// An unknown precision.
    #[error("{0:?} is not a precision: use f32, f16, int8 or q4")]
    UnknownPrecision(String),
}

/// NR of `F32` and `F16`: outputs per panel.
pub(crate) const PANEL: usize = 32;
/// NR of `Int8` and `Q4`. Outputs are padded to a multiple of it at every precision.
pub(crate) const NARROW_PANEL: usize = 16;
/// Inputs that share a scale in `Q4`.
pub(crate) const GROUP: usize = 32;
/// Bytes of a `Q4` block of 16 outputs × 32 inputs: 256 of weights, 32 of scales.
pub(crate) const Q4_BLOCK: usize = NARROW_PANEL * GROUP / 2 + NARROW_PANEL * size_of::<f16>();

/// Weights `[outputs, inputs]`, read-only and shared, packed at a precision.
///
/// - `F32` and `F16`: panels of 32 outputs, `[panel][input][output]`; the last panel is 16 wide if
///   that is enough.
/// - `Int8`: scales (f32) of all outputs, then panels of 16 outputs, `[panel][input /
///   4][output][input % 4]`, bytes of level + 128.
/// - `Q4`: panels of 16 outputs, each of blocks of 32 inputs. A block has four lines of 64 bytes,
///   `[output][input % 4]`: line `i` holds the inputs `8i..8i + 4` in its low and `8i + 4..8i + 8`
///   in its high nibbles, as level + 8. The block's 16 scales (f16) follow.
///
/// Padding is zero.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    precision: Precision,
    many_rows: bool,
    data: SharedBlock,
}

impl Matrix {
    /// Bytes of a matrix of `rows` outputs and `columns` inputs.
    pub fn bytes_for(rows: usize, columns: usize, precision: Precision) -> usize {
        let rows = rows.next_multiple_of(NARROW_PANEL);
        match precision {
            Precision::F32 => rows * columns * size_of::<f32>(),
            Precision::F16 => rows * columns * size_of::<f16>(),
            Precision::Int8 => rows * (4 + columns.next_multiple_of(4)),
            Precision::Q4 => rows / NARROW_PANEL * columns.div_ceil(GROUP) * Q4_BLOCK,
        }
    }

    /// Packs row-major weights.
    ///
    /// # Errors
    /// If a weight is not finite or too large for the precision, or if `block` has the wrong size.
    ///
    /// # Panics
    /// If `weights` is not `rows` × `columns` long.
    pub fn from_f32(
        block: ArenaSlice,
        rows: usize,
        columns: usize,
        weights: &[f32],
        precision: Precision,
    ) -> Result<Matrix, MatrixError> {
        assert_eq!(
            weights.len(),
            rows * columns,
            "weights of a {rows} × {columns} matrix"
        );
        Matrix::from_rows(block, rows, columns, precision, |row, out| {
            out.copy_from_slice(&weights[row * columns..][..columns]);
        })
    }

    /// Packs weights that `read_row` writes one output at a time, so that no second copy of the
    /// whole is needed: in place if the block is host memory, otherwise panel by panel.
    ///
    /// # Errors
    /// As [`Matrix::from_f32`], or if the device refuses the weights.
    pub fn from_rows(
        block: ArenaSlice,
        rows: usize,
        columns: usize,
        precision: Precision,
        mut read_row: impl FnMut(usize, &mut [f32]),
    ) -> Result<Matrix, MatrixError> {
        Matrix::check_size(rows, columns, precision, block.len())?;
        let largest = match precision {
            Precision::F16 => f32::from(f16::MAX),
            // `Q4` has 16-bit scales, and a scale is at most a fifth of the largest weight.
            Precision::Q4 => 5.0 * f32::from(f16::MAX),
            Precision::F32 | Precision::Int8 => f32::MAX,
        };
        let data = pack(block, rows, columns, precision, |row, weights| {
            read_row(row, weights);
            let unfit = |value: &f32| value.is_nan() || value.abs() > largest;
            (weights.iter().position(unfit)).map_or(Ok(()), |column| {
                Err(MatrixError::NotRepresentable {
                    value: weights[column],
                    row,
                    column,
                    precision,
                })
            })
        })?;
        Ok(Matrix {
            rows,
            columns,
            precision,
            many_rows: false,
            data: data.into_shared(),
        })
    }

    /// Takes packed bytes from [`Matrix::packed_bytes`].
    ///
    /// # Errors
    /// If `data` has the wrong size.
    pub fn from_packed(
        data: SharedBlock,
        rows: usize,
        columns: usize,
        precision: Precision,
    ) -> Result<Matrix, MatrixError> {
        Matrix::check_size(rows, columns, precision, data.len())?;
        Ok(Matrix {
            rows,
            columns,
            precision,
            many_rows: false,
            data,
        })
    }

    /// Copies packed bytes from host memory, such as a file, after a check for non-finite values:
    /// of all weights in a floating-point precision, of the scales in an integer one.
    ///
    /// # Errors
    /// If a weight is infinite or NaN, if `bytes` or `block` have the wrong size, or if the device
    /// refuses the weights.
    pub fn copy_packed(
        mut block: ArenaSlice,
        rows: usize,
        columns: usize,
        precision: Precision,
        bytes: &[u8],
    ) -> Result<Matrix, MatrixError> {
        Matrix::check_size(rows, columns, precision, bytes.len())?;
        Matrix::check_size(rows, columns, precision, block.len())?;
        check_finite(bytes, rows, columns, precision)?;
        block.stage(0, bytes)?;
        Ok(Matrix {
            rows,
            columns,
            precision,
            many_rows: false,
            data: block.into_shared(),
        })
    }

    fn check_size(
        rows: usize,
        columns: usize,
        precision: Precision,
        found: usize,
    ) -> Result<(), MatrixError> {
        let expected = Matrix::bytes_for(rows, columns, precision);
        if found != expected {
            return Err(MatrixError::WrongSize {
                rows,
                columns,
                precision,
                expected,
                found,
            });
        }
        Ok(())
    }

    /// Marks weights that are multiplied with many rows at a time, which a device may have other
    /// kernels for: then at any number of rows, so that a row's result does not depend on the
    /// others.
    pub fn for_many_rows(self) -> Matrix {
        Matrix {
            many_rows: true,
            ..self
        }
    }

    /// Whether they are marked by [`Matrix::for_many_rows`].
    pub fn is_for_many_rows(&self) -> bool {
        self.many_rows
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Storage format of the weights.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The packed weights.
    ///
    /// # Panics
    /// If they are not on the host.
    pub fn packed_bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// Device address of the packed weights.
    pub fn address(&self) -> Address {
        self.data.address()
    }

    /// Number of outputs including padding.
    pub(crate) fn padded_rows(&self) -> usize {
        self.rows.next_multiple_of(NARROW_PANEL)
    }

    /// Dequantises the weights of output `row` to `out`.
    ///
    /// # Panics
    /// If there is no such row, `out` is not one row long, or the weights are not on the host.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "length of a row");
        unpack_row(
            self.packed_bytes(),
            self.padded_rows(),
            self.precision,
            row,
            out,
        );
    }
}

/// Packs all outputs. If the block is not host memory, each panel is packed on the host and copied.
fn pack(
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
fn unpack_row(data: &[u8], padded_rows: usize, precision: Precision, row: usize, out: &mut [f32]) {
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
fn check_finite(
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

/// Unpacked f32 weights: biases, norms, Snake's α.
#[derive(Clone, Debug)]
pub struct Vector {
    data: SharedBlock,
}

impl Vector {
    /// Bytes of `len` values.
    pub fn bytes_for(len: usize) -> usize {
        len * size_of::<f32>()
    }

    /// Copies values into a block of exactly their size.
    ///
    /// # Errors
    /// If the block has another size, a value is not finite, or the device refuses them.
    pub fn from_f32(block: ArenaSlice, values: &[f32]) -> Result<Vector, MatrixError> {
        Vector::copy_packed(block, values.len(), bytemuck::cast_slice(values))
    }

    /// As [`Vector::from_f32`], from the bytes of `len` values, such as a file's, which need not be
    /// aligned.
    ///
    /// # Errors
    /// As [`Vector::from_f32`], or if the number of bytes differs.
    pub fn copy_packed(
        mut block: ArenaSlice,
        len: usize,
        bytes: &[u8],
    ) -> Result<Vector, MatrixError> {
        let expected = Vector::bytes_for(len);
        if let Some(found) = [bytes.len(), block.len()]
            .into_iter()
            .find(|&found| found != expected)
        {
            return Err(MatrixError::WrongSize {
                rows: 1,
                columns: len,
                precision: Precision::F32,
                expected,
                found,
            });
        }
        let values = bytes.as_chunks::<4>().0;
        let value_at = |column: usize| f32::from_le_bytes(values[column]);
        if let Some(column) = (0..len).find(|&column| !value_at(column).is_finite()) {
            return Err(MatrixError::NotRepresentable {
                value: value_at(column),
                row: 0,
                column,
                precision: Precision::F32,
            });
        }
        block.stage(0, bytes)?;
        Ok(Vector {
            data: block.into_shared(),
        })
    }

    /// Several vectors in one piece that comes directly from the driver.
    ///
    /// # Errors
    /// If the memory has too little for them.
    ///
    /// # Panics
    /// If the memory is not host memory.
    pub fn together(
        memory: &Memory,
        owner: Owner,
        parts: &[&[f32]],
    ) -> Result<Vec<Vector>, OutOfMemory> {
        let bytes: usize = parts.iter().map(|part| Vector::bytes_for(part.len())).sum();
        let mut block = memory.reserve_exact(bytes, owner)?;
        let mut rest = block.bytes_mut();
        for part in parts {
            let (place, after) = rest.split_at_mut(Vector::bytes_for(part.len()));
            bytemuck::cast_slice_mut(place).copy_from_slice(part);
            rest = after;
        }
        let block = block.into_shared();
        let mut start = 0;
        let slices = parts.iter().filter_map(|part| {
            let end = start + Vector::bytes_for(part.len());
            let slice = block.slice(start..end);
            start = end;
            slice
        });
        Ok(slices.map(Vector::from_packed).collect())
    }

    /// Takes the bytes of f32 values, such as another vector's.
    ///
    /// # Panics
    /// If they are not whole, aligned values.
    pub fn from_packed(data: SharedBlock) -> Vector {
        assert!(
            data.len().is_multiple_of(size_of::<f32>())
                && data.address().0.is_multiple_of(align_of::<f32>() as u64),
            "{data:?} holds no aligned f32 values"
        );
        Vector { data }
    }

    /// The values.
    ///
    /// # Panics
    /// If they are not on the host, where only those of voices are certain to be.
    pub fn data(&self) -> &[f32] {
        bytemuck::cast_slice(self.data.bytes())
    }

    /// The values as one row.
    pub fn view(&self) -> View<'_> {
        self.view_as(1, self.len())
    }

    /// The values as `rows` rows.
    ///
    /// # Panics
    /// If their number differs.
    pub fn view_as(&self, rows: usize, columns: usize) -> View<'_> {
        assert_eq!(
            rows * columns,
            self.len(),
            "{rows} × {columns} of a vector's values"
        );
        let place = match self.data.host_accessible() {
            true => Place::Host(self.data()),
            false => Place::Device(self.data.address()),
        };
        View::at(place, rows, columns)
    }

    /// Number of values.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.data.len() / size_of::<f32>()
    }
}
