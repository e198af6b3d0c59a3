//! Uncompressed and block-compressed sound within a file: where it lies, how it is coded, and its
//! packets.

use super::{AudioError, CHANNELS_MAX, SAMPLE_RATES, check};
use std::io::{self, Read};
use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

/// Frames of one packet, where frames are coded one by one.
const PACKET_FRAMES: usize = 1024;

/// How the payload's bytes are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Blocks of `block_bytes` with `block_frames` each; one frame a block where samples stand
    /// alone.
    Blocks {
        codec: AudioCodecId,
        block_bytes: usize,
        block_frames: usize,
    },
    /// A stream of MPEG audio or AAC frames that carries its own description.
    SelfDescribed,
}

/// The sound of a file whose container only says where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    pub coding: Coding,
    pub channels: u16,
    pub sample_rate: u32,
    /// Its first byte.
    pub start: u64,
    /// Its bytes, within the file.
    pub length: u64,
}

impl Payload {
    /// Checks the rate and the channels before anything is allocated by them.
    pub(super) fn check(&self) -> Result<(), AudioError> {
        if self.coding == Coding::SelfDescribed {
            return Ok(());
        }
        check("channels", self.channels.into(), 1, CHANNELS_MAX as u64)?;
        let (least, most) = (*SAMPLE_RATES.start(), *SAMPLE_RATES.end());
        check(
            "samples a second",
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
    /// The packets of `source`, which begins with the payload and ends with it.
    pub(super) fn new(
        source: S,
        payload: &Payload,
        codec: AudioCodecId,
        block_bytes: usize,
        block_frames: usize,
    ) -> Packets<S> {
        // A compressed block may be longer than the frames it is said to hold, so each is a packet.
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

    /// What a decoder needs to know.
    pub(super) fn parameters(&self) -> &AudioCodecParameters {
        &self.parameters
    }

    /// The next whole blocks, or none at the end. A part of a block at the very end is left out.
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
