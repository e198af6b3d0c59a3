//! PyTorch's `.pt` files: a ZIP archive of a pickle and the raw bytes of each storage.
//!
//! The pickle is read as data; nothing that it names is called. It may name only the functions that
//! rebuild tensors and ordered dictionaries; any other name is refused. Storages are ranges of the
//! file and are not copied.

mod zip;

use crate::dtype::{Dtype, element_count};
use crate::pickle::{self, Globals, PickleError, PickleLimits, ValueRef};
use std::collections::BTreeMap;
use std::ops::Range;

/// Limit of the pickle's length in bytes; that of a checkpoint is well under one MiB.
const PICKLE_BYTES_MAX: usize = 64 << 20;
const PICKLE_MEMORY_MAX: u64 = 512 << 20;
/// Limit of nested dictionaries.
const DEPTH_MAX: usize = 8;
const RANK_MAX: usize = 8;
/// Limit of visited values: shared containers can make a small pickle unfold exponentially.
const VISITS_MAX: usize = 1 << 20;

/// Why a file is not a usable torch archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchArchiveError {
    /// Not a ZIP archive of stored entries.
    #[error("not a usable torch archive: {reason}")]
    Zip {
        /// The problem.
        reason: String,
    },
    /// A damaged pickle.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// A pickle with calls of other functions.
    #[error("the file calls {name}; nothing was run. Files with code are refused")]
    Code {
        /// The function's name.
        name: String,
    },
    /// Not the structure of a checkpoint.
    #[error("{place}: {reason}")]
    Structure {
        /// The tensor, or the part of the file.
        place: String,
        /// The problem.
        reason: String,
    },
}

impl TorchArchiveError {
    /// The same error, about a tensor.
    pub fn within(self, tensor: &str) -> TorchArchiveError {
        match self {
            TorchArchiveError::Structure { reason, .. } => TorchArchiveError::Structure {
                place: tensor.into(),
                reason,
            },
            other => other,
        }
    }
}

/// Type, shape and location of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchTensor {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Strides in elements, for each dimension.
    pub strides: Vec<usize>,
    /// Byte range from the first element to the end of the storage.
    pub bytes: Range<usize>,
}

