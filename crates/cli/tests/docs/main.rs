//! Tests of the documentation against the program: links, commands, WebSocket transcripts, error
//! messages, figures.

mod commands;
mod figures;
mod links;
mod messages;
mod page;
mod server;
mod websocket;
