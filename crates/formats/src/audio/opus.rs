//! Opus: in Ogg, the format of voice messages and of `speak --out a.opus`, and as packets of other
//! containers.

use super::AudioError;
use super::header::field;
use super::mixer::Mixer;
use super::opus_streams::Streams;
use opus_pure::{
    Error as OpusError, MAX_PACKET_SAMPLES, OggOpusReader, OpusDecoder, OpusHead, Trim,
};
use std::cell::Cell;
use std::io::{self, BufReader, Read};

/// Opus has no native rate; decoding at this one is lossless.
pub(super) const SAMPLE_RATE: u32 = 48_000;
const PAGE_MARK: &[u8] = b"OggS";
const HEAD_MARK: &[u8] = b"OpusHead";
/// Limit of a packet: 48 streams of 120 ms at the highest rate are smaller.
const PACKET_BYTES_MAX: usize = 1 << 17;

/// Whether a file begins with an Ogg stream whose first packet is an Opus header, and which is the
/// only one.
pub(super) fn is_ogg_opus(prefix: &[u8]) -> bool {
    const FIRST_PAGE: u8 = 2;
    let count = usize::from(prefix.get(26).copied().unwrap_or(0));
    let lengths = prefix.get(27..27 + count).unwrap_or(&[]);
    let first = prefix.get(27 + count..).unwrap_or(&[]);
    let bytes = lengths.iter().map(|&length| usize::from(length)).sum();
    let second = first.get(bytes..).unwrap_or(&[]);
    let is_multiplexed = second.starts_with(PAGE_MARK)
        && (second.get(5)).is_some_and(|flags| flags & FIRST_PAGE != 0);
    prefix.starts_with(PAGE_MARK) && first.starts_with(HEAD_MARK) && !is_multiplexed
}

/// A decoder of packets.
pub(super) struct Decoder {
    inner: Inner,
    channels: usize,
    block: Vec<f32>,
}

enum Inner {
    Plain(Box<OpusDecoder>),
    Streams(Streams),
}

impl Decoder {
    fn new(head: &OpusHead) -> Result<Decoder, AudioError> {
        let (inner, channels) = if head.mapping_family == 0 {
            let decoder = head.decoder(SAMPLE_RATE as i32);
            let decoder = decoder.map_err(|error| AudioError::Damaged {
                reason: error.to_string(),
            })?;
            (Inner::Plain(Box::new(decoder)), head.channel_count.into())
        } else {
            let streams = Streams::new(head)?;
            let channels = streams.channels();
            (Inner::Streams(streams), channels)
        };
        Ok(Decoder {
            inner,
            channels,
            block: vec![0.0; MAX_PACKET_SAMPLES * channels],
        })
    }

    /// Decodes a packet to interleaved samples.
    fn decode(&mut self, packet: &[u8]) -> Result<&[f32], OpusError> {
        let block = &mut self.block;
        let frames = match &mut self.inner {
            Inner::Plain(decoder) => decoder.decode(packet, MAX_PACKET_SAMPLES, block)?,
            Inner::Streams(streams) => streams.decode(packet, block)?,
        };
        Ok(&self.block[..frames * self.channels])
    }
}

/// The Opus packets of a container, with their identification header.
pub(super) struct PacketStream {
    decoder: Decoder,
    /// Frames of the pre-skip that are still to be dropped.
    skipped: usize,
}

impl PacketStream {
    /// A stream as described by its identification header (RFC 7845, section 5.1), or with
    /// `channels` channels if there is none.
    pub(super) fn new(header: &[u8], channels: u8) -> Result<PacketStream, AudioError> {
        let head = parse(header, channels);
        Ok(PacketStream {
            decoder: Decoder::new(&head)?,
            skipped: head.pre_skip.into(),
        })
    }

    /// Disables the pre-skip, for containers that state the delay themselves.
    pub(super) fn skip_nothing(&mut self) {
        self.skipped = 0;
    }

