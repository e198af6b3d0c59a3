//! Loading of tensors by their checkpoint names: checked, and converted while they are copied into
//! one arena.

use super::convert::PackedTensor;
use super::file::{StoredTensor, WeightFile};
use super::mapped::MappedTensors;
use super::place::{Deliver, Mode};
use super::synthetic::Synthetic;
use super::{Component, WeightSource, WeightsError};
use sottovoce_memory::{Arena, Memory, Owner, Region};
use sottovoce_tensor::{Matrix, Precision, Vector};
use std::collections::BTreeSet;

/// A loaded network, and statistics of its loading.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The network.
    pub network: T,
    /// Size of its arena in bytes.
    pub bytes: usize,
    /// Tensors of the network in the files that are not used.
    pub surplus: Vec<String>,
}

/// Provides tensors to a network's loading function.
pub struct Loader<'a> {
    pub(super) source: &'a WeightSource,
    pub(super) component: Component,
    pub(super) precision: Precision,
    pub(super) mode: Mode<'a>,
    /// Stored tensors that were requested.
    pub(super) used: BTreeSet<String>,
}

/// Bytes of a component's weights at a precision, and the unused tensors. Only names and shapes are
/// read.
///
/// # Errors
/// As [`load`], except for values and memory.
pub fn measure<'a, T>(
    source: &'a WeightSource,
    component: Component,
    precision: Precision,
    load: impl FnOnce(&mut Loader<'a>) -> Result<T, WeightsError>,
) -> Result<(usize, Vec<String>), WeightsError> {
    let mut loader = Loader::measuring(source, component, precision);
    load(&mut loader)?;
    Ok((loader.measured(), loader.surplus()))
}

/// A network without bytes, for dry runs, and the size in bytes that it will take.
///
/// # Errors
/// As [`measure`].
pub fn dry<'a, T>(
    source: &'a WeightSource,
    component: Component,
    precision: Precision,
    load: impl FnOnce(&mut Loader<'a>) -> Result<T, WeightsError>,
) -> Result<(T, usize), WeightsError> {
    let mut loader = Loader::measuring(source, component, precision);
    let network = load(&mut loader)?;
    Ok((network, loader.measured()))
}

/// Loads a component: measured first, then copied into one arena of that size, or mapped
/// ([`WeightSource::converted`]).
///
/// # Errors
/// [`WeightsError`] names the tensor that is missing, has another shape or is not finite, or the
/// memory that is lacking.
pub fn load<T>(
    source: &WeightSource,
    component: Component,
    precision: Precision,
    memory: &Memory,
    mut load: impl FnMut(&mut Loader<'_>) -> Result<T, WeightsError>,
) -> Result<Loaded<T>, WeightsError> {
    let mut loader = Loader::measuring(source, component, precision);
    load(&mut loader)?;
    let (bytes, surplus) = (loader.measured(), loader.surplus());
    let owner = Owner::new(Region::Weights, component.tag());
    let names = loader.list().iter().map(|(name, _)| &name[..]);
    let mode = match MappedTensors::of(source, names, bytes, memory, owner) {
        Some(mapped) => Mode::Share(mapped),
        None => {
            let block = memory
                .reserve_exact(bytes, owner)
                .map_err(|source| WeightsError::Memory { component, source })?;
            Mode::Fill(Arena::new(block))
        }
    };
    let mut loader = Loader {
        source,
        component,
        precision,
        mode,
        used: BTreeSet::new(),
    };
    let loaded = load(&mut loader);
    let finished =
        (memory.finish_staging()).map_err(|source| WeightsError::Device { component, source });
    // A read enters the pages around it as well, those of tensors that were released among them.
    source.release_pages();
    let network = loaded?;
    finished?;
    Ok(Loaded {
        network,
        bytes,
        surplus,
    })
}

/// Elements of a stored or a synthetic tensor.
pub(super) enum Elements<'a> {
    Stored(&'a WeightFile, &'a StoredTensor),
    Synthetic(Synthetic),
}

impl Elements<'_> {
    pub(super) fn read(&self, first: usize, target: &mut [f32]) {
        match self {
            Elements::Stored(file, tensor) => {
                let size = tensor.dtype.size();
                let start = tensor.bytes.start + first * size;
                tensor
                    .dtype
                    .read_f32(&file.bytes[start..start + target.len() * size], target);
            }
            Elements::Synthetic(synthetic) => {
                for (place, value) in target.iter_mut().enumerate() {
                    *value = synthetic.at(first + place);
                }
            }
        }
    }

    pub(super) fn at(&self, index: usize) -> f32 {
        let mut value = [0.0];
        self.read(index, &mut value);
        value[0]
    }
}

impl Drop for Elements<'_> {
    fn drop(&mut self) {
        if let Elements::Stored(file, tensor) = self {
            file.bytes.release(tensor.bytes.clone());
        }
    }
}

