//! Tensor operations over memory's blocks.
//!
//! A network's `forward` takes a [`Context`]: where activations live (its [`Workspace`]) and what computes them (its
//! [`Device`]). Run once with [`Workspace::measuring`], a forward computes nothing and records what it
//! allocates; [`Workspace::planned`] then serves every later run from one arena of exactly the size it needs.
//!
//! Sequences are time-major everywhere, `[time, channels]`: a convolution is then a product over overlapping rows and nothing is
//! copied for it. Shape errors are programming errors and panic with the shapes; running out of memory is reported once, by
//! [`Context::finish`].
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | tensor | f32 activations, row-major, contiguous, at most four dimensions |
//! | view | rows of a tensor, perhaps only some of their columns: a place and a shape |
//! | place | the host's memory, a device's, or nowhere |
//! | matrix | weights `[outputs, inputs]` at a [`Precision`], packed for the kernels |
//! | panel | the weights of 32 (16) neighbouring outputs, stored together |
//! | workspace | where activations live: pooled, planned, or measuring only |
//! | dry | running without bytes: shapes and lifetimes only |

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
#[cfg(feature = "testing")]
pub mod simulated;
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
    Activation, Attention, Convolving, EvenPositions, Operations, RelativePositions, Rounding,
    SinusoidOrder, Store,
};
pub use stft::Stft;
pub use tensor::Tensor;
pub use threads::Threads;
pub use view::{View, ViewMut};
pub use workspace::{Recording, Workspace};
