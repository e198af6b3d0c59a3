//! Opus packets of several streams: surround sound, ambisonics, and separate channels.

use super::opus::SAMPLE_RATE;
use super::unread::Unread;
use super::{AudioError, CHANNELS_MAX, check};
use opus_pure::{Error as OpusError, MAX_PACKET_SAMPLES, OpusDecoder, OpusHead};

/// Mapping of a channel that is silent.
const SILENT: u8 = 255;
/// Ambisonics in the order of the channel numbers: the first channel is what a microphone without
/// a direction hears.
const AMBISONICS: u8 = 2;
/// Ambisonics that are mixed by a matrix.
const MIXED_AMBISONICS: u8 = 3;

/// A decoder of the streams of a packet, with the channel layout of the identification header (RFC
/// 7845, section 5.1.1). All streams but the last one are self-delimited in a packet (RFC 6716,
/// appendix B).
pub(super) struct Streams {
    decoders: Vec<OpusDecoder>,
    coupled: usize,
    /// For each channel the one of the streams that it is, or [`SILENT`].
    mapping: Vec<u8>,
    block: Vec<f32>,
    packet: Vec<u8>,
}

fn damaged(reason: impl ToString) -> AudioError {
    AudioError::Damaged {
        reason: reason.to_string(),
    }
}

impl Streams {
    /// # Errors
    /// If the layout is contradictory, or has too many streams.
    pub(super) fn new(head: &OpusHead) -> Result<Streams, AudioError> {
        if head.mapping_family == MIXED_AMBISONICS {
            let name = "Opus (ambisonics mixed by a matrix)";
            return Err(AudioError::Unread(Unread::codec(name, "opus")));
        }
        let most = CHANNELS_MAX as u64;
        check("channels", head.channel_count.into(), 1, most)?;
        check("streams", head.stream_count.into(), 1, most)?;
        let (streams, coupled) = (head.stream_count, usize::from(head.coupled_count));
        let decoded = usize::from(streams) + coupled;
        let mut mapping = head.channel_mapping.clone();
        let is_possible = coupled <= usize::from(streams)
            && mapping.len() == usize::from(head.channel_count)
            && (mapping.iter()).all(|&from| from == SILENT || usize::from(from) < decoded);
        if !is_possible {
            return Err(damaged("its channels are not those of its streams"));
        }
        if head.mapping_family == AMBISONICS {
            mapping.truncate(1);
        }
        let decoders = (0..usize::from(streams))
            .map(|stream| {
                let channels = if stream < coupled { 2 } else { 1 };
                OpusDecoder::new(SAMPLE_RATE as i32, channels)
            })
            .collect::<Result<Vec<_>, OpusError>>()
            .map_err(damaged)?;
        Ok(Streams {
            decoders,
            coupled,
            mapping,
            block: vec![0.0; 2 * MAX_PACKET_SAMPLES],
            packet: Vec::new(),
        })
    }

    /// Number of channels of the output.
    pub(super) fn channels(&self) -> usize {
        self.mapping.len()
    }

    /// Decodes a packet into interleaved samples of all channels; returns the number of frames.
    ///
    /// # Errors
    /// If a stream is damaged, or one is shorter than the others.
    pub(super) fn decode(&mut self, packet: &[u8], output: &mut [f32]) -> Result<usize, OpusError> {
        let channels = self.mapping.len();
        output.fill(0.0);
        let mut rest = packet;
        let mut frames = None;
        let last = self.decoders.len() - 1;
        for (stream, decoder) in self.decoders.iter_mut().enumerate() {
            let own = if stream == last {
                rest
            } else {
                let length = undelimited(rest, &mut self.packet).ok_or(
                    OpusError::InvalidStream("a stream of a packet is cut short"),
                )?;
                rest = &rest[length..];
                &self.packet
            };
            let count = decoder.decode(own, MAX_PACKET_SAMPLES, &mut self.block)?;
            if *frames.get_or_insert(count) != count {
                return Err(OpusError::InvalidStream("its streams differ in length"));
            }
            let (first, width) = match stream < self.coupled {
                true => (2 * stream, 2),
                false => (self.coupled + stream, 1),
            };
            for side in 0..width {
                let from = (first + side) as u8;
                let targets = (self.mapping.iter().enumerate()).filter(|&(_, &own)| own == from);
                for (channel, _) in targets {
                    let samples = self.block.iter().skip(side).step_by(width).take(count);
                    let places = output.iter_mut().skip(channel).step_by(channels);
                    places
                        .zip(samples)
                        .for_each(|(place, &sample)| *place = sample);
                }
            }
        }
        Ok(frames.unwrap_or(0))
    }
}

