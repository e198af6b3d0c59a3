//! The engine on a CUDA device, on the stand-in for the driver's library: what it holds, and what
//! happens when the device refuses, runs out of memory or is lost.

#![cfg(target_os = "linux")]

mod faults;
mod ledger;
mod pressure;
mod refusals;
mod scene;
