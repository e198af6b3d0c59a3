//! WAV, RF64 and Wave64: any bytes that begin as one are decoded or refused.
#![no_main]

mod common;

use common::decode_or_refuse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.get(8..12) == Some(b"WAVE") || bytes.starts_with(b"riff") {
        decode_or_refuse(bytes);
    }
});
