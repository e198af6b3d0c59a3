//! Output of commands for people and programs.

pub mod log;
pub mod memory_plot;
pub mod player;
pub mod print;
pub mod progress;
pub mod size;
pub mod table;
