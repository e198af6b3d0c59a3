//! Contents of a model folder or a weight file, by network, without reading weights.

use crate::components::visit;
use crate::config::Variant;
use crate::weights::{
    Component, StoredSummary, WeightSource, WeightsError, measure, summarise_file,
};
use serde::Serialize;
use sottovoce_tensor::Precision;
use std::collections::BTreeMap;
use std::path::Path;

/// A description of stored weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The folder or file.
    pub name: String,
    /// The member of the model family; absent for a single file without a config.
    pub variant: Option<Variant>,
    /// Its parts, in the order of speech.
    pub parts: Vec<Part>,
}

/// One network's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The network; `other` for tensors that belong to none.
    pub part: String,
    /// Statistics of the stored tensors.
    #[serde(flatten)]
    pub stored: StoredSummary,
    /// Bytes in memory, by the precision at which its matrices are loaded. Converted weights keep
    /// theirs.
    pub loaded_bytes: BTreeMap<&'static str, u64>,
    /// Unknown tensors that inference does not use.
    pub surplus: Vec<String>,
    /// Why it cannot be loaded: the tensor that is missing or has another shape.
    pub problem: Option<String>,
}

impl Part {
    /// The stored tensors of a component, not yet measured.
    fn stored((component, stored): (Option<Component>, StoredSummary)) -> Part {
        Part {
            part: component.map_or("other", Component::tag).to_owned(),
            stored,
            loaded_bytes: BTreeMap::new(),
            surplus: Vec::new(),
            problem: None,
        }
    }
}

impl Inspection {
    /// Describes a model.
    pub fn of(source: &WeightSource) -> Inspection {
        let mut parts: Vec<Part> = (source.summaries().into_iter()).map(Part::stored).collect();
        for component in Component::ALL {
            let Some(part) = parts.iter_mut().find(|part| part.part == component.tag()) else {
                continue;
            };
            for precision in Precision::ALL {
                let measured = measure(source, component, precision, |loader| {
                    visit(component, source.config(), loader)
                });
                match measured {
                    Ok((bytes, surplus)) => {
                        part.loaded_bytes.insert(precision.name(), bytes as u64);
                        part.surplus = surplus;
                    }
                    Err(error) => part.problem = Some(error.to_string()),
                }
            }
        }
        Inspection {
            name: source.name().to_owned(),
            variant: Some(source.config().variant),
            parts,
        }
    }

    /// Describes a weight file, which may be only a part of a model.
    ///
    /// # Errors
    /// If it is not a weight file, or a damaged one.
    pub fn of_file(path: &Path) -> Result<Inspection, WeightsError> {
        let parts = (summarise_file(path)?.into_iter())
            .map(Part::stored)
            .collect();
        Ok(Inspection {
            name: path.display().to_string(),
            variant: None,
            parts,
        })
    }
}
