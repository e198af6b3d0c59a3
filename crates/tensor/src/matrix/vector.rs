//! Unpacked weights.

use super::{MatrixError, Precision};
use crate::view::{Place, View};
use sottovoce_memory::{ArenaSlice, Memory, OutOfMemory, Owner, SharedBlock};

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
