//! The pool's options.

/// The options of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolConfiguration {}
