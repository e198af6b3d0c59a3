//! Destinations of loaded tensors: measured only, copied into an arena, left in their mapped file,
//! or delivered one at a time.

use super::convert::{PackedKind, PackedTensor};
use super::loader::Loader;
use super::mapped::MappedTensors;
use super::{Component, WeightsError};
use sottovoce_memory::{Arena, ArenaSlice, Memory, Owner, Region};
use sottovoce_tensor::{Matrix, MatrixError, Precision, Vector};

/// Alignment of tensors in the arena: a cache line, which is also the widest vector.
pub(super) const ALIGNMENT: usize = 64;
/// Address space reserved at a time while measuring; none of it is touched.
const MEASURING_CHUNK: usize = 64 << 20;

/// Receives the name and bytes of a converted tensor.
pub(super) type Deliver<'d> = dyn FnMut(&str, &[u8]) -> Result<(), WeightsError> + 'd;

/// What becomes of each tensor.
pub(super) enum Mode<'a> {
    /// Sizes are summed up; tensors get untouched address space.
    Measure {
        memory: Memory,
        arena: Option<Arena>,
        bytes: usize,
        list: Vec<(String, PackedTensor)>,
    },
    /// Tensors are copied.
    Fill(Arena),
    /// All tensors are packed, and are used at their mapped addresses.
    Share(MappedTensors),
    /// Tensors are converted and delivered one at a time, in the order in which they were measured.
    Convert {
        memory: Memory,
        arena: Option<Arena>,
        deliver: &'a mut Deliver<'a>,
    },
}

impl Loader<'_> {
    pub(super) fn value_error(&self, tensor: &str, source: MatrixError) -> WeightsError {
        if let MatrixError::Device(source) = source {
            let component = self.component;
            return WeightsError::Device { component, source };
        }
        let file = self.source.tensor(tensor).map_or_else(
            || self.source.name().to_owned(),
            |(file, _)| file.name.clone(),
        );
        WeightsError::Value {
            file,
            tensor: tensor.into(),
            source,
        }
    }

    /// The next part of the arena, or of address space while measuring.
    pub(super) fn take(&mut self, len: usize) -> Result<ArenaSlice, WeightsError> {
        let component = self.component;
        match &mut self.mode {
            Mode::Fill(arena) => {
                let expected = arena.remaining();
                arena.take(len, ALIGNMENT).ok_or(WeightsError::Recount {
                    component,
                    expected,
                })
            }
            // Mapped tensors take no space.
            Mode::Share(_) => Err(WeightsError::Recount {
                component,
                expected: 0,
            }),
            Mode::Measure {
                memory,
                arena,
                bytes,
                ..
            } => {
                *bytes = bytes.next_multiple_of(ALIGNMENT) + len;
                take_untouched(memory, arena, len, component)
            }
            Mode::Convert { memory, arena, .. } => take_untouched(memory, arena, len, component),
        }
    }

    pub(super) fn build_vector(
        &mut self,
        label: &str,
        len: usize,
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<Vector, WeightsError> {
        let slice = self.take(Vector::bytes_for(len))?;
        match &mut self.mode {
            Mode::Measure { list, .. } => {
                list.push((
                    label.to_owned(),
                    PackedTensor {
                        kind: PackedKind::Vector,
                        rows: 1,
                        columns: len,
                    },
                ));
                return Ok(Vector::from_packed(slice.into_shared()));
            }
            Mode::Convert { deliver, .. } => {
                let mut values = vec![0.0; len];
                fill(&mut values);
                if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                    let source = MatrixError::NotRepresentable {
                        value: values[column],
                        row: 0,
                        column,
                        precision: Precision::F32,
                    };
                    return Err(self.value_error(label, source));
                }
                let bytes: Vec<u8> = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                deliver(label, &bytes)?;
                return Ok(Vector::from_packed(slice.into_shared()));
            }
            Mode::Fill(_) | Mode::Share(_) => {}
        }
        let mut values = vec![0.0; len];
        fill(&mut values);
        Vector::from_f32(slice, &values).map_err(|source| self.value_error(label, source))
    }

    /// Marks the weights of a network that takes many rows at a time.
    pub(super) fn placed(&self, matrix: Matrix) -> Matrix {
        match self.component {
            Component::Flow => matrix.for_many_rows(),
            _ => matrix,
        }
    }

    pub(super) fn build_matrix(
        &mut self,
        label: &str,
        rows: usize,
        columns: usize,
        fill: impl FnMut(usize, &mut [f32]),
    ) -> Result<Matrix, WeightsError> {
        let precision = self.precision;
        let bytes = Matrix::bytes_for(rows, columns, precision);
        let slice = self.take(bytes)?;
        match &mut self.mode {
            Mode::Measure { list, .. } => {
                list.push((
                    label.to_owned(),
                    PackedTensor {
                        kind: PackedKind::Matrix(precision),
                        rows,
                        columns,
                    },
                ));
                Matrix::from_packed(slice.into_shared(), rows, columns, precision)
            }
            Mode::Fill(_) | Mode::Share(_) => {
                Matrix::from_rows(slice, rows, columns, precision, fill)
            }
            Mode::Convert {
                memory, deliver, ..
            } => {
                let component = self.component;
                let owner = Owner::new(Region::Staging, component.tag());
                let block = memory
                    .reserve_exact(bytes, owner)
                    .map_err(|source| WeightsError::Memory { component, source })?;
                let one =
                    Arena::new(block)
                        .take(bytes, ALIGNMENT)
                        .ok_or(WeightsError::Recount {
                            component,
                            expected: bytes,
                        })?;
                match Matrix::from_rows(one, rows, columns, precision, fill) {
                    Ok(matrix) => {
                        deliver(label, matrix.packed_bytes())?;
                        Matrix::from_packed(slice.into_shared(), rows, columns, precision)
                    }
                    Err(error) => Err(error),
                }
            }
        }
        .map(|matrix| self.placed(matrix))
        .map_err(|source| self.value_error(label, source))
    }
}

fn take_untouched(
    memory: &Memory,
    arena: &mut Option<Arena>,
    len: usize,
    component: Component,
) -> Result<ArenaSlice, WeightsError> {
    if let Some(slice) = arena.as_mut().and_then(|arena| arena.take(len, ALIGNMENT)) {
        return Ok(slice);
    }
    let chunk = len.next_multiple_of(ALIGNMENT).max(MEASURING_CHUNK);
    let owner = Owner::new(Region::Weights, component.tag());
    let block = memory
        .reserve_exact(chunk, owner)
        .map_err(|source| WeightsError::Memory { component, source })?;
    let mut fresh = Arena::new(block);
    let slice = fresh.take(len, ALIGNMENT).ok_or(WeightsError::Recount {
        component,
        expected: chunk,
    })?;
    *arena = Some(fresh);
    Ok(slice)
}
