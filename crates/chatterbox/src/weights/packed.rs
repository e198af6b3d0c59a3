//! Tensors of converted files, stored in the kernels' layout.

use super::WeightsError;
use super::convert::{PackedKind, PackedTensor};
use super::file::WeightFile;
use super::loader::Loader;
use super::place::Mode;
use sottovoce_formats::safetensors::checksum;
use sottovoce_memory::{ArenaSlice, SharedBlock};
use sottovoce_tensor::{Matrix, MatrixError, Precision, Vector};
use std::ops::Range;

/// A packed tensor of a file.
struct Packed<'a> {
    file: &'a WeightFile,
    bytes: Range<usize>,
    checksum: Option<u32>,
    tensor: PackedTensor,
}

impl Packed<'_> {
    fn stored_bytes(&self) -> &[u8] {
        &self.file.bytes[self.bytes.clone()]
    }

    /// Checks the tensor's bytes against the checksum written by the conversion.
    fn check(&self, name: &str, bytes: &[u8]) -> Result<(), WeightsError> {
        let found = checksum(bytes);
        match self.checksum {
            Some(written) if written == found => Ok(()),
            written => Err(WeightsError::Damaged {
                file: self.file.name.clone(),
                tensor: name.to_owned(),
                found,
                written: written.unwrap_or_default(),
            }),
        }
    }

    /// Lets the system drop the file's pages, which were copied.
    fn release(self) {
        self.file.bytes.release(self.bytes);
    }
}

impl<'a> Loader<'a> {
    pub(super) fn is_packed(&self, name: &str) -> bool {
        self.source
            .tensor(name)
            .is_some_and(|(file, _)| file.packed.contains_key(name))
    }

    /// Checks the shape of a packed tensor.
    fn packed(&self, name: &str, rows: usize, columns: usize) -> Result<Packed<'a>, WeightsError> {
        let stored = self.source.tensor(name);
        let Some((file, tensor, packed)) =
            stored.and_then(|(file, tensor)| Some((file, tensor, file.packed.get(name)?)))
        else {
            // The name belongs to a packed tensor of another kind, such as a bias.
            return Err(WeightsError::MissingTensor {
                source_name: self.source.file_of(self.component).into(),
                component: self.component,
                tensor: name.into(),
                shape: vec![rows, columns],
            });
        };
        if (packed.rows, packed.columns) != (rows, columns) {
            return Err(WeightsError::Shape {
                file: file.name.clone(),
                tensor: name.into(),
                found: vec![packed.rows, packed.columns],
                expected: vec![rows, columns],
            });
        }
        Ok(Packed {
            file,
            bytes: tensor.bytes.clone(),
            checksum: tensor.checksum,
            tensor: *packed,
        })
    }

    /// Space for a packed tensor, as long as its bytes in the file.
    fn take_packed(&mut self, name: &str, packed: &Packed<'a>) -> Result<ArenaSlice, WeightsError> {
        self.used.insert(name.to_owned());
        let slice = self.take(packed.bytes.len())?;
        if !matches!(self.mode, Mode::Measure { .. }) {
            packed.check(name, packed.stored_bytes())?;
        }
        match &mut self.mode {
            Mode::Measure { list, .. } => list.push((name.to_owned(), packed.tensor)),
            Mode::Fill(_) | Mode::Share(_) => {}
            Mode::Convert { deliver, .. } => deliver(name, packed.stored_bytes())?,
        }
        Ok(slice)
    }

    /// A packed tensor at its mapped address, if this network's tensors are mapped. Its values were
    /// checked at conversion, and the checksum shows that they have not changed since.
    fn in_place(
        &mut self,
        name: &str,
        packed: &Packed<'a>,
    ) -> Result<Option<SharedBlock>, WeightsError> {
        let Mode::Share(mapped) = &self.mode else {
            return Ok(None);
        };
        let data = mapped.tensor(&packed.bytes);
        if let Some(data) = &data {
            packed.check(name, data.bytes())?;
            self.used.insert(name.to_owned());
        }
        Ok(data)
    }

    pub(super) fn packed_matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, WeightsError> {
        let packed = self.packed(name, rows, columns)?;
        let PackedKind::Matrix(precision) = packed.tensor.kind else {
            return Err(self.value_error(name, MatrixError::UnknownPrecision("vector".into())));
        };
        if let Some(data) = self.in_place(name, &packed)? {
            return Matrix::from_packed(data, rows, columns, precision)
                .map(|matrix| self.placed(matrix))
                .map_err(|source| self.value_error(name, source));
        }
        let slice = self.take_packed(name, &packed)?;
        match self.mode {
            Mode::Fill(_) | Mode::Share(_) => {
                let stored = packed.stored_bytes();
                let matrix = Matrix::copy_packed(slice, rows, columns, precision, stored);
                packed.release();
                matrix
            }
            Mode::Measure { .. } | Mode::Convert { .. } => {
                Matrix::from_packed(slice.into_shared(), rows, columns, precision)
            }
        }
        .map(|matrix| self.placed(matrix))
        .map_err(|source| self.value_error(name, source))
    }

    /// As [`Loader::packed_matrix`]; of a file with all `stored` rows, the first `rows`.
    pub(super) fn first_packed_rows(
        &mut self,
        name: &str,
        [stored, columns]: [usize; 2],
        rows: usize,
    ) -> Result<Matrix, WeightsError> {
        let packed = match self.packed(name, stored, columns) {
            Ok(packed) if stored > rows => packed,
            _ => return self.packed_matrix(name, rows, columns),
        };
        let PackedKind::Matrix(precision) = packed.tensor.kind else {
            return Err(self.value_error(name, MatrixError::UnknownPrecision("vector".into())));
        };
        if !matches!(self.mode, Mode::Measure { .. }) {
            packed.check(name, packed.stored_bytes())?;
        }
        self.used.insert(name.to_owned());
        let requested = self.precision();
        self.set_precision(precision);
        let matrix = self.build_matrix(name, rows, columns, |row, values| {
            let bytes = packed.stored_bytes();
            Matrix::read_packed_row(bytes, stored, precision, row, values);
        });
        self.set_precision(requested);
        packed.release();
        matrix
    }

    pub(super) fn packed_vector(&mut self, name: &str, len: usize) -> Result<Vector, WeightsError> {
        let packed = self.packed(name, 1, len)?;
        let whole = |data: SharedBlock| match data.len() {
            found if found == Vector::bytes_for(len) => Ok(Vector::from_packed(data)),
            found => Err(MatrixError::WrongSize {
                rows: 1,
                columns: len,
                precision: Precision::F32,
                expected: Vector::bytes_for(len),
                found,
            }),
        };
        if let Some(data) = self.in_place(name, &packed)? {
            return whole(data).map_err(|source| self.value_error(name, source));
        }
        let slice = self.take_packed(name, &packed)?;
        let vector = match self.mode {
            Mode::Fill(_) | Mode::Share(_) => {
                let vector = Vector::copy_packed(slice, len, packed.stored_bytes());
                packed.release();
                vector
            }
            Mode::Measure { .. } | Mode::Convert { .. } => whole(slice.into_shared()),
        };
        vector.map_err(|source| self.value_error(name, source))
    }
}
