//! The caching pool, with PyTorch's rules for caching, splitting, coalescing and releasing.
//!
//! An allocation is rounded ([`sizes`]), searched for among the free blocks of its queue (best
//! fit), and only then requested from the driver. Freed blocks stay cached. A request served from
//! the cache concerns one shard ([`Pool`]) and takes no other lock.

mod block_table;
mod caching_pool;
mod configuration;
mod counters;
mod exclusive;
pub mod explain;
mod free_blocks;
mod invariants;
mod parse;
mod paste;
mod shard;
pub mod sizes;
mod statistics;
mod written_number;

pub use caching_pool::{Pool, PoolBlock, PoolRefusal};
pub use configuration::{Backend, PoolConfiguration, ROUNDUP_INTERVALS, VARIABLES};
pub use exclusive::Refusal;
pub use invariants::PoolViolation;
pub use parse::{ConfigurationError, Setting};
pub use paste::options_of_line;
pub use statistics::PoolStatistics;
