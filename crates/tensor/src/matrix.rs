//! Weights, packed for the kernels, in shared blocks.

mod packing;
mod vector;

pub(crate) use packing::{GROUP, Int8Parts, NARROW_PANEL, PANEL, Q4_BLOCK};
pub use vector::Vector;

use half::f16;
use packing::{check_finite, pack, unpack_row};
use serde::{Deserialize, Serialize};
use sottovoce_memory::driver::{Address, DriverError};
use sottovoce_memory::{ArenaSlice, SharedBlock};
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

    /// Dequantises the weights of output `row` of a packed matrix, such as one in a file, to `out`.
    ///
    /// # Panics
    /// If `packed` has too few bytes for that row.
    pub fn read_packed_row(
        packed: &[u8],
        rows: usize,
        precision: Precision,
        row: usize,
        out: &mut [f32],
    ) {
        let padded_rows = rows.next_multiple_of(NARROW_PANEL);
        unpack_row(packed, padded_rows, precision, row, out);
    }

    /// Dequantises the weights of output `row` to `out`.
    ///
    /// # Panics
    /// If there is no such row, `out` is not one row long, or the weights are not on the host.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "length of a row");
        Matrix::read_packed_row(self.packed_bytes(), self.rows, self.precision, row, out);
    }
}
