//! Opus in Ogg.

use super::Codec;
use crate::{AudioFormat, Error};
use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

const BITRATE_BPS: i32 = 32_000;
/// Frames per second: Opus packets of 20 ms.
const FRAMES_PER_SECOND: u32 = 50;
/// Opus counts time in 48 kHz ticks at any input rate.
const TICKS_PER_SECOND: u32 = 48_000;
/// Target size of an Ogg page, about a quarter of a second: larger pages would delay the listener.
const PAGE_BYTES: usize = 1024;

pub(super) struct Opus {
    encoder: OpusEncoder,
    writer: Option<OggOpusWriter<Vec<u8>>>,
    ticks_per_sample: u64,
    pre_skip_ticks: u64,
    frame_samples: usize,
    pending: Vec<f32>,
    sample_count: u64,
    packet: Vec<u8>,
}

impl Opus {
    pub(super) fn new(sample_rate: u32) -> Result<Opus, Error> {
        let mut encoder =
            OpusEncoder::new(sample_rate as i32, 1, Application::Audio).map_err(failed)?;
        encoder.bitrate_bps = BITRATE_BPS;
        let head = OpusHead::for_encoder(&encoder, sample_rate);
        let pre_skip_ticks = u64::from(head.pre_skip);
        let mut writer = OggOpusWriter::new(Vec::new(), head).map_err(failed)?;
        writer.set_page_target(PAGE_BYTES);
        let frame_samples = (sample_rate / FRAMES_PER_SECOND) as usize;
        Ok(Opus {
            encoder,
            writer: Some(writer),
            ticks_per_sample: u64::from(TICKS_PER_SECOND / sample_rate),
            pre_skip_ticks,
            frame_samples,
            pending: Vec::with_capacity(frame_samples),
            sample_count: 0,
            packet: vec![0; MAX_PACKET_BYTES],
        })
    }

    /// Encodes the pending frame; `duration_ticks` shortens the last one.
    fn write_frame(&mut self, duration_ticks: Option<u32>) -> Result<(), Error> {
        let Some(writer) = self.writer.as_mut() else {
            return Ok(());
        };
        let length = self
            .encoder
            .encode(&self.pending, self.frame_samples, &mut self.packet)
            .map_err(failed)?;
        self.pending.clear();
        match duration_ticks {
            Some(ticks) => writer.write_packet_with_duration(&self.packet[..length], ticks),
            None => writer.write_packet(&self.packet[..length]),
        }
        .map_err(failed)
    }

    fn take_bytes(&mut self, output: &mut Vec<u8>) {
        if let Some(bytes) = self.writer.as_mut().and_then(OggOpusWriter::get_mut) {
            output.append(bytes);
        }
    }
}

impl Codec for Opus {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        self.sample_count += samples.len() as u64;
        for &sample in samples {
            self.pending.push(sample);
            if self.pending.len() == self.frame_samples {
                self.write_frame(None)?;
            }
        }
        self.take_bytes(output);
        Ok(())
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        // The encoder lags its input by the pre-skip: silence flushes the last samples, and the
        // final granule position marks their end.
        let end_ticks = self.pre_skip_ticks + self.sample_count * self.ticks_per_sample;
        let frame_ticks = self.frame_samples as u64 * self.ticks_per_sample;
        loop {
            let written = self
                .writer
                .as_ref()
                .map_or(end_ticks, |writer| writer.granule() as u64);
            if written >= end_ticks {
                break;
            }
            self.pending.resize(self.frame_samples, 0.0);
            let left = end_ticks - written;
            self.write_frame((left < frame_ticks).then_some(left as u32))?;
        }
        if let Some(writer) = self.writer.take() {
            output.append(&mut writer.finish().map_err(failed)?);
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::encoding(AudioFormat::Opus, error)
}