impl TorchTensor {
    /// The byte range of a row-major tensor without gaps.
    ///
    /// # Errors
    /// If the tensor has another layout.
    pub fn contiguous_bytes(&self) -> Result<Range<usize>, TorchArchiveError> {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                let reason = format!(
                    "its strides {:?} are not those of a row-major {:?}",
                    self.strides, self.shape
                );
                return Err(TorchArchiveError::Structure {
                    place: "a tensor".into(),
                    reason,
                });
            }
            expected *= size;
        }
        let bytes = self.element_count() * self.dtype.size();
        Ok(self.bytes.start..self.bytes.start + bytes)
    }

    fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of all elements in row-major order, for any strides. Used for small tensors.
    fn gather(&self, file: &[u8]) -> Vec<u8> {
        let size = self.dtype.size();
        let mut gathered = Vec::new();
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..self.element_count() {
            let offset: usize = index
                .iter()
                .zip(&self.strides)
                .map(|(place, stride)| place * stride)
                .sum();
            let start = self.bytes.start + offset * size;
            gathered.extend_from_slice(&file[start..start + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        gathered
    }

    /// The elements as f32, in row-major order.
    ///
    /// # Errors
    /// If they are not floating-point numbers.
    pub fn to_f32(&self, file: &[u8]) -> Result<Vec<f32>, TorchArchiveError> {
        if !self.dtype.is_float() {
            let reason = format!("holds {}, not floating-point numbers", self.dtype);
            return Err(TorchArchiveError::Structure {
                place: "a tensor".into(),
                reason,
            });
        }
        let mut values = vec![0.0; self.element_count()];
        self.dtype.read_f32(&self.gather(file), &mut values);
        Ok(values)
    }

    /// The elements as i64, in row-major order.
    ///
    /// # Errors
    /// If they are not integers.
    pub fn to_i64(&self, file: &[u8]) -> Result<Vec<i64>, TorchArchiveError> {
        self.dtype
            .read_i64(&self.gather(file))
            .ok_or_else(|| TorchArchiveError::Structure {
                place: "a tensor".into(),
                reason: format!("holds {}, not integers", self.dtype),
            })
    }
}

/// All tensors in a file's nested dictionaries and lists, by path.
#[derive(Debug, Clone)]
pub struct TorchArchive {
    tensors: BTreeMap<String, TorchTensor>,
}

impl TorchArchive {
    /// Parses the pickle of a file and locates its tensors. A tensor's path is the list of keys
    /// that lead to it, joined by full stops.
    ///
    /// # Errors
    /// [`TorchArchiveError`] names the entry, the tensor or the code at fault.
    pub fn read(file: &[u8]) -> Result<TorchArchive, TorchArchiveError> {
        let entries = zip::entries(file)?;
        let (root, pickle) = (entries.iter())
            .find_map(|(name, range)| Some((name.strip_suffix("data.pkl")?, range.clone())))
            .ok_or_else(|| TorchArchiveError::Zip {
                reason: "it has no data.pkl".into(),
            })?;
        if let Some(order) = entries.get(&format!("{root}byteorder"))
            && &file[order.clone()] != b"little"
        {
            return Err(TorchArchiveError::Zip {
                reason: "its bytes are not in little-endian order".into(),
            });
        }
        if pickle.len() > PICKLE_BYTES_MAX {
            let reason = format!(
                "its pickle of {} bytes is longer than {PICKLE_BYTES_MAX}",
                pickle.len()
            );
            return Err(TorchArchiveError::Zip { reason });
        }
        let limits = PickleLimits {
            memory_bytes: PICKLE_MEMORY_MAX,
            globals: Globals::Inert,
        };
        let document = pickle::read(&file[pickle], &limits)?;
        let mut reader = Reader {
            root,
            entries: &entries,
            tensors: BTreeMap::new(),
            visits: 0,
        };
        reader.walk(document.root(), String::new(), 0)?;
        Ok(TorchArchive {
            tensors: reader.tensors,
        })
    }

    /// All tensors by path.
    pub fn tensors(&self) -> &BTreeMap<String, TorchTensor> {
        &self.tensors
    }

    /// The tensors of a checkpoint, possibly under the key `model` or in a list of one.
    ///
    /// # Errors
    /// If there is no tensor.
    pub fn state_dict(self) -> Result<BTreeMap<String, TorchTensor>, TorchArchiveError> {
        if self.tensors.is_empty() {
            return Err(TorchArchiveError::Structure {
                place: "the file".into(),
                reason: "it holds no tensor".into(),
            });
        }
        for prefix in ["model.0.", "model."] {
            if self.tensors.keys().all(|name| name.starts_with(prefix)) {
                return Ok(self
                    .tensors
                    .into_iter()
                    .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
                    .collect());
            }
        }
        Ok(self.tensors)
    }
}

struct Reader<'a> {
    root: &'a str,
    entries: &'a BTreeMap<String, Range<usize>>,
    tensors: BTreeMap<String, TorchTensor>,
    visits: usize,
}

impl Reader<'_> {
    fn walk(
        &mut self,
        value: ValueRef<'_>,
        path: String,
        depth: usize,
    ) -> Result<(), TorchArchiveError> {
        if depth > DEPTH_MAX {
            return Err(structure(
                &path,
                format!("more than {DEPTH_MAX} containers within each other"),
            ));
        }
        self.visits += 1;
        if self.visits > VISITS_MAX {
            return Err(structure(&path, format!("more than {VISITS_MAX} values")));
        }
        let join = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        if let Some(call) = value.call() {
            let name = value.at(call.callable).global();
            return match name {
                Some(("collections", "OrderedDict")) => self.walk_entries(value, &join, depth),
                Some(("torch._utils", "_rebuild_tensor_v2")) => {
                    let tensor = self.tensor(value.at(call.arguments), &path)?;
                    self.insert(path, tensor)
                }
                Some(("torch._utils", "_rebuild_parameter")) => {
                    let inner = value
                        .at(call.arguments)
                        .items()
                        .and_then(|mut items| items.next());
                    let inner =
                        inner.ok_or_else(|| structure(&path, "a parameter without data"))?;
                    self.walk(inner, path, depth + 1)
                }
                Some((module, name)) => Err(TorchArchiveError::Code {
                    name: format!("{module}.{name}"),
                }),
                None => Err(TorchArchiveError::Code {
                    name: "an object".into(),
                }),
            };
        }
        if let Some((module, name)) = value.global() {
            return Err(TorchArchiveError::Code {
                name: format!("{module}.{name}"),
            });
        }
        if value.entries().is_some() {
            return self.walk_entries(value, &join, depth);
        }
        if let Some(items) = value.items() {
            for (index, item) in items.enumerate() {
                self.walk(item, join(&index.to_string()), depth + 1)?;
            }
        }
        Ok(())
    }

    fn walk_entries(
        &mut self,
        value: ValueRef<'_>,
        join: &dyn Fn(&str) -> String,
        depth: usize,
    ) -> Result<(), TorchArchiveError> {
        for (key, entry) in value.entries().into_iter().flatten() {
            let Some(key) = key.text() else {
                return Err(structure(
                    &join(""),
                    format!("a key is {}, not a string", key.kind()),
                ));
            };
            self.walk(entry, join(key), depth + 1)?;
        }
        Ok(())
    }

    fn insert(&mut self, path: String, tensor: TorchTensor) -> Result<(), TorchArchiveError> {
        match self.tensors.insert(path.clone(), tensor) {
            None => Ok(()),
            Some(_) => Err(structure(&path, "it occurs twice")),
        }
    }

    /// Arguments of `_rebuild_tensor_v2`: storage, offset, sizes, strides, and training flags.
    fn tensor(
        &self,
        arguments: ValueRef<'_>,
        path: &str,
    ) -> Result<TorchTensor, TorchArchiveError> {
        let malformed = || structure(path, "its description as a tensor is malformed");
        let mut arguments = arguments.items().ok_or_else(malformed)?;
        let mut next = || arguments.next().ok_or_else(malformed);
        let (storage, offset, shape, strides) = (next()?, next()?, next()?, next()?);
        let (dtype, storage) = self.storage(storage, path)?;
        let sizes = |view: ValueRef<'_>| -> Option<Vec<usize>> {
            view.items()?
                .map(|item| item.unsigned().and_then(|size| usize::try_from(size).ok()))
                .collect()
        };
        let offset = offset
            .unsigned()
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or_else(malformed)?;
        let (shape, strides) = (
            sizes(shape).ok_or_else(malformed)?,
            sizes(strides).ok_or_else(malformed)?,
        );
        if shape.len() != strides.len() || shape.len() > RANK_MAX {
            return Err(malformed());
        }
        let outside = || {
            structure(
                path,
                format!(
                    "its {shape:?} elements reach past its storage of {} bytes",
                    storage.len()
                ),
            )
        };
        let count = element_count(&shape).ok_or_else(outside)?;
        let last = (shape.iter().zip(&strides))
            .try_fold(offset, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            })
            .ok_or_else(outside)?;
        let available = storage.len() / dtype.size();
        // A stride of 0 repeats elements, so both the count, which readers allocate, and the last
        // offset are bounded.
        if count > available || offset > available || (count > 0 && last >= available) {
            return Err(outside());
        }
        Ok(TorchTensor {
            dtype,
            bytes: storage.start + offset * dtype.size()..storage.end,
            shape,
            strides,
        })
    }

    /// Type and byte range of a storage from its persistent id ('storage', type, key, device,
    /// elements). The device is ignored.
    fn storage(
        &self,
        reference: ValueRef<'_>,
        path: &str,
    ) -> Result<(Dtype, Range<usize>), TorchArchiveError> {
        let malformed = || structure(path, "the description of its storage is malformed");
        let mut parts = reference
            .persistent_id()
            .and_then(|id| id.items())
            .ok_or_else(malformed)?;
        let mut next = || parts.next().ok_or_else(malformed);
        let (kind, storage_type, key) = (next()?, next()?, next()?);
        if kind.text() != Some("storage") {
            return Err(malformed());
        }
        let (module, name) = storage_type.global().ok_or_else(malformed)?;
        let dtype = match (module, name) {
            ("torch", "DoubleStorage") => Dtype::F64,
            ("torch", "FloatStorage") => Dtype::F32,
            ("torch", "HalfStorage") => Dtype::F16,
            ("torch", "BFloat16Storage") => Dtype::BF16,
            ("torch", "LongStorage") => Dtype::I64,
            ("torch", "IntStorage") => Dtype::I32,
            ("torch", "ShortStorage") => Dtype::I16,
            ("torch", "CharStorage") => Dtype::I8,
            ("torch", "ByteStorage") => Dtype::U8,
            ("torch", "BoolStorage") => Dtype::Bool,
            _ => {
                return Err(structure(
                    path,
                    format!("its type {module}.{name} is unknown"),
                ));
            }
        };
        let key = key.text().ok_or_else(malformed)?;
        let entry = format!("{}data/{key}", self.root);
        let range = self
            .entries
            .get(&entry)
            .cloned()
            .ok_or_else(|| structure(path, format!("its storage {entry} is missing")))?;
        Ok((dtype, range))
    }
}

fn structure(place: &str, reason: impl Into<String>) -> TorchArchiveError {
    let place = if place.is_empty() { "the file" } else { place };
    TorchArchiveError::Structure {
        place: place.into(),
        reason: reason.into(),
    }
}
