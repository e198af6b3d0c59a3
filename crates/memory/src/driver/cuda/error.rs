//! Why there is no CUDA device.

use super::symbols::Failure;
use crate::driver::DriverError;

/// Why a CUDA device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library is not installed.
    #[error(
        "no CUDA: the NVIDIA driver's library (libcuda.so, or nvcuda.dll on Windows) is not installed; use the host or the simulated driver"
    )]
    NoLibrary,
    /// The driver's library is too old.
    #[error("no CUDA: the NVIDIA driver's library lacks {symbol}; install a newer driver")]
    MissingSymbol {
        /// The function that was looked for.
        symbol: &'static str,
    },
    /// There is no such device.
    #[error("no CUDA device {ordinal}: the driver knows {count}, counted from 0")]
    NoDevice {
        /// The device that was asked for.
        ordinal: u32,
        /// Devices that are there.
        count: u32,
    },
    /// The library reported an error.
    #[error("no CUDA: {call} failed: {message}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// What the library said.
        message: String,
    },
}

impl From<Failure> for CudaError {
    fn from(failure: Failure) -> CudaError {
        CudaError::Failed {
            call: failure.call,
            message: failure.message,
        }
    }
}

impl From<Failure> for DriverError {
    fn from(failure: Failure) -> DriverError {
        DriverError::Failed {
            call: failure.call,
            message: failure.message,
        }
    }
}
