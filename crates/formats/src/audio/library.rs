//! The formats decoded by Symphonia, within a memory limit.

use super::chunks::{ChunkReader, Chunks};
use super::metered::{Allowance, Metered};
use super::mixer::Mixer;
use super::opus::PacketStream;
use super::payload::{Coding, Packets, Payload};
use super::unread::Unread;
use super::{AudioError, aac, flac, ima, isomp4};
use isomp4::SoundTrack;
use std::io::Read;
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_ADPCM_IMA_QT, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS,
};
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, CODEC_ID_NULL_AUDIO,
};
use symphonia::core::common::Limit;
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::{Hint, ProbeableFormat};
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadBytes};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::Duration;
use symphonia::default::formats::IsoMp4Reader;

/// Bytes of a container that may be read before the first packet: its index and tags.
pub(super) const INDEX_BYTES_MAX: u64 = 8 << 20;
/// Bytes that may be read for one packet.
pub(super) const PACKET_BYTES_MAX: u64 = 2 << 20;
/// Bytes of a tag that are kept. Tags are not used.
const TAG_BYTES_MAX: usize = 4 << 10;
/// Limit of the number of packets, over all tracks.
const PACKETS_MAX: u64 = 1 << 23;
/// Limit of search steps: the MP4 demultiplexer looks up each packet's time among all runs of equal
/// duration.
const STEPS_MAX: u64 = 1 << 32;

/// Upper bound of the reader's memory for a file of `file_bytes` bytes: the tables of an index grow
/// by doubling, and may be stored in wider numbers.
pub(super) const fn bytes_max(file_bytes: u64) -> usize {
    let index = if file_bytes < INDEX_BYTES_MAX {
        file_bytes
    } else {
        INDEX_BYTES_MAX
    };
    3 * index as usize + PACKETS_BYTES_MAX
}

/// Upper bound of the memory of packets on their way.
pub(super) const PACKETS_BYTES_MAX: usize = 2 * PACKET_BYTES_MAX as usize;

fn damaged(reason: impl ToString) -> AudioError {
    AudioError::Damaged {
        reason: reason.to_string(),
    }
}

