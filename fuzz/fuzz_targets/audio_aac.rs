//! AAC in ADTS: any bytes that begin as one are decoded or refused.
#![no_main]

mod common;

use common::decode_or_refuse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.first() == Some(&0xff) && bytes.get(1).is_some_and(|byte| byte & 0xf6 == 0xf0) {
        decode_or_refuse(bytes);
    }
});
