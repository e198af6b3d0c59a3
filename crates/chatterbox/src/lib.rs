//! The networks of the Chatterbox family.

pub mod config;
pub mod text;
pub mod weights;
