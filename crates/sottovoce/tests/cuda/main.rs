//! The engine on a CUDA device (the stand-in): its memory, and its behaviour when the device
//! refuses, runs out of memory or is lost.

#![cfg(target_os = "linux")]

mod families;
mod faults;
mod full_size;
mod ledger;
mod refusals;
mod scene;
mod together;
mod words;