/// Decodes a file from `start` on until the mixer has enough. `prefix` holds the file's first
/// bytes, `mp4` is the sound track if it is an MP4.
pub(super) fn decode(
    mut source: impl MediaSource,
    start: u64,
    file_bytes: u64,
    prefix: &[u8],
    mp4: Option<SoundTrack>,
    mixer: &mut Mixer,
) -> Result<(), AudioError> {
    if let Some(scheme) = mp4.as_ref().and_then(SoundTrack::protection) {
        return Err(AudioError::Unread(Unread::protected(scheme)));
    }
    let skipped = flac::without_metadata(&mut source, start, file_bytes).map_err(damaged)?;
    let (start, overlay) = match skipped {
        Some((start, head)) => (start, Some((0, head))),
        None => (start, mp4.as_ref().and_then(|track| sized(track, start))),
    };
    let allowance = Allowance::default();
    allowance.set(INDEX_BYTES_MAX);
    let length = file_bytes.saturating_sub(start);
    let is_untyped = mp4.as_ref().is_some_and(|track| !track.is_typed);
    let source = Metered::new(source, start, length, &allowance).map_err(damaged)?;
    let source = source
        .cut(matroska_is_cut(prefix, length))
        .overlaid(overlay);
    let source = source.followed(if is_untyped { isomp4::TYPE } else { &[] });
    let mut stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
    let metadata = MetadataOptions::default()
        .limit_tag_bytes(Limit::Maximum(TAG_BYTES_MAX))
        .limit_visual_bytes(Limit::Maximum(TAG_BYTES_MAX));
    let mp4_is_known = isomp4::is_mp4(prefix);
    let options = FormatOptions::default();
    let format = if is_untyped {
        // The demultiplexer expects to begin behind the first four bytes.
        stream.ignore_bytes(4).map_err(damaged)?;
        IsoMp4Reader::try_probe_new(stream, options)
    } else {
        symphonia::default::get_probe().probe(&Hint::new(), stream, options, metadata)
    };
    let format = format.map_err(|error| match error {
        _ if allowance.is_exceeded() => AudioError::TooLarge {
            part: "index",
            bytes_max: INDEX_BYTES_MAX,
        },
        // An MP4 has its index at the end, where no writer returned to.
        SymphoniaError::Unsupported(_) if mp4_is_known => damaged(
            "it ends before its index, as where a recorder was stopped or a copy was cut short",
        ),
        error => match (known(prefix), error) {
            (Some(name), _) => damaged(format!("it begins as {name}, but does not go on as such")),
            (None, SymphoniaError::Unsupported(_)) => AudioError::Unknown {
                reason: "its first bytes are those of none of them".into(),
            },
            (None, error) => AudioError::Unknown {
                reason: error.to_string(),
            },
        },
    })?;
    let unread_codec = || {
        let (name, extension) = match (&mp4, matroska_codec(prefix)) {
            (Some(track), _) => (track.codec_name(), "mp4"),
            (None, Some(codec)) => (codec, "mkv"),
            (None, None) => ("such".into(), "file"),
        };
        AudioError::Unread(Unread::codec(name, extension))
    };
    let track = format
        .default_track(TrackType::Audio)
        .or_else(|| format.first_track(TrackType::Audio));
    let Some(track) = track else {
        // The demultiplexer leaves out tracks whose codec it does not know.
        return Err(match (&mp4, matroska_codec(prefix)) {
            (None, None) => AudioError::Unread(Unread::without_sound()),
            _ => unread_codec(),
        });
    };
    let parameters = (track.codec_params.as_ref()).and_then(|parameters| parameters.audio());
    let Some(parameters) = parameters.filter(|parameters| parameters.codec != CODEC_ID_NULL_AUDIO)
    else {
        return Err(unread_codec());
    };
    let mut parameters = parameters.clone();
    let lead_in = lead_in(mp4.as_ref(), track.delay, &mut parameters);
    let extension = match prefix {
        _ if mp4.is_some() => "m4a",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "mkv",
        _ => "aac",
    };
    let unread = || match parameters.codec {
        CODEC_ID_AAC => aac::undecoded(&parameters).map(|name| Unread::codec(name, extension)),
        _ => None,
    };
    let unread = || unread().map_or_else(&unread_codec, AudioError::Unread);
    let decoder = if parameters.codec == CODEC_ID_OPUS {
        let channels = (parameters.channels.as_ref()).map_or(1, |channels| channels.count());
        let header = parameters.extra_data.as_deref().unwrap_or_default();
        let mut stream = PacketStream::new(header, u8::try_from(channels).unwrap_or(u8::MAX))?;
        if lead_in > 0 {
            stream.skip_nothing();
        }
        Decoder::Opus(Box::new(stream))
    } else {
        let made = symphonia::default::get_codecs()
            .make_audio_decoder(&parameters, &AudioDecoderOptions::default());
        match made {
            Ok(decoder) => Decoder::Library(Box::new(Library::new(decoder))),
            Err(SymphoniaError::Unsupported(_)) => return Err(unread()),
            Err(_) if parameters.codec == CODEC_ID_AAC && aac::undecoded(&parameters).is_some() => {
                return Err(unread());
            }
            Err(error) => return Err(damaged(error)),
        }
    };
    let chosen = Chosen {
        track: track.id,
        decoder,
        lead_in,
        packets_max: mp4.map_or(PACKETS_MAX, |track| {
            PACKETS_MAX.min(STEPS_MAX / track.run_count.max(1))
        }),
    };
    read_packets(format, chosen, &allowance, mixer)
}

/// Name of the container that a file's first bytes are of.
fn known(prefix: &[u8]) -> Option<&'static str> {
    const CONTAINERS: [(&[u8], &str); 4] = [
        (b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
        (b"fLaC", "FLAC"),
        (b"OggS", "Ogg"),
        (b"caff", "CAF"),
    ];
    let known = (CONTAINERS.iter()).find(|(mark, _)| prefix.starts_with(mark));
    let is_mp4 = isomp4::is_mp4(prefix).then_some("MP4 or QuickTime");
    known.map(|(_, name)| *name).or(is_mp4)
}

/// The size of a data box that states none, and its place from `start` on: the demultiplexer wants
/// one.
fn sized(track: &SoundTrack, start: u64) -> Option<(u64, Vec<u8>)> {
    let (position, length) = track.endless?;
    let size = u32::try_from(length).ok()?;
    Some((position.checked_sub(start)?, size.to_be_bytes().to_vec()))
}

