//! Streaming audio for mono speech: encoders, a change of tempo, a fade-in.
//!
//! Everything here takes samples piece by piece and holds a bounded amount of them. Samples are
//! `f32`, mono, nominally in −1..1.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | encoder | turns samples into the bytes of a format as they come |
//! | patch | bytes of a header that a seekable output rewrites after each piece |
//! | tempo | the speed of speech at constant pitch |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod encoder;
mod error;
mod fade;
mod file;
mod format;
mod tempo;

pub use encoder::{Encoder, Patch};
pub use error::Error;
pub use fade::FadeIn;
pub use file::AudioFile;
pub use format::AudioFormat;
pub use tempo::Tempo;
