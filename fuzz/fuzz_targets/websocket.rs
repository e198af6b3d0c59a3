//! Messages of a WebSocket client: each is a command or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_server::fuzzing::websocket_message;

fuzz_target!(|message: &str| {
    let _ = websocket_message(message);
});
