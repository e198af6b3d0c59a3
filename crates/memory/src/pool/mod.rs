//! The caching pool.

mod configuration;

pub use configuration::PoolConfiguration;
