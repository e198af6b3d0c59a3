//! What can be wrong with weights.

use super::Component;
use crate::config::ConfigError;
use sottovoce_formats::safetensors::SafetensorsError;
use sottovoce_formats::torch_archive::TorchArchiveError;
use sottovoce_memory::OutOfMemory;
use sottovoce_memory::driver::DriverError;
use sottovoce_tensor::MatrixError;
use std::io;
use std::path::PathBuf;

/// Why weights cannot be loaded or converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused a file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder without a model.
    #[error("{} holds no model: there is neither config.json nor one of {}", path.display(), expected.join(", "))]
    NoModel {
        /// The folder.
        path: PathBuf,
        /// Weight files that official folders have.
        expected: Vec<String>,
    },
    /// A model folder without one of its files.
    #[error("{}: the {variant} model needs {file} (or its .pt twin)", path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// The variant.
        variant: String,
        /// The file.
        file: String,
    },
    /// A config that cannot be used.
    #[error("{file}: {source}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{file}: {source}")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        source: SafetensorsError,
    },
    /// A pickle on its own, as PyTorch before 1.6 wrote.
    #[error(
        "{file} is a pickle without an archive around it, which is not read; save it anew with torch.save, or as safetensors"
    )]
    BarePickle {
        /// The file.
        file: String,
    },
    /// Not a torch archive, or a damaged one.
    #[error("{file}: {source}")]
    TorchArchive {
        /// The file.
        file: String,
        /// What is wrong.
        source: TorchArchiveError,
    },
    /// A converted file of another version.
    #[error(
        "{file} was converted by another version of this program: its layout is {found}, this version reads {expected}; convert the model again"
    )]
    Layout {
        /// The file.
        file: String,
        /// The layout that it names.
        found: String,
        /// The layout that is read.
        expected: u32,
    },
    /// A tensor of a converted file that is not as it was written.
    #[error(
        "{file}: tensor {tensor} is damaged: the checksum of its bytes is {found:08x}, and {written:08x} was written; convert the model again"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The checksum of its bytes.
        found: u32,
        /// The checksum that was written.
        written: u32,
    },
    /// The list of packed tensors in a converted file.
    #[error("{file}: its list of packed tensors is not readable: {reason}")]
    PackedList {
        /// The file.
        file: String,
        /// What the JSON reader met.
        reason: String,
    },
    /// A tensor stands in two files of a folder.
    #[error("{file}: tensor {tensor} also stands in {other}")]
    Twice {
        /// The second file.
        file: String,
        /// The first file.
        other: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the network needs.
    #[error("{source_name}: tensor {tensor} is missing; the {component} needs it as {shape:?}")]
    MissingTensor {
        /// The file or folder.
        source_name: String,
        /// The network.
        component: Component,
        /// The tensor.
        tensor: String,
        /// The shape that it must have.
        shape: Vec<usize>,
    },
    /// A tensor of another shape than the config says.
    #[error("{file}: tensor {tensor} is {found:?}, but the config makes it {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it should be.
        expected: Vec<usize>,
    },
    /// A tensor whose elements are no floating-point numbers.
    #[error("{file}: tensor {tensor} holds {dtype}, not floating-point numbers")]
    NotFloat {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
    /// A weight that cannot be used.
    #[error("{file}: tensor {tensor}: {source}")]
    Value {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Which weight, and why.
        source: MatrixError,
    },
    /// No memory for the weights.
    #[error("no memory for the weights of the {component}: {source}")]
    Memory {
        /// The network.
        component: Component,
        /// How much was asked for and what there is.
        source: OutOfMemory,
    },
    /// The device did not take the weights.
    #[error("the weights of the {component} did not reach the device: {source}")]
    Device {
        /// The network.
        component: Component,
        /// What the driver said.
        source: DriverError,
    },
    /// A loading function that asked for other tensors the second time.
    #[error("the weights of the {component} took more than the {expected} bytes that were counted")]
    Recount {
        /// The network.
        component: Component,
        /// Bytes counted first.
        expected: usize,
    },
}
