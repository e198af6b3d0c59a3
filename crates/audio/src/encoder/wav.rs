//! WAV and headerless PCM, 16 bit.

use super::{Codec, Patch, sample_to_i16};
use crate::Error;

const BYTES_PER_SAMPLE: u32 = 2;
/// RIFF, `fmt ` and the header of `data`.
const HEADER_BYTES: u32 = 44;
/// The length that players treat as "until the stream ends".
const UNKNOWN_LENGTH: u32 = u32::MAX;

pub(super) struct Pcm;

impl Codec for Pcm {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        output.extend(
            samples
                .iter()
                .flat_map(|&sample| sample_to_i16(sample).to_le_bytes()),
        );
        Ok(())
    }

    fn finish(&mut self, _output: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }
}

pub(super) struct Wav {
    sample_rate: u32,
    header_written: bool,
    data_bytes: u64,
}

impl Wav {
    pub(super) fn new(sample_rate: u32) -> Wav {
        Wav {
            sample_rate,
            header_written: false,
            data_bytes: 0,
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend(b"RIFF");
        header.extend(UNKNOWN_LENGTH.to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(16u32.to_le_bytes());
        header.extend(1u16.to_le_bytes()); // integer PCM
        header.extend(1u16.to_le_bytes()); // channels
        header.extend(self.sample_rate.to_le_bytes());
        header.extend((self.sample_rate * BYTES_PER_SAMPLE).to_le_bytes());
        header.extend((BYTES_PER_SAMPLE as u16).to_le_bytes());
        header.extend((BYTES_PER_SAMPLE as u16 * 8).to_le_bytes());
        header.extend(b"data");
        header.extend(UNKNOWN_LENGTH.to_le_bytes());
        header
    }

    fn write_header_once(&mut self, output: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.header_written, true) {
            output.extend(self.header());
        }
    }
}

impl Codec for Wav {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        self.write_header_once(output);
        self.data_bytes += u64::from(BYTES_PER_SAMPLE) * samples.len() as u64;
        Pcm.encode(samples, output)
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        self.write_header_once(output);
        Ok(())
    }

    fn patches(&self) -> Vec<Patch> {
        // Beyond 4 GiB the sizes stay "unknown", which readers take as "to the end of the file".
        let data = u32::try_from(self.data_bytes).unwrap_or(UNKNOWN_LENGTH);
        let riff = data.saturating_add(HEADER_BYTES - 8);
        vec![
            Patch {
                offset: 4,
                bytes: riff.to_le_bytes().to_vec(),
            },
            Patch {
                offset: u64::from(HEADER_BYTES) - 4,
                bytes: data.to_le_bytes().to_vec(),
            },
        ]
    }
}
