//! MP4, M4A and MOV: any bytes that begin as one are decoded or refused.
#![no_main]

mod common;

use common::decode_or_refuse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.get(4..8) == Some(b"ftyp") {
        decode_or_refuse(bytes);
    }
});
