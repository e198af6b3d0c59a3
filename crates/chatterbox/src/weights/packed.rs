//! Tensors of converted files, stored in the kernels' layout.

use super::WeightsError;
use super::convert::{PackedKind, PackedTensor};
use super::file::WeightFile;
use super::loader::Loader;
use super::place::Mode;
use sottovoce_formats::safetensors::checksum;
use sottovoce_memory::ArenaSlice;
use sottovoce_tensor::{Matrix, MatrixError, Precision, Vector};
use std::ops::Range;

impl<'a> Loader<'a> {
    pub(super) fn is_packed(&self, name: &str) -> bool {
        self.source
            .tensor(name)
            .is_some_and(|(file, _)| file.packed.contains_key(name))
    }

    /// The file of a packed tensor, and its byte range.
    fn stored(&self, name: &str) -> (&'a WeightFile, Range<usize>) {
        let (file, tensor) = self.source.tensor(name).expect("it was found packed");
        (file, tensor.bytes.clone())
    }

    /// Checks a tensor's bytes against the checksum written by the conversion.
    fn check_bytes(&self, name: &str) -> Result<(), WeightsError> {
        let (file, tensor) = self.source.tensor(name).expect("it was found packed");
        let found = checksum(&file.bytes[tensor.bytes.clone()]);
        match tensor.checksum {
            Some(written) if written == found => Ok(()),
            written => Err(WeightsError::Damaged {
                file: file.name.clone(),
                tensor: name.to_owned(),
                found,
                written: written.unwrap_or_default(),
            }),
        }
    }

    /// Space for a packed tensor, as long as its bytes in the file.
    fn take_packed(
        &mut self,
        name: &str,
        kind: PackedKind,
        rows: usize,
        columns: usize,
    ) -> Result<ArenaSlice, WeightsError> {
        let (file, bytes) = self.stored(name);
        self.used.insert(name.to_owned());
        let slice = self.take(bytes.len())?;
        if !matches!(self.mode, Mode::Measure { .. }) {
            self.check_bytes(name)?;
        }
        match &mut self.mode {
            Mode::Measure { list, .. } => list.push((
                name.to_owned(),
                PackedTensor {
                    kind,
                    rows,
                    columns,
                },
            )),
            Mode::Fill(_) => {}
            Mode::Convert { deliver, .. } => deliver(name, &file.bytes[bytes])?,
        }
        Ok(slice)
    }

    fn packed(&self, name: &str, rows: usize, columns: usize) -> Result<PackedKind, WeightsError> {
        let (file, _) = self.source.tensor(name).expect("it was found packed");
        let packed = &file.packed[name];
        if (packed.rows, packed.columns) == (rows, columns) {
            return Ok(packed.kind);
        }
        Err(WeightsError::Shape {
            file: file.name.clone(),
            tensor: name.into(),
            found: vec![packed.rows, packed.columns],
            expected: vec![rows, columns],
        })
    }

    pub(super) fn packed_matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, WeightsError> {
        let kind = self.packed(name, rows, columns)?;
        let PackedKind::Matrix(precision) = kind else {
            return Err(self.value_error(name, MatrixError::UnknownPrecision("vector".into())));
        };
        let slice = self.take_packed(name, kind, rows, columns)?;
        match self.mode {
            Mode::Fill(_) => {
                let (file, bytes) = self.stored(name);
                let matrix = Matrix::copy_packed(
                    slice,
                    rows,
                    columns,
                    precision,
                    &file.bytes[bytes.clone()],
                );
                file.bytes.release(bytes);
                matrix
            }
            Mode::Measure { .. } | Mode::Convert { .. } => {
                Matrix::from_packed(slice.into_shared(), rows, columns, precision)
            }
        }
        .map_err(|source| self.value_error(name, source))
    }

    pub(super) fn packed_vector(&mut self, name: &str, len: usize) -> Result<Vector, WeightsError> {
        let kind = self.packed(name, 1, len)?;
        let slice = self.take_packed(name, kind, 1, len)?;
        let (file, bytes) = self.stored(name);
        let vector = match self.mode {
            Mode::Fill(_) => {
                let vector = Vector::copy_packed(slice, len, &file.bytes[bytes.clone()]);
                file.bytes.release(bytes);
                vector
            }
            Mode::Measure { .. } | Mode::Convert { .. } => match bytes.len() {
                found if found == Vector::bytes_for(len) => {
                    Ok(Vector::from_packed(slice.into_shared()))
                }
                found => Err(MatrixError::WrongSize {
                    rows: 1,
                    columns: len,
                    precision: Precision::F32,
                    expected: Vector::bytes_for(len),
                    found,
                }),
            },
        };
        vector.map_err(|source| self.value_error(name, source))
    }
}
