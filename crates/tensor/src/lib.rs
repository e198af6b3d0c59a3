//! Tensor operations over memory's blocks.
//!
//! A network's `forward` takes a [`Context`]: the memory for activations (its [`Workspace`]) and
//! the device that computes (its [`Device`]). Run once with [`Workspace::measuring`], a forward
//! computes nothing and records its allocations. [`Workspace::planned`] then serves every later run
//! from one arena of exactly the size needed.
//!
//! Sequences are time-major, `[time, channels]`: a convolution is a product over overlapping rows
//! and needs no copy. Shape errors are programming errors and panic with the shapes. Running out of
//! memory is reported once, by [`Context::finish`].
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | tensor | f32 activations, row-major, contiguous, at most four dimensions |
//! | view | rows of a tensor, possibly a range of their columns: a place and a shape |
//! | place | host memory, a device's memory, or none |
//! | matrix | weights `[outputs, inputs]` at a [`Precision`], packed for the kernels |
//! | panel | the packed weights of NR = 32 (or 16) neighbouring outputs |
//! | level | the integer of a quantised value; value = level · scale |
//! | MR, MC, KC | rows per micro-kernel, rows per task, inputs per block of a GEMM |
//! | workspace | memory for activations: pooled, planned, or measuring |
//! | dry | running without bytes: shapes and lifetimes only |
//! | scratch | temporary memory of one operation, from the workspace |
//! | block table | the pages and positions of a forward's rows in the KV cache ([`CachePlaces`]) |

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

#[cfg(test)]
extern crate self as sottovoce_tensor;

mod cache;
mod context;
pub mod cpu;
pub mod cuda;
mod device;
mod fused;
mod harmonics;
mod layers;
mod matrix;
mod noise;
mod operations;
pub mod simulated;
pub mod split_mix;
mod stft;
mod tensor;
mod threads;
mod view;
mod workspace;

pub use cache::{
    CacheLayout, CachePlaces, CachePrecision, CacheRow, CacheSequence, CacheStretch, CachedPages,
    PageLayout,
};
pub use context::Context;
pub use device::{Device, DeviceError, Failure, Traffic, TrafficCount};
pub use fused::FusedOperations;
pub use harmonics::Harmonics;
pub use layers::{
    Conv1d, Conv2d, ConvTranspose1d, LayerNorm, Linear, Lstm, LstmLayer, Norm, Padding,
};
pub use matrix::{Matrix, MatrixError, Precision, Vector};
pub use noise::Noise;
pub use operations::{
    Activation, Attention, Convolving, EvenPositions, LayerChains, Operations, RelativePositions,
    Rounding, SEQUENCES_MAX, SinusoidOrder, Store, WatchedHeads,
};
pub use stft::Stft;
pub use tensor::Tensor;
pub use threads::Threads;
pub use view::{View, ViewMut};
pub use workspace::{RunTrace, Workspace};
