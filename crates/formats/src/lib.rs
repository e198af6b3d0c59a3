//! Safe readers and writers: pickle, torch archives, safetensors, audio.
//!
//! Every reader takes untrusted bytes. It executes nothing that a file names, allocates nothing by
//! a size that a file merely claims, and reports the position or the name of what is wrong.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | pickle | Python's serialisation format, a program for a stack machine; read here as data |
//! | memo | the table in which a pickle stores objects that it refers to again |
//! | inert | a recorded class, call or reference that is never carried out |
//! | torch archive | a `.pt` file: a ZIP of a pickle and the raw storages of tensors |
//! | state dict | the tensors of a checkpoint by name |
//! | container | the file format around encoded audio, such as MP4 or Ogg |
//! | payload | the encoded audio data within a simple container |
//! | encoder delay | frames that an encoder adds before the audio; they are skipped |
//! | output file | a temporary file that replaces its target by a rename when it is complete |

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
