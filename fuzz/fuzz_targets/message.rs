//! PyTorch's out-of-memory messages: any text is taken apart and explained, or is none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_memory::message::OutOfMemoryMessage;

fuzz_target!(|text: &str| {
    if let Some(message) = OutOfMemoryMessage::parse(text) {
        let _ = message.explain();
    }
});
