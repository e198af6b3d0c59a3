//! Decoding of every format, rate and sample width, and of truncated, renamed and inconsistent
//! files.

use sottovoce_formats::audio::{
    AudioError, DecodeOptions, Mix, Recording, decode, decode_file, decode_pieces,
};
use std::io::Cursor;
use std::ops::ControlFlow;

/// Half a second of 440 Hz, amplitude ¼, written by `reference/audio.py`.
const FILES: [(&str, &[u8], u32, f32); 6] = [
    (
        "vorbis.ogg",
        include_bytes!("data/audio/vorbis.ogg"),
        44_100,
        0.25,
    ),
    (
        "opus.ogg",
        include_bytes!("data/audio/opus.ogg"),
        48_000,
        0.25,
    ),
    // The second channel is silent, so the mean is half.
    (
        "stereo.flac",
        include_bytes!("data/audio/stereo.flac"),
        44_100,
        0.125,
    ),
    (
        "mpeg.mp3",
        include_bytes!("data/audio/mpeg.mp3"),
        22_050,
        0.25,
    ),
    (
        "ima.wav",
        include_bytes!("data/audio/ima.wav"),
        16_000,
        0.25,
    ),
    (
        "microsoft.wav",
        include_bytes!("data/audio/microsoft.wav"),
        16_000,
        0.25,
    ),
];

fn options() -> DecodeOptions {
    DecodeOptions::whole(600, 24_000)
}

/// Options for a result at the file's own rate.
fn at(sample_rate: u32) -> DecodeOptions {
    DecodeOptions {
        sample_rate,
        ..options()
    }
}

/// Amplitude of a frequency in the middle of a recording, and the share of power outside of it.
fn tone(recording: &Recording, frequency: f64) -> (f32, f32) {
    let samples = &recording.samples;
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    let (mut sine, mut cosine, mut power) = (0.0, 0.0, 0.0);
    for (index, &sample) in middle.iter().enumerate() {
        let angle =
            std::f64::consts::TAU * frequency * index as f64 / f64::from(recording.sample_rate);
        sine += f64::from(sample) * angle.sin();
        cosine += f64::from(sample) * angle.cos();
        power += f64::from(sample).powi(2);
    }
    let count = middle.len() as f64;
    let amplitude = 2.0 * sine.hypot(cosine) / count;
    let rest = 1.0 - amplitude.powi(2) / 2.0 * count / power;
    (amplitude as f32, rest as f32)
}

fn assert_is_the_tone(name: &str, recording: &Recording, rate: u32, amplitude: f32) {
    assert_eq!(recording.sample_rate, rate, "{name}");
    let seconds = recording.samples.len() as f32 / rate as f32;
    assert!((0.49..0.6).contains(&seconds), "{name} lasts {seconds} s");
    let (found, rest) = tone(recording, 440.0);
    assert!(
        (found / amplitude - 1.0).abs() < 0.05 && rest < 0.01,
        "{name}: amplitude {found} in place of {amplitude}, {rest} of the power is something else"
    );
}

