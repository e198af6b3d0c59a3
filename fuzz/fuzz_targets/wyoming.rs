//! Events of a Wyoming client: any bytes are events or are refused, and hold no memory afterwards
//! beyond an unfinished event's own bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_server::fuzzing::wyoming_events;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let events = runtime.expect("a runtime on this thread").block_on(wyoming_events(bytes));
    if let Ok((_, held)) = events {
        assert_eq!(held, 0, "the reader is gone and so are its bytes");
    }
});
