//! Safe readers and writers: pickle, torch archives, safetensors, audio.

pub mod audio;
pub mod content;
pub mod dtype;
pub mod file;
pub mod pickle;
pub mod resample;
pub mod safetensors;
pub mod torch_archive;
