use super::*;

const SAMPLE_RATE: u32 = 24_000;

fn tone(sample_count: usize) -> Vec<f32> {
    (0..sample_count)
        .map(|index| 0.4 * (index as f32 * 0.08).sin())
        .collect()
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

#[test]
fn the_size_of_the_pieces_does_not_change_the_bytes() {
    let samples = tone(30_001);
    for format in AudioFormat::ALL {
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
    for format in AudioFormat::ALL {
        encoded(format, &[], 1);
    }
}

#[test]
fn every_format_starts_with_its_own_mark() {
    let samples = tone(20_000);
    let marks: [(AudioFormat, &[u8]); 5] = [
        (AudioFormat::Wav, b"RIFF"),
        (AudioFormat::Flac, b"fLaC"),
        (AudioFormat::Opus, b"OggS"),
        (AudioFormat::Mp3, &[0xff]),
        (AudioFormat::Aac, &[0xff]),
    ];
    for (format, mark) in marks {
        assert!(
            encoded(format, &samples, 4000).starts_with(mark),
            "{format} must start with its mark"
        );
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
fn samples_beyond_full_scale_are_pinned() {
    let bytes = encoded(AudioFormat::Pcm, &[2.0, -2.0, f32::NAN, 0.0], 4);
    assert_eq!(bytes, [0xff, 0x7f, 0x00, 0x80, 0, 0, 0, 0]);
    encoded(AudioFormat::Aac, &[2.0, f32::NAN, f32::INFINITY], 3);
}

#[test]
fn a_file_is_valid_before_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.wav");
    let mut sink = FileSink::create(&path, SAMPLE_RATE).unwrap();
    sink.write(&tone(500)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        u32::from_le_bytes(bytes[40..44].try_into().unwrap()),
        1000,
        "the header must count what is there"
    );
    sink.finish().unwrap();
}

#[test]
fn a_name_without_a_known_extension_is_refused_before_the_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.txt");
    assert!(FileSink::create(&path, SAMPLE_RATE).is_err());
    assert!(!path.exists());
}

#[test]
fn a_files_name_says_its_format_or_is_named_in_the_refusal() {
    let format = AudioFormat::from_path("a/b.OGG".as_ref()).unwrap();
    assert_eq!(format, AudioFormat::Opus);
    for name in ["/dev/full", "speech", "speech.wma", ".wav"] {
        let refusal = AudioFormat::from_path(name.as_ref()).unwrap_err();
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
}
