//! What every target of recordings checks.

use sottovoce_formats::audio::{DecodeOptions, decode};

/// Any bytes are decoded or refused, to finite samples of the rate and length that were asked for.
pub fn decode_or_refuse(bytes: &[u8]) {
    let options = DecodeOptions::first(2, 24_000);
    match decode(bytes, &options) {
        Ok(recording) => {
            assert_eq!(recording.sample_rate, options.sample_rate);
            assert!(recording.samples.len() <= 48_000);
            assert!(recording.samples.iter().all(|sample| sample.is_finite()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
