//! A weight file: safetensors or torch archive, detected by content.

use super::WeightsError;
use super::convert::{LAYOUT_KEY, LAYOUT_VERSION, PACKED_KEY, PADDING, PackedTensor};
use super::mapped::Bytes;
use super::source::packed_list;
use sottovoce_formats::content::Content;
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{self, CHECKSUMS};
use sottovoce_formats::torch_archive::TorchArchive;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Location of a tensor's row-major elements.
#[derive(Debug, Clone)]
pub(super) struct StoredTensor {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Range<usize>,
    pub(super) checksum: Option<u32>,
}

#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) name: String,
    /// Where it lies, unless it is embedded.
    pub(super) path: Option<PathBuf>,
    pub(super) bytes: Bytes,
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) packed: BTreeMap<String, PackedTensor>,
    /// Whether packed tensors are used where they are mapped, in place of copies.
    pub(super) used_in_place: bool,
}

/// Refuses packed tensors that another version of the program wrote.
fn refuse_other_layouts(
    file: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let found = metadata.get(LAYOUT_KEY);
    let has_checksums = metadata.contains_key(CHECKSUMS);
    if found.is_some_and(|found| *found == LAYOUT_VERSION.to_string()) && has_checksums {
        return Ok(());
    }
    Err(WeightsError::Layout {
        file: file.to_owned(),
        found: found.cloned().unwrap_or_else(|| "none".into()),
        expected: LAYOUT_VERSION,
    })
}

impl WeightFile {
    pub(super) fn open(path: &Path) -> Result<WeightFile, WeightsError> {
        let bytes = Bytes::map(path).map_err(|source| WeightsError::File {
            path: path.to_owned(),
            source,
        })?;
        let file = WeightFile::read(path.display().to_string(), bytes)?;
        Ok(WeightFile {
            path: Some(path.to_owned()),
            ..file
        })
    }

    pub(super) fn read(name: String, bytes: Bytes) -> Result<WeightFile, WeightsError> {
        if Content::of(&bytes) == Content::Zip {
            return WeightFile::torch(name, bytes);
        }
        let header = safetensors::read_header(&bytes).map_err(|source| {
            // Checked last: a header's length may look like the beginning of a pickle.
            if Content::of(&bytes) == Content::Pickle {
                return WeightsError::BarePickle { file: name.clone() };
            }
            WeightsError::Safetensors {
                file: name.clone(),
                source,
            }
        })?;
        let packed = packed_list(&name, &header.metadata)?;
        let is_padding = |tensor: &str| !packed.is_empty() && tensor.starts_with(PADDING);
        let tensors = (header.tensors.into_iter())
            .filter(|(tensor, _)| !is_padding(tensor))
            .map(|(tensor, info)| {
                (
                    tensor,
                    StoredTensor {
                        dtype: info.dtype,
                        shape: info.shape,
                        bytes: info.bytes,
                        checksum: info.checksum,
                    },
                )
            })
            .collect();
        if header.metadata.contains_key(PACKED_KEY) {
            refuse_other_layouts(&name, &header.metadata)?;
        }
        Ok(WeightFile {
            name,
            path: None,
            bytes,
            tensors,
            metadata: header.metadata,
            packed,
            used_in_place: false,
        })
    }

    fn torch(name: String, bytes: Bytes) -> Result<WeightFile, WeightsError> {
        let refuse = |source| WeightsError::TorchArchive {
            file: name.clone(),
            source,
        };
        let archive = TorchArchive::read(&bytes).map_err(refuse)?;
        let mut tensors = BTreeMap::new();
        for (tensor, info) in archive.state_dict().map_err(refuse)? {
            let range = info
                .contiguous_bytes()
                .map_err(|source| WeightsError::TorchArchive {
                    file: name.clone(),
                    source: source.within(&tensor),
                })?;
            tensors.insert(
                tensor,
                StoredTensor {
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    bytes: range,
                    checksum: None,
                },
            );
        }
        Ok(WeightFile {
            name,
            path: None,
            bytes,
            tensors,
            metadata: BTreeMap::new(),
            packed: BTreeMap::new(),
            used_in_place: false,
        })
    }
}