/// A WAV file; formats other than plain integers (1) have an empty extension.
fn wav(format: u16, bits: u16, channels: u16, rate: u32, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let extension: &[u8] = if format == 1 { &[] } else { &[0, 0] };
    let mut file = b"RIFF".to_vec();
    file.extend((36 + (extension.len() + data.len()) as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend((16 + extension.len() as u32).to_le_bytes());
    file.extend(format.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(block)).to_le_bytes());
    file.extend(block.to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(extension);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn samples(rate: u32) -> Vec<f64> {
    (0..rate / 2)
        .map(|index| {
            0.25 * (std::f64::consts::TAU * 440.0 * f64::from(index) / f64::from(rate)).sin()
        })
        .collect()
}

fn wav_16(rate: u32, channels: u16, samples: &[f64]) -> Vec<u8> {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|&sample| {
            ((sample * 32_767.0) as i16)
                .to_le_bytes()
                .repeat(channels.into())
        })
        .collect();
    wav(1, 16, channels, rate, &data)
}

/// Encodes a sample as µ-law, G.711.
fn mu_law(sample: f64) -> u8 {
    let magnitude = ((sample.abs() * 32_767.0) as i32 + 132).min(32_635);
    let exponent = (magnitude >> 7).ilog2() as i32;
    let mantissa = (magnitude >> (exponent + 3)) & 15;
    let sign = if sample < 0.0 { 0x80 } else { 0 };
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

/// A CAF of µ-law samples; a data chunk of `size` bytes, its number of edits included.
fn caf(rate: u32, samples: &[f64], size: i64) -> Vec<u8> {
    let mut file = b"caff\0\x01\0\0desc".to_vec();
    file.extend(32_i64.to_be_bytes());
    file.extend(f64::from(rate).to_be_bytes());
    file.extend(b"ulaw");
    for field in [0_u32, 1, 1, 1, 8] {
        file.extend(field.to_be_bytes());
    }
    file.extend(b"free");
    file.extend(3_i64.to_be_bytes());
    file.extend(b"...data");
    file.extend(size.to_be_bytes());
    file.extend([0; 4]);
    file.extend(samples.iter().map(|&sample| mu_law(sample)));
    file
}

#[test]
fn companded_samples_in_a_caf_are_read_whatever_size_it_states() {
    let tone = samples(16_000);
    for size in [tone.len() as i64 + 4, -1, i64::MAX] {
        let recording = decode(&caf(16_000, &tone, size), &at(16_000)).unwrap();
        assert_is_the_tone("a CAF", &recording, 16_000, 0.25);
    }
    // The header has 83 bytes.
    for length in 0..=83 {
        let whole = caf(16_000, &tone, -1);
        assert!(decode(&whole[..length], &at(16_000)).is_err(), "{length}");
    }
}

#[test]
fn every_compressed_format_decodes_to_the_original_tone() {
    for (name, bytes, rate, amplitude) in FILES {
        assert_is_the_tone(name, &decode(bytes, &at(rate)).unwrap(), rate, amplitude);
    }
}

#[test]
fn wav_files_of_every_width_rate_and_channel_count_are_read() {
    for rate in [8_000, 22_050, 44_100, 192_000] {
        let tone = samples(rate);
        let scaled = |scale: f64| tone.iter().map(move |&sample| (sample * scale) as i32);
        let unsigned: Vec<u8> = scaled(127.0).map(|sample| (sample + 128) as u8).collect();
        let three: Vec<u8> = scaled(8_388_607.0)
            .flat_map(|sample| sample.to_le_bytes()[..3].to_vec())
            .collect();
        let four: Vec<u8> = scaled(2_147_483_647.0).flat_map(i32::to_le_bytes).collect();
        let float: Vec<u8> = tone
            .iter()
            .flat_map(|&sample| (sample as f32).to_le_bytes())
            .collect();
        let double: Vec<u8> = tone
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let logarithmic: Vec<u8> = tone.iter().map(|&sample| mu_law(sample)).collect();
        for (name, file) in [
            ("8 bits", wav(1, 8, 1, rate, &unsigned)),
            ("16 bits", wav_16(rate, 1, &tone)),
            ("24 bits", wav(1, 24, 1, rate, &three)),
            ("32 bits", wav(1, 32, 1, rate, &four)),
            ("float", wav(3, 32, 1, rate, &float)),
            ("double", wav(3, 64, 1, rate, &double)),
            ("µ-law", wav(7, 8, 1, rate, &logarithmic)),
            ("six channels", wav_16(rate, 6, &tone)),
        ] {
            let recording = decode(&file, &at(rate)).unwrap();
            assert_is_the_tone(&format!("{name} at {rate}"), &recording, rate, 0.25);
        }
    }
}

#[test]
fn a_file_decodes_like_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, ..) in FILES {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let from_file = decode_file(std::fs::File::open(&path).unwrap(), &options()).unwrap();
        assert_eq!(from_file, decode(bytes, &options()).unwrap(), "{name}");
    }
}

#[test]
fn a_stream_whose_header_states_no_length_is_read_to_its_end() {
    let mut file = wav_16(24_000, 1, &samples(24_000));
    file[4..8].fill(0xff);
    file[40..44].fill(0xff);
    assert_is_the_tone(
        "open length",
        &decode(&file, &options()).unwrap(),
        24_000,
        0.25,
    );
}

#[test]
fn a_truncated_file_decodes_to_its_intact_part_or_an_error() {
    for (name, bytes, ..) in FILES {
        let whole = decode(bytes, &options()).unwrap().samples.len();
        let mut most = 0;
        for length in (0..bytes.len()).step_by(97) {
            if let Ok(part) = decode(&bytes[..length], &options()) {
                assert!(part.samples.len() <= whole, "{name}");
                most = most.max(part.samples.len());
            }
        }
        let cut = decode(&bytes[..bytes.len() - 3], &options());
        // An Ogg page of about a second is lost as a whole.
        let is_ogg = name.ends_with("ogg");
        assert!(
            is_ogg || !matches!(cut, Err(AudioError::Damaged { .. })),
            "{name}: {cut:?}"
        );
        let least = if is_ogg { 0 } else { whole / 2 };
        assert!(most >= least, "{name}: only {most} of {whole} samples");
    }
}

#[test]
fn a_recording_above_the_limit_is_refused_without_being_held() {
    let short = DecodeOptions::whole(1, 8_000);
    let file = wav_16(8_000, 1, &[0.1; 8_001]);
    assert!(matches!(
        decode(&file, &short),
        Err(AudioError::TooLong { seconds_max: 1 })
    ));
    assert!(decode(&wav_16(8_000, 1, &[0.1; 8_000]), &short).is_ok());
}

#[test]
fn the_beginning_of_a_long_recording_equals_that_of_the_whole() {
    let tone = samples(44_100);
    let file = wav_16(44_100, 2, &tone.repeat(8));
    let whole = decode(&file, &options()).unwrap().samples;
    let first = decode(&file, &DecodeOptions::first(2, 24_000))
        .unwrap()
        .samples;
    assert_eq!(first.len(), 48_000);
    assert_eq!(first, whole[..48_000]);
}

#[test]
fn an_hour_is_refused_or_cut_even_if_its_header_hides_the_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hour.wav");
    let mut header = wav_16(8_000, 1, &[]);
    header[4..8].fill(0xff);
    header[40..44].fill(0xff);
    std::fs::write(&path, header).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Two bytes per sample in a sparse file of zeros.
    file.set_len(44 + 3_600 * 8_000 * 2).unwrap();
    let open = || std::fs::File::open(&path).unwrap();
    let error = decode_file(open(), &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 600 s"), "{error}");
    let first = decode_file(open(), &DecodeOptions::first(3, 24_000)).unwrap();
    assert_eq!(first.samples.len(), 72_000);
}

#[test]
fn files_that_are_not_recordings_are_refused_with_the_supported_formats() {
    let junk: Vec<u8> = (0..50_000u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (name, bytes) in [
        ("text", b"no recording at all".as_slice()),
        ("junk", &junk),
        ("zeros", &[0; 10_000]),
        ("a zip", b"PK\x03\x04 and more"),
        ("a page", b"OggS and no more"),
        ("a header alone", b"RIFF\xff\xff\xff\xffWAVE"),
    ] {
        let error = decode(bytes, &options()).unwrap_err();
        assert!(
            matches!(
                error,
                AudioError::Unknown { .. } | AudioError::Damaged { .. } | AudioError::Unread(_)
            ),
            "{name}: {error}"
        );
    }
    assert!(matches!(decode(b"", &options()), Err(AudioError::Empty)));
    let silent_header = wav_16(24_000, 1, &[]);
    assert!(matches!(
        decode(&silent_header, &options()),
        Err(AudioError::Empty)
    ));
}

#[test]
fn rates_and_channel_counts_beyond_the_limits_are_named() {
    let error = decode(&wav_16(1_000, 1, &[0.1; 100]), &options()).unwrap_err();
    assert!(
        error.to_string().contains("1000 samples per second"),
        "{error}"
    );
    let error = decode(&wav(1, 8, 0, 8_000, &[0; 100]), &options());
    assert!(error.is_err(), "no channel, no sound");
}

/// All samples of a recording that is decoded piece by piece, its largest piece, and the better
/// mix.
fn in_pieces(file: &[u8], mix: Mix) -> Result<(Vec<f32>, usize, Mix), AudioError> {
    let (mut samples, mut largest) = (Vec::new(), 0);
    let better = decode_pieces(Cursor::new(file), 24_000, mix, &mut |piece| {
        largest = largest.max(piece.len());
        samples.extend_from_slice(piece);
        ControlFlow::Continue(())
    })?;
    Ok((samples, largest, better))
}

#[test]
fn a_recording_in_pieces_is_the_recording_in_one() {
    for (name, file, ..) in FILES {
        let whole = decode(file, &options()).unwrap().samples;
        let (samples, largest, better) = in_pieces(file, Mix::Mean).unwrap();
        assert_eq!(better, Mix::Mean, "{name}");
        assert!(largest < 30_000, "{name}: {largest} samples in one piece");
        assert!(samples == whole, "{name}");
    }
    assert!(matches!(in_pieces(b"", Mix::Mean), Err(AudioError::Empty)));
}

#[test]
fn channels_that_cancel_out_are_told_after_the_last_piece_and_the_loudest_is_heard() {
    let tone = |index: u32| ((f64::from(index) * 0.05).sin() * 8000.0) as i16;
    let frames = 24_000u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + 4 * frames).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    file.extend(24_000u32.to_le_bytes());
    file.extend((4 * 24_000u32).to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend((4 * frames).to_le_bytes());
    for index in 0..frames {
        file.extend(tone(index).to_le_bytes());
        file.extend((-tone(index)).to_le_bytes());
    }
    let (silent, _, better) = in_pieces(&file, Mix::Mean).unwrap();
    assert_eq!(better, Mix::LoudestChannel);
    assert!(silent.iter().all(|sample| sample.abs() < 1e-4));
    let (heard, ..) = in_pieces(&file, Mix::LoudestChannel).unwrap();
    assert_eq!(heard, decode(&file, &options()).unwrap().samples);
}

#[test]
fn decoding_in_pieces_ends_where_it_is_told_to() {
    let mut pieces = 0;
    let (_, file, ..) = FILES[0];
    decode_pieces(Cursor::new(file), 24_000, Mix::Mean, &mut |_| {
        pieces += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert!(pieces <= 2, "the first, and what the resampler still held");
}
