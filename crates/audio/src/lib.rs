//! Streaming audio for mono speech: encoders, time stretching, a fade-in, loudness.
//!
//! All stages take samples incrementally and hold a bounded number of them. Samples are `f32`,
//! mono, nominally in −1..1.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | encoder | turns samples into the bytes of a format, incrementally |
//! | patch | header bytes that a seekable output rewrites after each piece |
//! | tempo | the speed of speech at constant pitch |
//! | hop | the output samples of one step of time stretching |
//! | limiter | lowers the sound around peaks that would exceed a ceiling |
//! | cross-fade | a weighted transition between two overlapping waveforms |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod encoder;
mod error;
mod fade;
mod file;
mod format;
mod loudness;
mod tempo;

pub use encoder::{Encoder, Patch};
pub use error::Error;
pub use fade::FadeIn;
pub use file::AudioFile;
pub use format::AudioFormat;
pub use loudness::{Limiter, LoudnessMeter};
pub use tempo::Tempo;
