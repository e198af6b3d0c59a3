//! Memory with a promise: drivers, a caching pool, and an owner for every byte.
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
//! | driver | where bytes come from: host, simulated, CUDA |
//! | segment | one piece of memory got from the driver |
//! | block | a part of a segment, handed out or free |
//! | reserved | bytes held from the driver |
//! | allocated | bytes handed out, rounded as the pool rounds them |
//! | requested | bytes handed out, before rounding |
//! | fragmentation | (reserved − allocated) ÷ reserved |
//! | queue | an order of execution on a device; blocks are cached for each queue |
//! | stream | one utterance under way: an owner of bytes |
//! | owner | region, tag and stream of a block |

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod block;
pub mod budget;
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
pub use memory::Memory;
pub use out_of_memory::{OutOfMemory, OutOfMemoryKind, OutOfMemoryReport};
pub use owner::{Owner, OwnerUsage, Region, StreamId};
pub use pool::PoolConfiguration;
pub use stats::MemoryStatistics;
