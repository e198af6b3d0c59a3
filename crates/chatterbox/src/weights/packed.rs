//! Tensors of converted files, which lie in them as the kernels want them.

use super::WeightsError;
use super::convert::{PackedKind, PackedTensor};
use super::loader::Loader;
use super::place::Mode;
use sottovoce_memory::ArenaSlice;
use sottovoce_tensor::{Matrix, MatrixError, Precision, Vector};

impl Loader<'_> {
    pub(super) fn is_packed(&self, name: &str) -> bool {
        self.source
            .tensor(name)
            .is_some_and(|(file, _)| file.packed.contains_key(name))
    }

    /// The bytes of a packed tensor, copied to where they stay.
    fn packed_bytes(
        &mut self,
        name: &str,
        kind: PackedKind,
        rows: usize,
        columns: usize,
    ) -> Result<ArenaSlice, WeightsError> {
        let (file, tensor) = self.source.tensor(name).expect("it was found packed");
        self.used.insert(name.to_owned());
        let mut slice = self.take(tensor.bytes.len())?;
        match &mut self.mode {
            Mode::Measure { list, .. } => list.push((
                name.to_owned(),
                PackedTensor {
                    kind,
                    rows,
                    columns,
                },
            )),
            Mode::Fill(_) => {
                slice
                    .bytes_mut()
                    .copy_from_slice(&file.bytes[tensor.bytes.clone()]);
                file.bytes.release(tensor.bytes.clone());
            }
            Mode::Convert { deliver, .. } => deliver(name, &file.bytes[tensor.bytes.clone()])?,
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
        let slice = self.packed_bytes(name, kind, rows, columns)?;
        let matrix = Matrix::from_packed(slice.into_shared(), rows, columns, precision)
            .map_err(|source| self.value_error(name, source))?;
        if let Mode::Fill(_) = self.mode {
            let checked = matrix.check_finite();
            checked.map_err(|source| self.value_error(name, source))?;
        }
        Ok(matrix)
    }

    pub(super) fn packed_vector(&mut self, name: &str, len: usize) -> Result<Vector, WeightsError> {
        let kind = self.packed(name, 1, len)?;
        let slice = self.packed_bytes(name, kind, 1, len)?;
        if slice.len() != Vector::bytes_for(len) {
            let (expected, found) = (Vector::bytes_for(len), slice.len());
            let source = MatrixError::WrongSize {
                rows: 1,
                columns: len,
                precision: Precision::F32,
                expected,
                found,
            };
            return Err(self.value_error(name, source));
        }
        let vector = Vector::from_packed(slice.into_shared());
        if let Mode::Fill(_) = self.mode {
            let checked = vector.check_finite();
            checked.map_err(|source| self.value_error(name, source))?;
        }
        Ok(vector)
    }
}
