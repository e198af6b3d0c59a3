//! FLAC, 16 bit, in frames of fixed size.

use super::{Codec, Patch, sample_to_i16};
use crate::{AudioFormat, Error};
use flacenc::component::{BitRepr, Stream, StreamInfo};
use flacenc::error::{Verified, Verify};
use flacenc::source::{Context, Fill, FrameBuf};

/// FLAC's usual block size; 0.17 s at 24 kHz.
const BLOCK_SAMPLES: usize = 4096;
const BITS_PER_SAMPLE: usize = 16;
/// Smallest block of the encoder. A shorter remainder is padded with silence.
const BLOCK_SAMPLES_MIN: usize = 32;
/// Offset of the stream information: behind the `fLaC` marker and the block's header.
const STREAM_INFO_OFFSET: u64 = 8;

pub(super) struct Flac {
    configuration: Verified<flacenc::config::Encoder>,
    information: StreamInfo,
    context: Context,
    frame: FrameBuf,
    pending: Vec<i32>,
    frame_count: usize,
    header_written: bool,
}

impl Flac {
    pub(super) fn new(sample_rate: u32) -> Result<Flac, Error> {
        let mut configuration = flacenc::config::Encoder::default();
        configuration.block_size = BLOCK_SAMPLES;
        configuration.multithread = false;
        let configuration = configuration
            .into_verified()
            .map_err(|(_, error)| failed(error))?;
        let mut information =
            StreamInfo::new(sample_rate as usize, 1, BITS_PER_SAMPLE).map_err(failed)?;
        information
            .set_block_sizes(BLOCK_SAMPLES, BLOCK_SAMPLES)
            .map_err(failed)?;
        Ok(Flac {
            configuration,
            information,
            context: Context::new(BITS_PER_SAMPLE, 1),
            frame: FrameBuf::with_size(1, BLOCK_SAMPLES).map_err(failed)?,
            pending: Vec::with_capacity(BLOCK_SAMPLES),
            frame_count: 0,
            header_written: false,
        })
    }

    fn write_header_once(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        if std::mem::replace(&mut self.header_written, true) {
            return Ok(());
        }
        output.extend(bytes_of(&Stream::with_stream_info(
            self.information.clone(),
        ))?);
        Ok(())
    }

    fn write_frame(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        if self.pending.len() < BLOCK_SAMPLES {
            self.frame = FrameBuf::with_size(1, self.pending.len()).map_err(failed)?;
        }
        self.frame.fill_interleaved(&self.pending).map_err(failed)?;
        self.context
            .fill_interleaved(&self.pending)
            .map_err(failed)?;
        let frame = flacenc::encode_fixed_size_frame(
            &self.configuration,
            &self.frame,
            self.frame_count,
            &self.information,
        )
        .map_err(failed)?;
        output.extend(bytes_of(&frame)?);
        self.frame_count += 1;
        self.pending.clear();
        Ok(())
    }
}

impl Codec for Flac {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        self.write_header_once(output)?;
        for &sample in samples {
            self.pending.push(i32::from(sample_to_i16(sample)));
            if self.pending.len() == BLOCK_SAMPLES {
                self.write_frame(output)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        self.write_header_once(output)?;
        if !self.pending.is_empty() {
            let padded = self.pending.len().max(BLOCK_SAMPLES_MIN);
            self.pending.resize(padded, 0);
            self.write_frame(output)?;
        }
        Ok(())
    }

    fn patches(&self) -> Vec<Patch> {
        // Pending samples are not in the file yet: the sample count excludes them, and the digest
        // is complete only after the last frame.
        let mut information = self.information.clone();
        information.set_total_samples(self.context.total_samples());
        information.set_md5_digest(&self.context.md5_digest());
        match bytes_of(&information) {
            Ok(bytes) => vec![Patch {
                offset: STREAM_INFO_OFFSET,
                bytes,
            }],
            Err(_) => Vec::new(),
        }
    }
}

fn bytes_of(component: &impl BitRepr) -> Result<Vec<u8>, Error> {
    let mut bits = flacenc::bitsink::ByteSink::new();
    component.write(&mut bits).map_err(failed)?;
    Ok(bits.into_inner())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::encoding(AudioFormat::Flac, error)
}
