//! HTTP, WebSocket and Wyoming server over the engine: OpenAI's speech API, streaming text input,
//! memory reports, and a web page.
//!
//! [`App`] holds the state. [`App::router`] works without a socket; [`serve`] adds the socket, its
//! limits and a graceful shutdown.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | place | the right to have one stream under way, granted by the engine |
//! | queue | streams that wait for a place |
//! | caller | the sender of a request, known by API key or address |
//! | record | a request from its headers to the last byte of its response |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod aliases;
mod app;
mod bodies;
mod callers;
mod conversation;
mod error;
mod fields;
mod forms;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod history;
mod host;
mod library;
mod listener;
mod metrics;
mod nearest;
mod openai;
mod openapi;
mod option_schema;
mod options;
mod origins;
mod process;
mod record;
mod routes;
mod socket;
mod speaking;
mod voices;
mod wyoming;

pub use app::App;
pub use callers::parse_network;
pub use error::ServerError;
pub use ipnet::IpNet;
pub use listener::{Addresses, serve};
pub use openapi::document as openapi_document;
pub use options::{Compatibility, EngineLoader, Limits, ServerOptions};
pub use sottovoce_hub::HubSettings;
