//! CAF: any bytes that begin as one are decoded or refused.
#![no_main]

mod common;

use common::decode_or_refuse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"caff") {
        decode_or_refuse(bytes);
    }
});
