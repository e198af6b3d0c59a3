//! Uncompressed and block-compressed audio within a file: its location, coding and packets.

use super::{AudioError, CHANNELS_MAX, SAMPLE_RATES, check, ima};
use std::io::{self, Read};
use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

/// Frames per packet, where frames are coded one by one.
const PACKET_FRAMES: usize = 1024;

/// Blocks of `block_bytes` bytes and `block_frames` frames each; plain samples have one frame per
/// block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub codec: AudioCodecId,
    pub block_bytes: usize,
    pub block_frames: usize,
}

impl Blocks {
    /// Packets of Apple's IMA ADPCM.
    pub(super) fn ima(channels: usize) -> Blocks {
        Blocks {
            codec: CODEC_ID_ADPCM_IMA_QT,
            block_bytes: ima::BYTES * channels,
            block_frames: ima::FRAMES,
        }
    }
}

/// Codec of plain samples of `bytes` bytes each: signed integers or floats.
pub(super) fn plain(is_float: bool, is_little: bool, bytes: usize) -> Option<AudioCodecId> {
    let either = |little, big| if is_little { little } else { big };
    Some(match (is_float, bytes) {
        (false, 1) => CODEC_ID_PCM_S8,
        (false, 2) => either(CODEC_ID_PCM_S16LE, CODEC_ID_PCM_S16BE),
        (false, 3) => either(CODEC_ID_PCM_S24LE, CODEC_ID_PCM_S24BE),
        (false, 4) => either(CODEC_ID_PCM_S32LE, CODEC_ID_PCM_S32BE),
        (true, 4) => either(CODEC_ID_PCM_F32LE, CODEC_ID_PCM_F32BE),
        (true, 8) => either(CODEC_ID_PCM_F64LE, CODEC_ID_PCM_F64BE),
        _ => return None,
    })
}

/// Coding of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Blocks, which the container describes.
    Blocks(Blocks),
    /// A stream of MPEG audio or AAC frames, which describes itself.
    SelfDescribed,
}

/// The audio data of a file, located by its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    pub coding: Coding,
    pub channels: u16,
    pub sample_rate: u32,
    /// Offset of the first byte.
    pub start: u64,
    /// Length in bytes, within the file.
    pub length: u64,
}

impl Payload {
    /// Checks sample rate and channels before anything is allocated by them.
    pub(super) fn check(&self) -> Result<(), AudioError> {
        if self.coding == Coding::SelfDescribed {
            return Ok(());
        }
        check("channels", self.channels.into(), 1, CHANNELS_MAX as u64)?;
        let (least, most) = (*SAMPLE_RATES.start(), *SAMPLE_RATES.end());
        check(
            "samples per second",
            self.sample_rate.into(),
            least.into(),
            most.into(),
        )
    }
}

/// The packets of a payload in blocks.
#[derive(Debug)]
pub(super) struct Packets<S> {
    source: S,
    parameters: AudioCodecParameters,
    packet_blocks: usize,
    block_bytes: usize,
    block_frames: usize,
}

impl<S: Read> Packets<S> {
    /// Packets of `source`, which holds the payload and nothing else.
    pub(super) fn new(source: S, payload: &Payload, blocks: Blocks) -> Packets<S> {
        let Blocks {
            codec,
            block_bytes,
            block_frames,
        } = blocks;
        // A compressed block may decode to more frames than stated, so each one is a packet.
        let packet_blocks = if block_frames == 1 { PACKET_FRAMES } else { 1 };
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(codec)
            .with_channels(Channels::Discrete(payload.channels))
            .with_sample_rate(payload.sample_rate)
            .with_frames_per_block(block_frames as u64)
            .with_max_frames_per_packet((packet_blocks * block_frames) as u64);
        Packets {
            source,
            parameters,
            packet_blocks,
            block_bytes,
            block_frames,
        }
    }

    /// Parameters for the decoder.
    pub(super) fn parameters(&self) -> &AudioCodecParameters {
        &self.parameters
    }

    /// The next whole blocks, or `None` at the end. A partial block at the end is dropped.
    pub(super) fn next(&mut self) -> io::Result<Option<Packet>> {
        let mut data = vec![0; self.packet_blocks * self.block_bytes];
        let mut filled = 0;
        while filled < data.len() {
            match self.source.read(&mut data[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let blocks = filled / self.block_bytes;
        if blocks == 0 {
            return Ok(None);
        }
        data.truncate(blocks * self.block_bytes);
        let frames = Duration::from((blocks * self.block_frames) as u64);
        Ok(Some(Packet::new(0, Timestamp::new(0), frames, data)))
    }
}