/// A length of one byte, or of two from 252 on, with its own length.
fn length_at(packet: &[u8], place: usize) -> Option<(usize, usize)> {
    let first = usize::from(*packet.get(place)?);
    if first < 252 {
        return Some((first, 1));
    }
    let second = usize::from(*packet.get(place + 1)?);
    Some((4 * second + first, 2))
}

/// Copies the self-delimited packet at the start of `packets` without the length that delimits it.
/// Returns its length with it.
fn undelimited(packets: &[u8], packet: &mut Vec<u8>) -> Option<usize> {
    let code = packets.first()? & 3;
    // The place of the additional length, and the bytes that the others and the padding state.
    let (mut place, mut stated, mut times) = (1, 0, 1);
    match code {
        0 => {}
        1 => times = 2,
        2 => {
            let (length, width) = length_at(packets, 1)?;
            (place, stated) = (1 + width, length);
        }
        _ => {
            let count = *packets.get(1)?;
            let frames = usize::from(count & 0x3f);
            place = 2;
            if count & 0x40 != 0 {
                loop {
                    let padding = *packets.get(place)?;
                    place += 1;
                    // 255 stands for 254 bytes and a further length.
                    stated += usize::from(padding.min(254));
                    if padding < 255 {
                        break;
                    }
                }
            }
            if count & 0x80 == 0 {
                times = frames;
            } else {
                for _ in 1..frames {
                    let (length, width) = length_at(packets, place)?;
                    (place, stated) = (place + width, stated + length);
                }
            }
        }
    }
    let (length, width) = length_at(packets, place)?;
    let start = place + width;
    let end = start + stated + times * length;
    packet.clear();
    packet.extend_from_slice(packets.get(..place)?);
    packet.extend_from_slice(packets.get(start..end)?);
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_delimited_packet_loses_the_length_that_delimits_it() {
        let long = |head: &[u8]| [head, &[7; 300]].concat();
        for (delimited, expected) in [
            // One frame; two of equal length; two of different ones.
            (vec![0xf8, 2, 1, 2], vec![0xf8, 1, 2]),
            (vec![0xf9, 2, 1, 2, 3, 4], vec![0xf9, 1, 2, 3, 4]),
            (vec![0xfa, 1, 2, 9, 1, 2], vec![0xfa, 1, 9, 1, 2]),
            // Three of equal length, and two of different ones before two bytes of padding.
            (vec![0xfb, 3, 1, 7, 8, 9], vec![0xfb, 3, 7, 8, 9]),
            (
                vec![0xfb, 0xc2, 2, 1, 2, 5, 6, 7, 0, 0],
                vec![0xfb, 0xc2, 2, 1, 5, 6, 7, 0, 0],
            ),
            // 300 is 252 and 4 × 12.
            (long(&[0xf8, 252, 12]), long(&[0xf8])),
        ] {
            let mut packet = Vec::new();
            let two = [&delimited[..], &[1, 2, 3]].concat();
            assert_eq!(undelimited(&two, &mut packet), Some(delimited.len()));
            assert_eq!(packet, expected);
            for length in 0..delimited.len() {
                assert_eq!(undelimited(&delimited[..length], &mut packet), None);
            }
        }
    }
}
