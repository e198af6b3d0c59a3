//! Recordings: any bytes are decoded or refused, whatever format they seem to be of.
#![no_main]

mod common;

use common::decode_or_refuse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| decode_or_refuse(bytes));
