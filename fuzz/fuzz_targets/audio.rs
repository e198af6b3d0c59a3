//! Recordings: any bytes are decoded or refused, within the limits, to finite samples.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_formats::audio::{AudioLimits, SAMPLE_RATES, decode};

fuzz_target!(|bytes: &[u8]| {
    let limits = AudioLimits {
        seconds_max: 2,
        samples_max: 96_000,
        ..AudioLimits::default()
    };
    if let Ok(recording) = decode(bytes, &limits) {
        assert!(SAMPLE_RATES.contains(&recording.sample_rate));
        assert!((1..=limits.samples_max).contains(&recording.samples.len()));
        assert!(recording.samples.iter().all(|sample| sample.is_finite()));
    }
});
