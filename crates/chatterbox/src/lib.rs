//! The networks of the Chatterbox family.

pub mod config;
