//! What commands show to people and programs.

pub mod player;
pub mod progress;
pub mod size;
