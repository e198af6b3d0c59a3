//! Contents of weight files, by network.

use super::convert::{PackedKind, PackedTensor};
use super::file::{StoredTensor, WeightFile};
use super::{Component, WeightSource, WeightsError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Statistics of stored tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoredSummary {
    /// Number of tensors.
    pub tensors: u64,
    /// Number of elements.
    pub parameters: u64,
    /// Bytes in the file.
    pub stored_bytes: u64,
    /// Bytes by element type; converted tensors by precision.
    pub types: BTreeMap<String, u64>,
}

impl StoredSummary {
    fn add(&mut self, stored: &StoredTensor, packed: Option<&PackedTensor>) {
        let bytes = stored.bytes.len() as u64;
        let (kind, elements) = match packed {
            Some(tensor) => {
                let kind = match tensor.kind {
                    PackedKind::Vector => "f32".to_owned(),
                    PackedKind::Matrix(precision) => precision.to_string(),
                };
                // A claimed size may overflow.
                (kind, tensor.rows.saturating_mul(tensor.columns))
            }
            None => (
                stored.dtype.to_string().to_lowercase(),
                stored.shape.iter().product(),
            ),
        };
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(elements as u64);
        self.stored_bytes += bytes;
        *self.types.entry(kind).or_default() += bytes;
    }
}

/// Statistics by network, in their order; `None` are tensors of no network.
pub type Summaries = Vec<(Option<Component>, StoredSummary)>;

fn summarise<'f>(files: impl Iterator<Item = &'f WeightFile>) -> Summaries {
    let order = |name: &str| {
        (Component::ALL.iter())
            .position(|component| component.owns(name))
            .unwrap_or(Component::ALL.len())
    };
    let mut summaries: BTreeMap<usize, StoredSummary> = BTreeMap::new();
    for file in files {
        for (name, stored) in &file.tensors {
            let summary = summaries.entry(order(name)).or_default();
            summary.add(stored, file.packed.get(name));
        }
    }
    (summaries.into_iter())
        .map(|(place, summary)| (Component::ALL.get(place).copied(), summary))
        .collect()
}

impl WeightSource {
    /// Contents of its files; empty for a synthetic source.
    pub fn summaries(&self) -> Summaries {
        summarise(self.files().iter())
    }
}

/// Contents of one weight file, whether it is a whole model or not.
///
/// # Errors
/// If it is not a weight file, or a damaged one.
pub fn summarise_file(path: &Path) -> Result<Summaries, WeightsError> {
    Ok(summarise(std::iter::once(&WeightFile::open(path)?)))
}
