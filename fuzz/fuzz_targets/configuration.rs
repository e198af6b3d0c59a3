//! Allocator options: any text is taken or refused, never a panic, and what was taken can be
//! explained and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_memory::pool::PoolConfiguration;
use sottovoce_memory::pool::explain::{Platform, explain};

fuzz_target!(|text: &str| {
    let parsed = PoolConfiguration::parse(text);
    if let Err(error) = &parsed {
        assert!(error.offset <= text.len(), "an error points into the text");
    }
    for platform in [Platform::Linux, Platform::Windows] {
        let _ = explain(text, platform);
    }
});
