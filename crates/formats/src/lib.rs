//! Safe readers and writers: pickle, torch archives, safetensors, audio.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod audio;
pub mod content;
pub mod dtype;
pub mod file;
pub mod output;
pub mod pickle;
pub mod resample;
pub mod safetensors;
pub mod torch_archive;