/// The track to decode.
struct Chosen {
    track: u32,
    decoder: Decoder,
    /// Encoder delay in frames, if the packets do not state it themselves.
    lead_in: u64,
    /// Limit of the number of packets, over all tracks.
    packets_max: u64,
}

/// Delay of encoder and decoder in frames: as the container states it, or the usual one of the
/// codec.
fn lead_in(
    mp4: Option<&SoundTrack>,
    delay: Option<u32>,
    parameters: &mut AudioCodecParameters,
) -> u64 {
    let stated = u64::from(parameters.sample_rate.unwrap_or(0));
    if parameters.codec == CODEC_ID_AAC {
        aac::reduce_to_core(parameters);
    }
    let rate = u64::from(parameters.sample_rate.unwrap_or(0));
    if let Some(track) = mp4.filter(|track| track.skipped > 0 && track.timescale > 0) {
        return track.skipped.saturating_mul(rate) / u64::from(track.timescale);
    }
    if let Some(delay) = delay {
        return u64::from(delay).saturating_mul(rate) / stated.max(1);
    }
    match parameters.codec {
        // Overlap of the first window.
        CODEC_ID_AAC => 1024,
        // The filter bank and, for layer III, the transform and the delay of the most common
        // encoder.
        CODEC_ID_MP3 => 528 + 1 + 576,
        CODEC_ID_MP1 | CODEC_ID_MP2 => 481,
        _ => 0,
    }
}

/// Decodes a payload that its container only frames.
pub(super) fn decode_payload(
    source: impl MediaSource,
    payload: &Payload,
    mixer: &mut Mixer,
) -> Result<(), AudioError> {
    let Coding::Blocks(blocks) = payload.coding else {
        let end = payload.start.saturating_add(payload.length);
        return decode(source, payload.start, end, &[], None, mixer);
    };
    let allowance = Allowance::default();
    allowance.set(u64::MAX);
    let source = Metered::new(source, payload.start, payload.length, &allowance);
    let source = source.map_err(damaged)?;
    decode_blocks(Packets::new(source, payload, blocks), mixer)
}

/// Decodes the chunks of an MP4's sound track, which its container only frames.
pub(super) fn decode_chunks(
    source: impl MediaSource,
    chunks: &Chunks,
    mixer: &mut Mixer,
) -> Result<(), AudioError> {
    mixer.skip(chunks.skipped);
    let reader = ChunkReader::new(source, chunks);
    decode_blocks(Packets::new(reader, &chunks.payload, chunks.blocks), mixer)
}

fn decode_blocks(mut packets: Packets<impl Read>, mixer: &mut Mixer) -> Result<(), AudioError> {
    if packets.parameters().codec == CODEC_ID_ADPCM_IMA_QT {
        return decode_ima(packets, mixer);
    }
    let decoder = symphonia::default::get_codecs()
        .make_audio_decoder(packets.parameters(), &AudioDecoderOptions::default())
        .map_err(damaged)?;
    let mut library = Library::new(decoder);
    while !mixer.has_enough() {
        let Some(packet) = packets.next().map_err(damaged)? else {
            break;
        };
        library.take(&packet, mixer)?;
    }
    Ok(())
}

fn decode_ima(mut packets: Packets<impl Read>, mixer: &mut Mixer) -> Result<(), AudioError> {
    let parameters = packets.parameters();
    let channels = (parameters.channels.as_ref()).map_or(1, |channels| channels.count());
    let sample_rate = parameters.sample_rate.unwrap_or(0);
    let mut decoder = ima::Decoder::new(channels);
    let mut samples = Vec::new();
    while !mixer.has_enough() {
        let Some(packet) = packets.next().map_err(damaged)? else {
            break;
        };
        decoder.decode(&packet.data, &mut samples);
        mixer.add(&samples, channels, sample_rate)?;
    }
    Ok(())
}

enum Decoder {
    Library(Box<Library>),
    Opus(Box<PacketStream>),
}

struct Library {
    decoder: Box<dyn AudioDecoder>,
    interleaved: Vec<f32>,
}

impl Library {
    fn new(decoder: Box<dyn AudioDecoder>) -> Library {
        Library {
            decoder,
            interleaved: Vec::new(),
        }
    }

