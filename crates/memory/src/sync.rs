//! Synchronisation primitives: the standard library's, or those of a model checker that explores
//! thread interleavings.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{
    Condvar, Mutex, MutexGuard, atomic::AtomicBool, atomic::AtomicU64, atomic::Ordering,
};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, atomic::AtomicBool, atomic::AtomicU64, atomic::Ordering,
};

pub(crate) use std::sync::PoisonError;
