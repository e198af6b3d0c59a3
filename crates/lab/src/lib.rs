//! The laboratory: what measures, validates and diagnoses the engine from outside.
//!
//! The engine's users compile none of it.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | benchmark | measures time and memory, and judges nothing |
//! | validation | runs the engine at length or under pressure, and judges its promise |
//! | diagnosis | says what this machine and its devices can do, and what fits |
//! | border | the place where two chunks of an utterance meet |
//! | further stream | one more stream beside those under way |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod bench;
pub mod doctor;
pub mod validate;
