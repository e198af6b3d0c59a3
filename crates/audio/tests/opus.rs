//! Opus is decoded again by libopus, which shares no code with the encoder.

#![cfg(feature = "opus")]

use sottovoce_audio::{AudioFormat, Encoder};
use unsafe_libopus::{OpusDecoder, opus_decode_float, opus_decoder_create, opus_decoder_destroy};

const SAMPLE_RATE: i32 = 24_000;
/// Samples of the longest packet, 120 ms.
const PACKET_SAMPLES_MAX: usize = 2880;

/// The packets of an Ogg file with one stream: each page has a table of lengths, and a length below
/// 255 ends a packet.
fn packets(ogg: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut packet) = (Vec::new(), Vec::new());
    let mut rest = ogg;
    while !rest.is_empty() {
        assert!(rest.starts_with(b"OggS"), "a page begins where one ends");
        let (head, after) = rest.split_at(27);
        let (lengths, mut body) = after.split_at(usize::from(head[26]));
        for &length in lengths {
            let (part, others) = body.split_at(usize::from(length));
            packet.extend_from_slice(part);
            body = others;
            if length < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        rest = body;
    }
    packets
}

struct Libopus(*mut OpusDecoder);

impl Libopus {
    fn new() -> Libopus {
        let mut status = 0;
        // SAFETY: `status` outlives the call, and the values are ones that the library takes.
        let decoder = unsafe { opus_decoder_create(SAMPLE_RATE, 1, &raw mut status) };
        assert!(status == 0 && !decoder.is_null(), "{status}");
        Libopus(decoder)
    }

    fn decode(&mut self, packet: &[u8]) -> Vec<f32> {
        let mut samples = vec![0.0; PACKET_SAMPLES_MAX];
        // SAFETY: the decoder lives, and both buffers are as long as the call is told.
        let count = unsafe {
            opus_decode_float(
                &mut *self.0,
                packet.as_ptr(),
                packet.len() as i32,
                samples.as_mut_ptr(),
                PACKET_SAMPLES_MAX as i32,
                0,
            )
        };
        assert!(count > 0, "libopus refuses a packet: {count}");
        samples.truncate(count as usize);
        samples
    }
}

impl Drop for Libopus {
    fn drop(&mut self) {
        // SAFETY: it was created in `new`, and is destroyed once.
        unsafe { opus_decoder_destroy(self.0) }
    }
}

/// Cosine similarity of what was written and what is heard.
fn likeness(written: &[f32], heard: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let energies = dot(written, written) * dot(heard, heard);
    dot(written, heard) / energies.sqrt().max(1e-9)
}

#[test]
fn libopus_hears_in_each_packet_what_was_written() {
    // A sweep, which has a single best delay.
    let samples: Vec<f32> = (0..SAMPLE_RATE as usize)
        .map(|index| {
            let time = index as f32 / SAMPLE_RATE as f32;
            0.4 * (std::f32::consts::TAU * (200.0 + 900.0 * time) * time).sin()
        })
        .collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(AudioFormat::Opus, SAMPLE_RATE as u32).unwrap();
    encoder.encode(&samples, &mut bytes).unwrap();
    encoder.finish(&mut bytes).unwrap();
    let packets = packets(&bytes);
    let (head, tags) = (&packets[0], &packets[1]);
    assert!(head.starts_with(b"OpusHead") && tags.starts_with(b"OpusTags"));
    // Samples before the first, at 48 kHz.
    let skipped = usize::from(u16::from_le_bytes([head[10], head[11]])) / 2;
    let mut libopus = Libopus::new();
    let decoded: Vec<f32> = (packets[2..].iter())
        .flat_map(|packet| libopus.decode(packet))
        .collect();
    let heard = &decoded[skipped..];
    assert!(heard.len() >= samples.len(), "{} samples", heard.len());
    let likeness = likeness(&samples, heard);
    assert!(likeness > 0.9, "likeness {likeness}");
}
