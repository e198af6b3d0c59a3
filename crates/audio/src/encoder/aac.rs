//! AAC-LC in ADTS frames.

use super::Codec;
use crate::{AudioFormat, Error};
use syom::{EncodeOptions, Encoder};

const BITRATE_BPS: u32 = 64_000;

pub(super) struct Aac {
    encoder: Encoder,
    clipped: Vec<f32>,
    started: bool,
}

impl Aac {
    pub(super) fn new(sample_rate: u32) -> Result<Aac, Error> {
        let options = EncodeOptions::adts().with_bitrate_bps(BITRATE_BPS);
        let encoder = Encoder::new(sample_rate, 1, &options).map_err(failed)?;
        Ok(Aac {
            encoder,
            clipped: Vec::new(),
            started: false,
        })
    }
}

impl Codec for Aac {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        // The encoder refuses samples beyond full scale.
        self.clipped.clear();
        self.started |= !samples.is_empty();
        self.clipped.extend(samples.iter().map(|sample| {
            if sample.is_nan() {
                0.0
            } else {
                sample.clamp(-1.0, 1.0)
            }
        }));
        self.encoder
            .feed(&[&self.clipped[..]], |frame| {
                output.extend(frame.au);
                Ok(())
            })
            .map(|_| ())
            .map_err(failed)
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        // An empty recording is an empty stream of frames, which the encoder reports as an error.
        if !self.started {
            return Ok(());
        }
        self.encoder
            .finish(|frame| {
                output.extend(frame.au);
                Ok(())
            })
            .map(|_| ())
            .map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::encoding(AudioFormat::Aac, error)
}
