//! The process's memory outside the engine's ledger: its parts, and its release to the system.

use crate::app::App;
use serde::Serialize;
use sottovoce::{Resident, ResidentMemory, map_large_heap_pieces, release_unused_heap};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// Interval between checks for unused heap pages.
const RELEASE_EVERY: Duration = Duration::from_secs(2);
/// Most bytes that the protocol holds for a connection: headers with read-ahead, and as much of a
/// response.
const CONNECTION_BYTES_MAX: u64 = 2 * crate::listener::HEAD_BYTES_MAX as u64;

/// The process's memory, by owner.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProcessMemory {
    /// Resident bytes of the process.
    resident_bytes: u64,
    /// Bytes that the engine's ledger of the host holds from the system.
    engine_bytes: u64,
    /// Of them, those in memory: pages that were never written take none.
    engine_resident_bytes: u64,
    /// Pages of other files: the program with its embedded data, libraries.
    program_bytes: u64,
    /// Request bodies at present.
    requests_bytes: u64,
    /// Limit on request bodies.
    requests_bytes_max: u64,
    /// Open connections.
    connections: usize,
    /// Upper bound of the protocol's buffers for them.
    connections_bytes_max: u64,
    /// The rest: thread stacks, encoders, tables, and unused heap.
    heap_and_stacks_bytes: u64,
}

impl ProcessMemory {
    /// Reads the present figures; `engine_bytes` are those in the engine's ledger of the host, and
    /// `engine` those of them that are in memory, if the system tells.
    pub(crate) fn now(app: &App, engine_bytes: u64, engine: Option<Resident>) -> ProcessMemory {
        let ResidentMemory { bytes, file_bytes } = ResidentMemory::now();
        let engine = engine.unwrap_or(Resident {
            bytes: engine_bytes,
            file_bytes: 0,
        });
        let requests_bytes = app.bodies.bytes() as u64;
        let connections = app.open_connections();
        let program_bytes = file_bytes.saturating_sub(engine.file_bytes);
        let owned = engine.bytes + program_bytes + requests_bytes;
        ProcessMemory {
            resident_bytes: bytes,
            engine_bytes,
            engine_resident_bytes: engine.bytes,
            program_bytes,
            requests_bytes,
            requests_bytes_max: app.bodies.bytes_max() as u64,
            connections,
            connections_bytes_max: connections as u64 * CONNECTION_BYTES_MAX,
            heap_and_stacks_bytes: bytes.saturating_sub(owned),
        }
    }
}

/// Returns the heap's unused pages to the system after requests have ended. Never completes.
pub(crate) async fn release_after_requests(app: Arc<App>) {
    map_large_heap_pieces();
    let mut look = tokio::time::interval(RELEASE_EVERY);
    let mut released = 0;
    loop {
        look.tick().await;
        let ended = app.ended_requests();
        if ended != released {
            released = ended;
            // The call takes the heap's locks and walks its free lists, which would block an async
            // thread.
            let _ = tokio::task::spawn_blocking(release_unused_heap).await;
        }
    }
}
