//! Errors of weights.

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
    /// The operating system's error about a file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A folder without a model.
    #[error("{} holds no model: there is neither config.json nor one of {}", path.display(), expected.join(", "))]
    NoModel {
        /// The folder.
        path: PathBuf,
        /// Weight files of official folders.
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
        /// The problem.
        source: ConfigError,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{file}: {source}")]
    Safetensors {
        /// The file.
        file: String,
        /// The problem.
        source: SafetensorsError,
    },
    /// A bare pickle, as written by PyTorch before 1.6.
    #[error(
        "{file} is a bare pickle, which is not supported; save it again with torch.save, or as safetensors"
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
        /// The problem.
        source: TorchArchiveError,
    },
    /// A converted file of another version.
    #[error(
        "{file} was converted by another version of this program: its layout is {found}, this version reads {expected}; convert the model again"
    )]
    Layout {
        /// The file.
        file: String,
        /// Layout of the file.
        found: String,
        /// Layout that this version reads.
        expected: u32,
    },
    /// A tensor of a converted file whose bytes changed since the conversion.
    #[error(
        "{file}: tensor {tensor} is damaged: the checksum of its bytes is {found:08x}, and {written:08x} was written; convert the model again"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Checksum of the bytes in the file.
        found: u32,
        /// Checksum that the conversion wrote.
        written: u32,
    },
    /// The list of packed tensors in a converted file is malformed.
    #[error("{file}: its list of packed tensors is malformed: {reason}")]
    PackedList {
        /// The file.
        file: String,
        /// The JSON parser's error.
        reason: String,
    },
    /// A model whose sound cannot be that of another one.
    #[error("the sound of {sound} does not fit: {reason}")]
    Sound {
        /// The model whose sound was asked for.
        sound: String,
        /// Why it does not fit.
        reason: String,
    },
    /// A tensor occurs in two files of a folder.
    #[error("{file}: tensor {tensor} is also in {other}")]
    Twice {
        /// The second file.
        file: String,
        /// The first file.
        other: String,
        /// The tensor.
        tensor: String,
    },
    /// A missing tensor.
    #[error("{source_name}: tensor {tensor} is missing; the {component} needs it as {shape:?}")]
    MissingTensor {
        /// The file or folder.
        source_name: String,
        /// The network.
        component: Component,
        /// The tensor.
        tensor: String,
        /// The expected shape.
        shape: Vec<usize>,
    },
    /// A tensor whose shape differs from the config.
    #[error("{file}: tensor {tensor} is {found:?}, but the config expects {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The expected shape.
        expected: Vec<usize>,
    },
    /// A tensor whose elements are not floating-point numbers.
    #[error("{file}: tensor {tensor} holds {dtype}, not floating-point numbers")]
    NotFloat {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
    /// An invalid weight.
    #[error("{file}: tensor {tensor}: {source}")]
    Value {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The weight, and the reason.
        source: MatrixError,
    },
    /// Too little memory for the weights.
    #[error("out of memory for the weights of the {component}: {source}")]
    Memory {
        /// The network.
        component: Component,
        /// The amounts requested and available.
        source: OutOfMemory,
    },
    /// The device refused the weights.
    #[error("the weights of the {component} did not reach the device: {source}")]
    Device {
        /// The network.
        component: Component,
        /// The driver's error.
        source: DriverError,
    },
    /// A loading function that requested other tensors on its second run.
    #[error("the weights of the {component} took more than the {expected} bytes that were counted")]
    Recount {
        /// The network.
        component: Component,
        /// Bytes counted on the first run.
        expected: usize,
    },
}
