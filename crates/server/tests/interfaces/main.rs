//! The server's interfaces: its own API, other projects' clients, WebSockets and Wyoming.
//!
//! One program, because each one takes seconds to compile; tests that measure or kill their process
//! have programs of their own beside it.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod compat;
mod conversations;
mod faults;
mod http;
mod library;
mod voice_changes;
mod wyoming;
