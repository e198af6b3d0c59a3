//! Uncompressed and block-compressed audio within a file: its location, coding and packets.

use super::{AudioError, CHANNELS_MAX, SAMPLE_RATES, check};
use std::io::{self, Read};
use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

/// Frames per packet, where frames are coded one by one.
const PACKET_FRAMES: usize = 1024;

/// Coding of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Blocks of `block_bytes` bytes and `block_frames` frames each; plain samples have one frame
    /// per block.
    Blocks {
        codec: AudioCodecId,
        block_bytes: usize,
        block_frames: usize,
    },
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
    pub(super) fn new(
        source: S,
        payload: &Payload,
        codec: AudioCodecId,
        block_bytes: usize,
        block_frames: usize,
    ) -> Packets<S> {
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
