//! Every format is decoded again: MP3, AAC and FLAC by other libraries than wrote them, Opus by its
//! own here and by libopus in `opus.rs`.

use sottovoce_audio::{AudioFormat, Encoder};
use sottovoce_formats::audio::{DecodeOptions, decode};

const SAMPLE_RATE: u32 = 24_000;

fn tone(sample_count: usize) -> Vec<f32> {
    (0..sample_count)
        .map(|index| 0.4 * (index as f32 * 0.08).sin())
        .collect()
}

fn built() -> impl Iterator<Item = AudioFormat> {
    AudioFormat::ALL
        .into_iter()
        .filter(|format| format.is_built())
}

fn encoded(format: AudioFormat, samples: &[f32], piece: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(format, SAMPLE_RATE).unwrap();
    let mut bytes = Vec::new();
    for samples in samples.chunks(piece) {
        encoder.encode(samples, &mut bytes).unwrap();
    }
    encoder.finish(&mut bytes).unwrap();
    for patch in encoder.patches() {
        let start = patch.offset as usize;
        bytes[start..start + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    bytes
}

/// The samples that the reader of recordings decodes.
fn decoded(bytes: &[u8]) -> Vec<f32> {
    let options = DecodeOptions::whole(60, SAMPLE_RATE);
    decode(bytes, &options).unwrap().samples
}

/// Cosine similarity of `expected` and `found`, shifted by the best delay up to `delay_max`.
fn cosine_similarity(expected: &[f32], found: &[f32], delay_max: usize) -> f32 {
    let cosine = |delay: usize| {
        let pairs = || expected.iter().zip(&found[delay.min(found.len())..]);
        let product: f32 = pairs().map(|(a, b)| a * b).sum();
        let energies: [f32; 2] = [
            pairs().map(|(a, _)| a * a).sum(),
            pairs().map(|(_, b)| b * b).sum(),
        ];
        product / (energies[0] * energies[1]).sqrt().max(1e-9)
    };
    (0..=delay_max).map(cosine).fold(f32::MIN, f32::max)
}

/// A sweep: unlike a tone, it has a single best delay.
fn sweep(sample_count: usize) -> Vec<f32> {
    (0..sample_count)
        .map(|index| {
            let time = index as f32 / SAMPLE_RATE as f32;
            0.4 * (std::f32::consts::TAU * (200.0 + 900.0 * time) * time).sin()
        })
        .collect()
}

#[test]
fn every_recording_decodes_to_the_original_samples() {
    let samples = sweep(24_000);
    for format in built().filter(|format| *format != AudioFormat::Pcm) {
        let found = decoded(&encoded(format, &samples, 1700));
        let lossless = matches!(format, AudioFormat::Wav | AudioFormat::Flac);
        if lossless {
            assert_eq!(found.len(), samples.len(), "{format}: samples");
        }
        let (least, delay_max) = match format {
            _ if lossless => (0.999_99, 0),
            // Opus preserves the energy of a band, not its waveform.
            AudioFormat::Opus => (0.9, 3000),
            _ => (0.99, 3000),
        };
        let likeness = cosine_similarity(&samples, &found, delay_max);
        assert!(
            likeness >= least,
            "{format}: likeness {likeness} to what was written"
        );
    }
}

#[test]
fn the_size_of_the_pieces_does_not_change_the_bytes() {
    let samples = tone(30_001);
    for format in built() {
        let whole = encoded(format, &samples, samples.len());
        let pieces = encoded(format, &samples, 777);
        assert!(
            whole == pieces,
            "{format}: pieces of 777 samples must give the same recording as one piece"
        );
    }
}

#[test]
fn an_empty_recording_can_be_written_in_every_format() {
    for format in built() {
        encoded(format, &[], 1);
    }
}

#[test]
fn every_format_starts_with_its_magic_bytes() {
    let samples = tone(20_000);
    let marks: [(AudioFormat, &[u8], &[u8]); 5] = [
        (AudioFormat::Wav, b"RIFF", &[]),
        (AudioFormat::Flac, b"fLaC", &[]),
        (AudioFormat::Opus, b"OggS", &[]),
        // The sync word of MPEG-2 layer III without a checksum.
        (AudioFormat::Mp3, &[0xff], &[0xf3]),
        // The sync word of ADTS, MPEG-4 or MPEG-2, without a checksum.
        (AudioFormat::Aac, &[0xff], &[0xf1, 0xf9]),
    ];
    for (format, mark, second) in marks.into_iter().filter(|(format, ..)| format.is_built()) {
        let bytes = encoded(format, &samples, 4000);
        assert!(bytes.starts_with(mark), "{format} must start with its mark");
        assert!(
            second.is_empty() || second.contains(&bytes[1]),
            "{format}: second byte {:#x}",
            bytes[1]
        );
    }
}

#[test]
fn a_recording_of_any_length_can_be_written_in_every_format() {
    for format in built() {
        for rest in [1, 31, 32, 33] {
            encoded(format, &tone(4096 + rest), 1000);
        }
    }
}

#[test]
fn a_format_that_was_not_built_is_refused_by_name() {
    for format in AudioFormat::ALL
        .into_iter()
        .filter(|format| !format.is_built())
    {
        let refusal = Encoder::new(format, SAMPLE_RATE).err().unwrap();
        assert!(refusal.to_string().contains(format.name()), "{refusal}");
        assert!(refusal.is_input());
    }
}

#[test]
fn a_wav_header_counts_the_samples_written() {
    let bytes = encoded(AudioFormat::Wav, &tone(1234), 100);
    assert_eq!(bytes.len(), 44 + 2 * 1234);
    assert_eq!(
        u32::from_le_bytes(bytes[40..44].try_into().unwrap()),
        2 * 1234
    );
    assert_eq!(
        u32::from_le_bytes(bytes[4..8].try_into().unwrap()),
        36 + 2 * 1234
    );
}

#[test]
fn samples_beyond_full_scale_are_clipped() {
    let bytes = encoded(AudioFormat::Pcm, &[2.0, -2.0, f32::NAN, 0.0], 4);
    assert_eq!(bytes, [0xff, 0x7f, 0x00, 0x80, 0, 0, 0, 0]);
    for format in built() {
        encoded(format, &[2.0, f32::NAN, f32::INFINITY], 3);
    }
}

#[test]
fn a_file_name_selects_its_format_or_is_refused_by_name() {
    let format = AudioFormat::from_path("a/b.OGG".as_ref()).unwrap();
    assert_eq!(format, AudioFormat::Opus);
    for name in ["/dev/full", "speech", "speech.wma", ".wav"] {
        let refusal = AudioFormat::from_path(name.as_ref()).unwrap_err();
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
}
