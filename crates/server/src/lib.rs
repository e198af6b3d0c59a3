//! HTTP and WebSocket server over the engine: OpenAI's speech calls, text that arrives in pieces,
//! the memory in view, and a page.
//!
//! Everything hangs on [`App`]; [`App::router`] can be called without a socket, [`serve`] adds the
//! socket, its limits and an orderly end.
//!
//! Glossary: *place*: the right to have one stream under way, which the engine gives. *queue*:
//! streams that wait for a place. *caller*: who sent a request, known by API key or address.
//! *record*: a request from its head to the last byte of its answer.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod aliases;
mod app;
mod bodies;
mod callers;
mod error;
mod fields;
mod guard;
mod history;
mod host;
mod library;
mod listener;
mod measures;
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

pub use app::App;
pub use callers::parse_network;
pub use error::ServerError;
pub use ipnet::IpNet;
pub use listener::serve;
pub use openapi::document as openapi_document;
pub use options::{Limits, Loader, ServerOptions};
pub use sottovoce_hub::HubSettings;
