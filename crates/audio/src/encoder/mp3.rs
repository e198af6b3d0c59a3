//! MPEG-2 layer III.

use super::{Codec, Patch};
use crate::{AudioFormat, Error};
use rusty_mp3::{Mp3Encoder, Mp3EncoderConfig};

/// The usual rate for mono speech below 12 kHz. At these sampling rates the encoder emits each
/// frame at once.
const BITRATE_KBPS: u32 = 64;

pub(super) struct Mp3 {
    sample_rate: u32,
    encoder: Mp3Encoder,
}

impl Mp3 {
    pub(super) fn new(sample_rate: u32) -> Mp3 {
        let configuration = Mp3EncoderConfig {
            bitrate_kbps: BITRATE_KBPS,
            vbr_quality: None,
        };
        Mp3 {
            sample_rate,
            encoder: Mp3Encoder::new(configuration),
        }
    }

    fn take_packets(&mut self, output: &mut Vec<u8>) {
        // Both of its errors mean that no packet is ready.
        while let Ok(packet) = self.encoder.next_packet() {
            output.extend(packet);
        }
    }
}

impl Codec for Mp3 {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        self.encoder
            .push_pcm_f32(samples, 1, self.sample_rate)
            .map_err(|error| Error::encoding(AudioFormat::Mp3, error))?;
        self.take_packets(output);
        Ok(())
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        self.encoder.finish();
        self.take_packets(output);
        Ok(())
    }

    fn patches(&self) -> Vec<Patch> {
        let tag = self.encoder.lame_tag_frame();
        tag.map(|bytes| Patch {
            offset: 0,
            bytes: bytes.to_vec(),
        })
        .into_iter()
        .collect()
    }
}
