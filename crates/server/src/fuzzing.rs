//! Readers of clients' bytes, for the fuzz targets.

use crate::bodies::BodyMemory;
use crate::error::ServerError;
use crate::routes::stream::read_message;
use crate::wyoming::read_events;
use std::time::Duration;

/// Most bytes that the events of a connection may hold.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Reads a WebSocket message.
///
/// # Errors
/// If it is no command, or a field is wrong.
pub fn websocket_message(message: &str) -> Result<(), ServerError> {
    read_message(message)
}

/// Reads the events of a Wyoming connection; returns their number and the bytes that are held
/// afterwards.
///
/// # Errors
/// If the bytes are no events.
pub async fn wyoming_events(bytes: &[u8]) -> Result<(usize, usize), ServerError> {
    let memory = BodyMemory::new(EVENT_BYTES_MAX);
    let events = read_events(bytes, &memory, EVENT_BYTES_MAX, Duration::from_secs(60)).await?;
    Ok((events, memory.bytes()))
}
