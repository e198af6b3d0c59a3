//! Memory with a promise: drivers, a caching pool, planned arenas, budgets, and an owner for every
//! byte.
//!
//! ```
//! use sottovoce_memory::{Memory, Owner, Region};
//!
//! let memory = Memory::host(64 << 20);
//! let mut block = memory.allocate(1000, Owner::new(Region::Workspace, "example"))?;
//! block.bytes_mut().fill(7);
//! assert_eq!(memory.statistics().requested_bytes.all.current, 1000);
//! drop(block);
//! assert_eq!(memory.statistics().allocated_bytes.all.current, 0);
//! # Ok::<(), sottovoce_memory::OutOfMemory>(())
//! ```
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | driver | source of bytes: host, simulated, CUDA |
//! | sealed driver | a driver that refuses every call: steady state |
//! | piece | one allocation of a driver |
//! | segment | a piece that the caching pool allocated |
//! | block | a part of a segment, in use or free |
//! | arena, plan | one block, and the offsets that lifetimes have in it |
//! | reserved | bytes allocated from the driver |
//! | allocated | bytes of blocks in use, rounded as the pool rounds them |
//! | requested | bytes of blocks in use, before rounding |
//! | fragmentation | (reserved − allocated) ÷ reserved |
//! | page | a fixed-size piece of the KV cache |
//! | reservation | bytes that a budget promised to an account; the committed part is in use |
//! | queue | an order of execution on a device; blocks are cached per queue |
//! | stream | one utterance under way |
//! | owner | region, tag and stream that a block is counted for |
//! | charge | bytes that something else allocated, counted for an owner |

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod block;
pub mod budget;
mod charge;
pub mod driver;
pub mod heap;
mod memory;
pub mod message;
mod out_of_memory;
mod owner;
pub mod pages;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod stats;
mod sync;
pub mod trace;

pub use block::{Arena, ArenaSlice, Block, PlanMismatch, PlannedArena, PlannedPiece, SharedBlock};
pub use charge::Charge;
pub use memory::Memory;
pub use out_of_memory::{OutOfMemory, OutOfMemoryKind, OutOfMemoryReport};
pub use owner::{Owner, OwnerUsage, Region, StreamId};
pub use pool::PoolConfiguration;
pub use stats::MemoryStatistics;