impl<'a> Loader<'a> {
    pub(super) fn measuring(
        source: &'a WeightSource,
        component: Component,
        precision: Precision,
    ) -> Loader<'a> {
        let mode = Mode::Measure {
            memory: Memory::untouched(),
            arena: None,
            bytes: 0,
            list: Vec::new(),
        };
        Loader {
            source,
            component,
            precision,
            mode,
            used: BTreeSet::new(),
        }
    }

    pub(super) fn converting(
        source: &'a WeightSource,
        component: Component,
        precision: Precision,
        deliver: &'a mut Deliver<'a>,
    ) -> Loader<'a> {
        let mode = Mode::Convert {
            memory: Memory::untouched(),
            arena: None,
            deliver,
        };
        Loader {
            source,
            component,
            precision,
            mode,
            used: BTreeSet::new(),
        }
    }

    pub(super) fn measured(&self) -> usize {
        match &self.mode {
            Mode::Measure { bytes, .. } => *bytes,
            Mode::Fill(_) | Mode::Share(_) | Mode::Convert { .. } => 0,
        }
    }

    pub(super) fn list(&self) -> &[(String, PackedTensor)] {
        match &self.mode {
            Mode::Measure { list, .. } => list,
            Mode::Fill(_) | Mode::Share(_) | Mode::Convert { .. } => &[],
        }
    }

    /// Tensors of the component that were not requested.
    pub(super) fn surplus(&self) -> Vec<String> {
        (self.source.tensor_names())
            .filter(|name| {
                self.component.owns(name)
                    && !self.used.contains(*name)
                    && !Component::is_never_used(name)
            })
            .map(str::to_owned)
            .collect()
    }

    /// The requested precision; a network keeps sensitive weights at a higher one.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Changes the precision of the following matrices.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Whether the source has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.source.has(name)
    }

    /// A bias, a norm's scale, or any other vector that stays at 32 bits.
    ///
    /// # Errors
    /// [`WeightsError`] names the tensor if it is missing, has another shape or type, is damaged,
    /// or has a value that is not finite; or the network if its arena has no room for the tensor.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vector, WeightsError> {
        if self.is_packed(name) {
            return self.packed_vector(name, len);
        }
        let elements = self.find(name, &[len])?;
        self.build_vector(name, len, |values| elements.read(0, values))
    }

    /// A tensor of any shape as one row-major vector.
    ///
    /// # Errors
    /// As [`Loader::vector`].
    pub fn flat(&mut self, name: &str, shape: &[usize]) -> Result<Vector, WeightsError> {
        let len = shape.iter().product();
        if self.is_packed(name) {
            return self.packed_vector(name, len);
        }
        let elements = self.find(name, shape)?;
        self.build_vector(name, len, |values| elements.read(0, values))
    }

    /// A matrix or table stored as `[outputs, inputs]`.
    ///
    /// # Errors
    /// As [`Loader::vector`], and if a value is outside the range of the precision.
    pub fn matrix(
        &mut self,
        name: &str,
        [outputs, inputs]: [usize; 2],
    ) -> Result<Matrix, WeightsError> {
        if self.is_packed(name) {
            return self.packed_matrix(name, outputs, inputs);
        }
        let elements = self.find(name, &[outputs, inputs])?;
        self.build_matrix(name, outputs, inputs, |row, values| {
            elements.read(row * inputs, values)
        })
    }

    /// The first `rows` rows of a table stored as `[stored, columns]`; a converted file may have
    /// them alone.
    ///
    /// # Errors
    /// As [`Loader::matrix`].
    pub fn first_rows(
        &mut self,
        name: &str,
        [stored, columns]: [usize; 2],
        rows: usize,
    ) -> Result<Matrix, WeightsError> {
        if self.is_packed(name) {
            return self.first_packed_rows(name, [stored, columns], rows);
        }
        let elements = self.find(name, &[stored, columns])?;
        self.build_matrix(name, rows, columns, |row, values| {
            elements.read(row * columns, values)
        })
    }

    /// A matrix `[outputs, inputs]` stored as `[inputs, outputs]`, as in GPT-2.
    ///
    /// # Errors
    /// As [`Loader::matrix`].
    pub fn matrix_transposed(
        &mut self,
        name: &str,
        [outputs, inputs]: [usize; 2],
    ) -> Result<Matrix, WeightsError> {
        if self.is_packed(name) {
            return self.packed_matrix(name, outputs, inputs);
        }
        let elements = self.find(name, &[inputs, outputs])?;
        self.build_matrix(name, outputs, inputs, |row, values| {
            for (input, value) in values.iter_mut().enumerate() {
                *value = elements.at(input * outputs + row);
            }
        })
    }

    /// Several matrices of one input, stacked, such as query, key and value; `label` is the stack's
    /// name in converted files.
    ///
    /// # Errors
    /// As [`Loader::matrix`], of each of `names` or, in a converted file, of the stack.
    pub fn matrix_joined(
        &mut self,
        label: &str,
        names: &[String],
        [outputs, inputs]: [usize; 2],
    ) -> Result<Matrix, WeightsError> {
        if self.is_packed(label) {
            return self.packed_matrix(label, outputs * names.len(), inputs);
        }
        let parts = names
            .iter()
            .map(|name| self.find(name, &[outputs, inputs]))
            .collect::<Result<Vec<_>, _>>()?;
        self.build_matrix(label, outputs * names.len(), inputs, |row, values| {
            parts[row / outputs].read(row % outputs * inputs, values);
        })
    }

    pub(super) fn find(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Elements<'a>, WeightsError> {
        if let Some(seed) = self.source.seed() {
            let inputs = shape.iter().skip(1).product();
            return Ok(Elements::Synthetic(Synthetic::new(
                seed,
                name,
                shape.len(),
                inputs,
            )));
        }
        let Some((file, tensor)) = self.source.tensor(name) else {
            return Err(WeightsError::MissingTensor {
                source_name: self.source.file_of(self.component).into(),
                component: self.component,
                tensor: name.into(),
                shape: shape.to_vec(),
            });
        };
        if tensor.shape != shape {
            return Err(WeightsError::Shape {
                file: file.name.clone(),
                tensor: name.into(),
                found: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        if !tensor.dtype.is_float() {
            return Err(WeightsError::NotFloat {
                file: file.name.clone(),
                tensor: name.into(),
                dtype: tensor.dtype.to_string(),
            });
        }
        self.used.insert(name.to_owned());
        Ok(Elements::Stored(file, tensor))
    }
}