    /// Decodes the next packet into the mixer.
    pub(super) fn take(&mut self, packet: &[u8], mixer: &mut Mixer) -> Result<(), AudioError> {
        if packet.is_empty() || packet.len() > PACKET_BYTES_MAX {
            return mixer.pass_over("an Opus packet of invalid length");
        }
        let channels = self.decoder.channels;
        match self.decoder.decode(packet) {
            Ok(block) => {
                let skipped = self.skipped.min(block.len() / channels);
                self.skipped -= skipped;
                mixer.add(&block[skipped * channels..], channels, SAMPLE_RATE)
            }
            Err(error) => mixer.pass_over(error),
        }
    }
}

/// Parses an identification header; a damaged one is replaced by that of a plain stream.
fn parse(header: &[u8], channels: u8) -> OpusHead {
    let mut head = OpusHead {
        channel_count: channels.clamp(1, 2),
        pre_skip: OpusHead::RECOMMENDED_PRE_SKIP,
        input_sample_rate: SAMPLE_RATE,
        output_gain_q8: 0,
        mapping_family: 0,
        stream_count: 1,
        coupled_count: channels.clamp(1, 2) - 1,
        channel_mapping: Vec::new(),
    };
    let fields = (field::<2>(header, 10), field::<2>(header, 16));
    let (Some(pre_skip), Some(gain)) = fields else {
        return head;
    };
    if !header.starts_with(HEAD_MARK) {
        return head;
    }
    head.channel_count = header[9];
    head.coupled_count = header[9].saturating_sub(1);
    head.pre_skip = u16::from_le_bytes(pre_skip);
    head.output_gain_q8 = i16::from_le_bytes(gain);
    if let Some(&[family, streams, coupled, ref mapping @ ..]) = header.get(18..)
        && family > 0
    {
        head.mapping_family = family;
        (head.stream_count, head.coupled_count) = (streams, coupled);
        let mapping = &mapping[..mapping.len().min(header[9].into())];
        head.channel_mapping = mapping.to_vec();
    }
    head
}

/// A source that records whether its end was reached: the reader does not tell a truncated stream
/// from a damaged one.
struct Ending<'e, S> {
    source: S,
    ended: &'e Cell<bool>,
}

impl<S: Read> Read for Ending<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.ended.set(count == 0 && !buffer.is_empty());
        Ok(count)
    }
}

/// Decodes Opus in Ogg until the mixer has enough.
pub(super) fn decode_ogg(source: impl Read, mixer: &mut Mixer) -> Result<(), AudioError> {
    let unknown = |error: OpusError| AudioError::Unknown {
        reason: error.to_string(),
    };
    let ended = Cell::new(false);
    let source = Ending {
        source,
        ended: &ended,
    };
    let mut reader = OggOpusReader::new(BufReader::new(source)).map_err(unknown)?;
    let mut decoder = Decoder::new(reader.head())?;
    let channels = decoder.channels;
    let mut trim = Trim::new(reader.head(), SAMPLE_RATE as i32, channels).map_err(unknown)?;
    let mut is_first = true;
    while !mixer.has_enough() {
        let packet = match reader.read_packet() {
            Ok(Some(packet)) => packet,
            // The end, or a page that is cut short: the intact part is kept.
            Ok(None) => return Ok(()),
            Err(_) if ended.get() => return Ok(()),
            // Damage within: as above, if there was anything before it.
            Err(error) if is_first => {
                return Err(AudioError::Damaged {
                    reason: error.to_string(),
                });
            }
            Err(error) => return mixer.pass_over(error),
        };
        is_first = false;
        match decoder.decode(&packet.data) {
            Ok(block) => mixer.add(trim.keep(&packet, block), channels, SAMPLE_RATE)?,
            Err(error) => mixer.pass_over(error)?,
        }
    }
    Ok(())
}
