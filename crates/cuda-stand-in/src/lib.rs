//! A stand-in for NVIDIA's driver library, for tests. Device memory is backed by bytes, queues
//! defer their work until somebody waits, and kernels are the project's own sources, compiled for
//! the CPU.
//!
//! It is a shared library with the driver's name (`libcuda.so`) and also a crate for tests:
//! [`client`] finds the library, loads it and scripts its devices. Calls that the real library
//! would refuse are refused and counted as misuse. Memory that a kernel must not access is
//! unmapped; an access disables the device, as on real hardware.
//!
//! | variable (`CUDA_STAND_IN_…`) | key of [`client::StandIn`] | meaning |
//! |---|---|---|
//! | `DEVICES` | – | how many devices there are: 2 |
//! | `MEMORY`, `TAKEN` | `memory`, `taken` | bytes of a device, and of other processes |
//! | `GENERATION` | `generation` | 10 × compute capability: 86, and 75 for every second device |
//! | `DRIVER` | `driver` | the driver's CUDA version: 12040 |
//! | `RANGES` | `ranges` | `off`: no virtual memory management |
//! | `ADDRESSES` | `addresses` | bytes of a device's addresses |
//! | `ORDER` | `order` | of a block's threads: `natural`, `reverse`, `shuffled:SEED` |
//! | `CONTEXT`, `MODULE`, `GRAPH`, `NODE` | the same | device bytes of each, 0 by default |
//! | `THREADS` | `threads` | threads with a stack in device memory after the first launch: 0 |
//! | `FAIL` | `fail` | `CALL:N[:STATUS]`: a call fails, N such calls ahead; or `any` |
//! | `LOST` | `lost` | `N[:STATUS]`: N calls ahead the device is gone, and every call fails: 719 |
//! | `FAULT` | `fault` | `N[:STATUS]`: the kernel N launches ahead faults: 700 |
//! | `FILL` | `fill` | `on`: fresh memory holds no numbers instead of zeros |
//! | `REPORT` | – | a file for every count, when the program ends |
//!
//! `CUDA_VISIBLE_DEVICES` counts as well, with ordinals.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | driver library | NVIDIA's `libcuda.so`, whose calls this crate answers |
//! | device | bytes, addresses and queues that behave as those of one card |
//! | queue | what CUDA calls a stream: work that runs in order, once somebody waits |
//! | graph | recorded work that is launched together |
//! | misuse | a call that the real library would refuse |
//! | fault | a kernel's access to memory that is not its own; it disables the device |
//! | lost device | one whose every call fails, as after a fault or a removed card |
//! | store | the file whose parts are mapped as device memory |

#![cfg(target_os = "linux")]

mod api;
pub mod client;
mod control;
mod device;
mod executor;
mod image;
mod kernels;
mod settings;
mod status;
mod store;