    fn take(&mut self, packet: &Packet, mixer: &mut Mixer) -> Result<(), AudioError> {
        let buffer: GenericAudioBufferRef<'_> = match self.decoder.decode(packet) {
            Ok(buffer) => buffer,
            // The packet ends within its data: it is the last one, or bytes are missing in it.
            Err(SymphoniaError::IoError(_)) => return mixer.pass_over("a packet is cut short"),
            // Damage may look like a feature that the decoder has not.
            Err(SymphoniaError::DecodeError(reason) | SymphoniaError::Unsupported(reason)) => {
                return mixer.pass_over(reason);
            }
            Err(error) => return Err(damaged(error)),
        };
        let channels = buffer.spec().channels().count();
        let sample_rate = buffer.spec().rate();
        buffer.copy_to_vec_interleaved(&mut self.interleaved);
        mixer.add(&self.interleaved, channels, sample_rate)
    }
}

fn read_packets(
    mut format: Box<dyn FormatReader + '_>,
    mut chosen: Chosen,
    allowance: &Allowance,
    mixer: &mut Mixer,
) -> Result<(), AudioError> {
    let mut is_first = true;
    for _ in 0..chosen.packets_max {
        if mixer.has_enough() {
            break;
        }
        allowance.set(PACKET_BYTES_MAX);
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            _ if allowance.is_exceeded() => {
                return Err(AudioError::TooLarge {
                    part: "packet",
                    bytes_max: PACKET_BYTES_MAX,
                });
            }
            // End of the file, or of its intact part. The second part of a chained stream is not
            // read.
            Ok(None) | Err(SymphoniaError::ResetRequired) => break,
            Err(error) if is_end(&error) => break,
            // A second recording, or anything else, may follow the first.
            Err(_) if mixer.has_sound() => break,
            Err(error) => return Err(damaged(error)),
        };
        if packet.track_id != chosen.track {
            continue;
        }
        if is_first && packet.trim_start == Duration::ZERO {
            mixer.skip(chosen.lead_in);
        }
        is_first = false;
        match &mut chosen.decoder {
            Decoder::Library(library) => library.take(&packet, mixer)?,
            Decoder::Opus(stream) => stream.take(&packet.data, mixer)?,
        }
    }
    Ok(())
}

fn is_end(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// Whether the segment of a Matroska file is longer than the file, which has `length` bytes.
fn matroska_is_cut(prefix: &[u8], length: u64) -> bool {
    const HEADER: &[u8] = b"\x1a\x45\xdf\xa3";
    const SEGMENT: &[u8] = b"\x18\x53\x80\x67";
    let end = |place: usize, id: &[u8]| {
        let rest = prefix.get(place..)?.strip_prefix(id)?;
        let (size, size_bytes) = matroska_size(rest)?;
        Some((place + id.len() + size_bytes) as u64 + size)
    };
    let segment = end(0, HEADER).and_then(|place| usize::try_from(place).ok());
    segment
        .and_then(|place| end(place, SEGMENT))
        .is_some_and(|end| end > length)
}

/// The size at the start of `bytes`, and its own length; `None` for an unknown size.
fn matroska_size(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = first.leading_zeros() as usize + 1;
    let rest = bytes.get(1..length)?;
    let head = u64::from(first) & (0x7f >> (length - 1));
    let size = (rest.iter()).fold(head, |size, &byte| size << 8 | u64::from(byte));
    let unknown = (1 << (7 * length)) - 1;
    (size != unknown).then_some((size, length))
}

/// Name of the codec in a Matroska header, for codecs unknown to the demultiplexer.
fn matroska_codec(prefix: &[u8]) -> Option<String> {
    if !prefix.starts_with(b"\x1a\x45\xdf\xa3") {
        return None;
    }
    // The byte before it is the name's length.
    let place = prefix.windows(2).position(|pair| pair == b"A_")?;
    let length = usize::from(prefix.get(place.checked_sub(1)?)? & 0x7f);
    let name = prefix.get(place..)?.get(..length)?;
    Some(match name {
        b"A_AC3" => "Dolby Digital (AC-3)".into(),
        b"A_EAC3" => "Dolby Digital Plus (E-AC-3)".into(),
        b"A_TRUEHD" => "Dolby TrueHD".into(),
        b"A_WAVPACK4" => "WavPack".into(),
        b"A_TTA1" => "True Audio".into(),
        name if name.starts_with(b"A_DTS") => "DTS".into(),
        name => format!("\"{}\" in Matroska", name.escape_ascii()),
    })
}
