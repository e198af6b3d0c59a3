//! Conversion of a model to other precisions, packed for the kernels, in one file with its config.

use super::loader::Loader;
use super::place::ALIGNMENT;
use super::{Component, WeightSource, WeightsError};
use serde::{Deserialize, Serialize};
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::output::{BlockWriter, OutputFile};
use sottovoce_formats::safetensors::{CheckedWriter, Entry};
use sottovoce_tensor::{Matrix, Precision, Vector};
use std::collections::BTreeMap;
use std::path::Path;

/// Metadata key of a single file's config.
pub(super) const CONFIG_KEY: &str = "config.json";
/// Metadata key of the list of packed tensors.
pub(super) const PACKED_KEY: &str = "packed";
/// Metadata key of the version of the packed tensors' layout.
pub(super) const LAYOUT_KEY: &str = "layout";
/// Version of the layout in which the matrix kernels read packed tensors. Any change to the layout
/// must increase it: files of another layout have the same sizes and would produce noise.
pub const LAYOUT_VERSION: u32 = 1;

/// Beginning of the names of tensors without a meaning, which align the ones after them.
pub(super) const PADDING: &str = "padding.";
/// Alignment of a network's first tensor in the file: a multiple of every page size, so that the
/// network can be mapped by itself.
const NETWORK_ALIGNMENT: usize = 64 << 10;

/// Kind of a packed tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackedKind {
    /// f32 values.
    Vector,
    /// A matrix in the kernels' layout.
    Matrix(Precision),
}

/// One entry of the list of packed tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedTensor {
    /// Vector or matrix.
    pub kind: PackedKind,
    /// Number of outputs; 1 for a vector.
    pub rows: usize,
    /// Number of inputs; the length of a vector.
    pub columns: usize,
}

impl PackedTensor {
    fn bytes(&self) -> usize {
        match self.kind {
            PackedKind::Vector => Vector::bytes_for(self.columns),
            PackedKind::Matrix(precision) => Matrix::bytes_for(self.rows, self.columns, precision),
        }
    }
}

/// Result of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of weights.
    pub bytes: u64,
}

/// Loads a component; its result is dropped.
pub type ComponentLoader<'f> = dyn Fn(Component, &mut Loader<'_>) -> Result<(), WeightsError> + 'f;

/// Writes a file with every tensor of the components, packed at their precisions. Its metadata
/// holds the config and `texts`; with the tokenizer among them the file is a complete model.
/// Tensors are aligned as in memory, with padding between them where it is needed. One tensor is in
/// memory at a time.
///
/// # Errors
/// As for loading, and the operating system's error about the file.
pub fn convert(
    source: &WeightSource,
    path: &Path,
    components: &[(Component, Precision)],
    load: &ComponentLoader<'_>,
    texts: &[(&str, &str)],
) -> Result<Converted, WeightsError> {
    let mut packed: BTreeMap<String, PackedTensor> = BTreeMap::new();
    let mut entries = Vec::new();
    // Padding by the tensor that it precedes.
    let mut padding: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut end = 0_usize;
    for &(component, precision) in components {
        let mut loader = Loader::measuring(source, component, precision);
        load(component, &mut loader)?;
        let mut alignment = NETWORK_ALIGNMENT;
        for (name, tensor) in loader.list() {
            let start = end.next_multiple_of(alignment);
            if start > end {
                let filler = format!("{PADDING}{}", padding.len());
                entries.push(Entry::new(&filler, Dtype::U8, &[start - end]));
                padding.insert(name.clone(), (filler, start - end));
            }
            entries.push(Entry::new(name, Dtype::U8, &[tensor.bytes()]));
            packed.insert(name.clone(), *tensor);
            end = start + tensor.bytes();
            alignment = ALIGNMENT;
        }
    }
    let refuse = |source| WeightsError::File {
        path: path.to_owned(),
        source,
    };
    let layout = LAYOUT_VERSION.to_string();
    let list = serde_json::to_string(&packed).map_err(|error| refuse(error.into()))?;
    let config = source.config().to_json();
    let mut metadata = vec![
        (CONFIG_KEY, config.as_str()),
        (PACKED_KEY, list.as_str()),
        (LAYOUT_KEY, layout.as_str()),
    ];
    metadata.extend_from_slice(texts);

    // The networks are loaded a second time in the same order, and deliver tensor after tensor.
    let output = OutputFile::create(path).map_err(&refuse)?;
    let blocks = BlockWriter::new(output);
    let mut writer =
        CheckedWriter::begin(blocks, &entries, &metadata, NETWORK_ALIGNMENT).map_err(&refuse)?;
    for &(component, precision) in components {
        let mut deliver = |name: &str, bytes: &[u8]| {
            if let Some((filler, length)) = padding.get(name) {
                (writer.tensor(filler, &vec![0; *length])).map_err(&refuse)?;
            }
            writer.tensor(name, bytes).map_err(&refuse)
        };
        let mut loader = Loader::converting(source, component, precision, &mut deliver);
        load(component, &mut loader)?;
    }
    let output = writer.finish().map_err(&refuse)?;
    let output = output.into_inner().map_err(&refuse)?;
    output.commit().map_err(&refuse)?;
    Ok(Converted {
        tensors: packed.len(),
        bytes: packed.values().map(|tensor| tensor.bytes() as u64).sum(),
    })
}
