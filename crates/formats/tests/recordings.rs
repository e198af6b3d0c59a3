//! Recordings in practice: every container, inconsistent headers, cancelling channels, and formats
//! that are recognised but not decoded.
//!
//! The files under `data/recordings` are one sentence of the embedded voice, written by
//! `reference/recordings.py`.

mod common;

use common::{CORRELATION_MIN, OPTIONS, SAMPLE_RATE, file, mel_correlation, speech};
use sottovoce_formats::audio::{AudioError, Recording, decode};

fn assert_sounds_like(name: &str, recording: &Recording, speech: &[f32], seconds_min: f64) {
    assert_eq!(recording.sample_rate, SAMPLE_RATE, "{name}");
    let seconds = recording.samples.len() as f64 / f64::from(SAMPLE_RATE);
    assert!(seconds >= seconds_min, "{name} lasts {seconds} s");
    let correlation = mel_correlation(speech, &recording.samples);
    assert!(
        correlation >= CORRELATION_MIN,
        "{name}: correlation {correlation}"
    );
}

fn as_16_bit(samples: &[f32]) -> Vec<i16> {
    let scaled = samples.iter().map(|sample| (sample * 32_768.0).round());
    scaled.map(|sample| sample as i16).collect()
}

fn little(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect()
}

fn big(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| sample.to_be_bytes())
        .collect()
}

/// A WAV's format chunk.
fn format(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut chunk = Vec::new();
    chunk.extend(tag.to_le_bytes());
    chunk.extend(channels.to_le_bytes());
    chunk.extend(rate.to_le_bytes());
    chunk.extend((rate * u32::from(block)).to_le_bytes());
    chunk.extend(block.to_le_bytes());
    chunk.extend(bits.to_le_bytes());
    chunk
}

fn chunk(name: &[u8; 4], content: &[u8], size: u32) -> Vec<u8> {
    [name, &size.to_le_bytes()[..], content].concat()
}

/// A WAV file of chunks, with the size that its header claims.
fn riff(size: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"RIFF", &size.to_le_bytes()[..], b"WAVE", &chunks.concat()].concat()
}

/// A WAV with 16-bit samples.
fn wav(channels: u16, rate: u32, samples: &[i16]) -> Vec<u8> {
    let data = little(samples);
    let size = data.len() as u32;
    let format = format(1, channels, rate, 16);
    riff(
        size + 36,
        &[chunk(b"fmt ", &format, 16), chunk(b"data", &data, size)],
    )
}

fn float_wav(channels: u16, samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let size = data.len() as u32;
    let format = format(3, channels, SAMPLE_RATE, 32);
    riff(
        size + 36,
        &[chunk(b"fmt ", &format, 16), chunk(b"data", &data, size)],
    )
}

#[test]
fn every_container_decodes_to_the_original_speech() {
    let speech = speech();
    for name in [
        "aac.m4a",
        "stereo.m4a",
        "alac.m4a",
        "opus.mp4",
        "fragmented.mp4",
        "video.mp4",
        "video.mov",
        "adts.aac",
        "opus.webm",
        "live.webm",
        "vorbis.webm",
        "opus.mka",
        "aac.mka",
        "flac.mka",
        "alac.caf",
        "speech.mp3",
        "layer2.mp2",
        "surround.opus",
        "surround61.opus",
    ] {
        let recording =
            decode(&file(name), &OPTIONS).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_sounds_like(name, &recording, &speech, 1.17);
    }
    for name in ["linear.aiff", "mulaw.aifc", "linear.caf"] {
        let recording =
            decode(&file(name), &OPTIONS).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_sounds_like(name, &recording, &speech, 0.5);
    }
}

#[test]
fn a_truncated_container_decodes_to_its_intact_part_or_an_error() {
    for name in [
        "aac.m4a",
        "fragmented.mp4",
        "live.webm",
        "alac.caf",
        "adts.aac",
        "linear.aiff",
        "linear.caf",
    ] {
        let whole = file(name);
        let longest = decode(&whole, &OPTIONS).unwrap().samples.len();
        let mut most = 0;
        for length in (0..whole.len()).step_by(151) {
            match decode(&whole[..length], &OPTIONS) {
                Ok(part) => most = most.max(part.samples.len()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        assert!(most <= longest, "{name}");
        // A file with its index at the end is lost without it; a CAF states its length before its
        // data.
        let least = if ["aac.m4a", "alac.caf", "linear.caf"].contains(&name) {
            0
        } else {
            longest / 2
        };
        assert!(most >= least, "{name}: {most} of {longest} samples");
    }
}

#[test]
fn a_container_that_goes_on_beyond_its_file_is_read_as_far_as_it_comes() {
    for name in [
        "video.mp4",
        "fragmented.mp4",
        "opus.webm",
        "vorbis.webm",
        "opus.mka",
        "aac.mka",
        "flac.mka",
    ] {
        let whole = file(name);
        let speech = decode(&whole, &OPTIONS).unwrap().samples;
        let part = decode(&whole[..whole.len() * 7 / 10], &OPTIONS);
        let part = part.unwrap_or_else(|error| panic!("{name}: {error}"));
        let seconds = 0.4 * speech.len() as f64 / f64::from(SAMPLE_RATE);
        assert_sounds_like(name, &part, &speech, seconds);
        assert!(part.samples.len() < speech.len(), "{name}");
    }
}

#[test]
fn sizes_in_a_wav_are_hints() {
    let speech = speech();
    let samples = as_16_bit(&speech);
    let data = little(&samples);
    let format = chunk(b"fmt ", &format(1, 1, SAMPLE_RATE, 16), 16);
    let list = chunk(b"LIST", b"INFOISFT\x05\x00\x00\x00abcde", 17);
    let right = data.len() as u32;
    for riff_size in [0, 8, right + 36, u32::MAX] {
        for data_size in [
            0,
            8,
            right / 2,
            right,
            right + 1_000,
            u32::MAX,
            u32::MAX - 7,
        ] {
            let file = riff(
                riff_size,
                &[format.clone(), chunk(b"data", &data, data_size)],
            );
            let name = format!("RIFF {riff_size}, data {data_size}");
            let recording = decode(&file, &OPTIONS).unwrap();
            assert_eq!(recording.samples.len(), speech.len(), "{name}");
            assert_sounds_like(&name, &recording, &speech, 1.19);
        }
    }
    let padded = [list.clone(), vec![0]].concat();
    // The claimed size is too large, so the next chunk is not at its end.
    let overlong = chunk(b"LIST", b"INFOISFT\x04\x00\x00\x00abcd", 60_000_000);
    let named = chunk(b"data", &data, right);
    for (name, chunks) in [
        (
            "an unpadded list",
            vec![format.clone(), list.clone(), named.clone()],
        ),
        (
            "a padded list",
            vec![format.clone(), padded.clone(), named.clone()],
        ),
        (
            "an overlong list",
            vec![format.clone(), overlong, named.clone()],
        ),
        (
            "a list behind",
            vec![format.clone(), named.clone(), padded.clone()],
        ),
        (
            "an unpadded list behind",
            vec![format.clone(), named.clone(), list.clone()],
        ),
        (
            "a list before the format",
            vec![padded, format.clone(), named],
        ),
    ] {
        let recording = decode(&riff(0, &chunks), &OPTIONS).unwrap();
        assert_eq!(
            recording.samples.len(),
            speech.len(),
            "{name}: the list was taken for sound"
        );
        assert_sounds_like(name, &recording, &speech, 1.19);
    }
    let nothing = riff(36, &[format, chunk(b"data", &[], 0), list]);
    assert!(matches!(decode(&nothing, &OPTIONS), Err(AudioError::Empty)));
}

#[test]
fn the_larger_and_the_older_relatives_of_wav_are_read() {
    let speech = speech();
    let samples = as_16_bit(&speech);
    let (data, reversed) = (little(&samples), big(&samples));
    let size = data.len() as u32;
    let fmt = format(1, 1, SAMPLE_RATE, 16);

    let sizes = [u64::from(size) + 72, u64::from(size), samples.len() as u64];
    let sizes: Vec<u8> = sizes
        .iter()
        .flat_map(|size| size.to_le_bytes())
        .chain([0; 4])
        .collect();
    let large = |name: &[u8; 4]| {
        let mut file = riff(
            u32::MAX,
            &[
                chunk(b"ds64", &sizes, 28),
                chunk(b"fmt ", &fmt, 16),
                chunk(b"data", &data, u32::MAX),
            ],
        );
        file[..4].copy_from_slice(name);
        file
    };

    let mut wave64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00".to_vec();
    wave64.extend((data.len() as u64 + 104).to_le_bytes());
    let tail = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    wave64.extend([b"wave", &tail[..]].concat());
    for (name, content) in [(b"fmt ", &fmt), (b"data", &data)] {
        wave64.extend([name, &tail[..]].concat());
        wave64.extend((content.len() as u64 + 24).to_le_bytes());
        wave64.extend(content);
        wave64.resize(wave64.len().next_multiple_of(8), 0);
    }

    let mut reversed_wav = b"RIFX\0\0\0\0WAVEfmt \0\0\0\x10\0\x01\0\x01".to_vec();
    reversed_wav.extend(SAMPLE_RATE.to_be_bytes());
    reversed_wav.extend((2 * SAMPLE_RATE).to_be_bytes());
    reversed_wav.extend(b"\0\x02\0\x10data");
    reversed_wav.extend(size.to_be_bytes());
    reversed_wav.extend(&reversed);

    let sun = |mark: &[u8; 4], size: u32, sound: &[u8], word: fn(u32) -> [u8; 4]| {
        let fields = [28, size, 3, SAMPLE_RATE, 1, 0].map(word).concat();
        [mark, &fields[..], sound].concat()
    };
    for (name, file) in [
        ("RF64", large(b"RF64")),
        ("BW64", large(b"BW64")),
        ("Wave64", wave64),
        ("RIFX", reversed_wav),
        ("AU", sun(b".snd", size, &reversed, u32::to_be_bytes)),
        (
            "AU of open length",
            sun(b".snd", u32::MAX, &reversed, u32::to_be_bytes),
        ),
        ("AU, little", sun(b"dns.", 0, &data, u32::to_le_bytes)),
    ] {
        let recording = decode(&file, &OPTIONS).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(recording.samples.len(), speech.len(), "{name}");
        assert_sounds_like(name, &recording, &speech, 1.19);
    }
}

#[test]
fn mp3_in_a_wav_is_read() {
    let sound = file("speech.mp3");
    let size = sound.len() as u32;
    let format = [format(0x55, 1, SAMPLE_RATE, 0), vec![0; 14]].concat();
    let file = riff(
        0,
        &[chunk(b"fmt ", &format, 30), chunk(b"data", &sound, size)],
    );
    assert_sounds_like(
        "MP3 in WAV",
        &decode(&file, &OPTIONS).unwrap(),
        &speech(),
        1.19,
    );
}

#[test]
fn a_tag_with_a_picture_before_the_audio_is_skipped() {
    let speech = speech();
    let picture = 12_000_000u32;
    let mut tag = b"ID3\x04\x00\x00".to_vec();
    tag.extend([21, 14, 7, 0].map(|shift| (picture >> shift & 0x7f) as u8));
    tag.resize(10 + picture as usize, 0xaa);
    for name in ["speech.mp3", "adts.aac", "speech.flac"] {
        let tagged = [tag.clone(), file(name)].concat();
        assert_sounds_like(name, &decode(&tagged, &OPTIONS).unwrap(), &speech, 1.17);
    }
    let tagged = [tag, wav(1, SAMPLE_RATE, &as_16_bit(&speech))].concat();
    assert_sounds_like("WAV", &decode(&tagged, &OPTIONS).unwrap(), &speech, 1.19);
}

#[test]
fn bytes_that_are_missing_within_a_stream_cost_no_more_than_their_packets() {
    for name in ["adts.aac", "speech.mp3"] {
        let whole = file(name);
        let seconds = 0.4 * f64::from(SAMPLE_RATE);
        for place in (whole.len() / 2..whole.len() - 200).step_by(53) {
            let holed = [&whole[..place], &whole[place + 77..]].concat();
            let recording = decode(&holed, &OPTIONS);
            let samples = recording.map(|recording| recording.samples.len());
            assert!(
                samples.as_ref().is_ok_and(|&count| count as f64 > seconds),
                "{name} without 77 bytes at {place}: {samples:?}"
            );
        }
    }
}

#[test]
fn channels_that_cancel_do_not_silence_each_other() {
    let speech = speech();
    let inverted: Vec<f32> = speech
        .iter()
        .flat_map(|&sample| [sample, -sample])
        .collect();
    let late: Vec<f32> = (0..speech.len())
        .flat_map(|index| {
            [
                speech[index],
                if index == 0 { 0.0 } else { -speech[index - 1] },
            ]
        })
        .collect();
    let four: Vec<f32> = speech
        .iter()
        .flat_map(|&x| [x, -x, 0.9 * x, -0.9 * x])
        .collect();
    let one_of_six: Vec<f32> = speech
        .iter()
        .flat_map(|&x| [0.0, 0.0, x, 0.0, 0.0, 0.0])
        .collect();
    for (name, channels, samples) in [
        ("one inverted", 2, inverted),
        ("one inverted and a sample late", 2, late),
        ("two of four inverted", 4, four),
        ("the middle of six", 6, one_of_six),
    ] {
        let recording = decode(&float_wav(channels, &samples), &OPTIONS).unwrap();
        // Speech at another level differs only by a constant in log-mel, except in the quietest
        // frames.
        let peak = |samples: &[f32]| samples.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
        let gain = peak(&speech) / peak(&recording.samples);
        let samples = recording
            .samples
            .iter()
            .map(|sample| sample * gain)
            .collect();
        let recording = Recording {
            samples,
            ..recording
        };
        assert_sounds_like(name, &recording, &speech, 1.19);
    }
}

#[test]
fn unusable_samples_and_constant_offsets_are_repaired() {
    let speech = speech();
    let mut broken = speech.clone();
    for index in (100..broken.len()).step_by(997) {
        broken[index] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][index % 4];
    }
    let recording = decode(&float_wav(1, &broken), &OPTIONS).unwrap();
    assert!(recording.samples.iter().all(|sample| sample.is_finite()));
    assert_sounds_like("no numbers", &recording, &speech, 1.19);

    let shifted: Vec<f32> = speech.iter().map(|sample| sample + 0.25).collect();
    let recording = decode(&float_wav(1, &shifted), &OPTIONS).unwrap();
    assert_sounds_like("an offset", &recording, &speech, 1.19);

    let error = decode(&float_wav(1, &[f32::NAN; 24_000]), &OPTIONS).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("24000 of its 24000 samples are not numbers, or far too large"),
        "{error}"
    );
    let constant = decode(&float_wav(1, &[0.5; 24_000]), &OPTIONS).unwrap();
    assert!(
        constant.samples.iter().all(|sample| sample.abs() < 1e-6),
        "constant is silence"
    );
}

#[test]
fn unusual_rates_decode_to_the_original_speech() {
    let speech = speech();
    for rate in [16_001, 22_255, 37_800, 44_101, 48_000, 176_400, 384_000] {
        let samples = sottovoce_formats::resample::resample(
            &speech,
            SAMPLE_RATE,
            rate,
            sottovoce_formats::resample::Filter::Kaiser64,
        );
        let file = wav(1, rate, &as_16_bit(&samples));
        let recording = decode(&file, &OPTIONS).unwrap();
        let correlation = mel_correlation(&speech, &recording.samples);
        assert!(correlation >= 0.98, "{rate}: {correlation}");
    }
}

#[test]
fn undecodable_formats_are_named_with_the_way_to_convert_them() {
    for (name, format, command) in [
        ("narrow.amr", "AMR", "ffmpeg -i recording.amr"),
        (
            "media.wma",
            "Windows Media (WMA, ASF)",
            "ffmpeg -i recording.wma",
        ),
        (
            "dolby.mp4",
            "Dolby Digital (AC-3)",
            "ffmpeg -i recording.mp4",
        ),
        (
            "dolby.mkv",
            "Dolby Digital (AC-3)",
            "ffmpeg -i recording.mkv",
        ),
        (
            "surround.m4a",
            "AAC (6 channels, 5.1) recordings are not supported",
            "ffmpeg -i recording.m4a",
        ),
        (
            "surround.aac",
            "AAC (4 channels) recordings are not supported",
            "ffmpeg -i recording.aac",
        ),
        (
            "surround.mka",
            "AAC (8 channels, 7.1) recordings are not supported",
            "ffmpeg -i recording.mkv",
        ),
        (
            "custom.m4a",
            "AAC (a channel layout of its own) recordings are not supported",
            "ffmpeg -i recording.m4a",
        ),
    ] {
        let error = decode(&file(name), &OPTIONS).unwrap_err();
        assert!(matches!(error, AudioError::Unread(_)), "{name}: {error:?}");
        let message = error.to_string();
        assert!(
            message.starts_with(format) && message.contains(command),
            "{name}: {message}"
        );
    }
    // A track whose codec is replaced by a protected one, and by one of old telephones.
    let plain = file("aac.m4a");
    let place = plain.windows(4).position(|bytes| bytes == b"mp4a").unwrap();
    for (codec, words) in [
        (b"drms", "protected by FairPlay (DRM)"),
        (b"samr", "AMR recordings"),
    ] {
        let mut other = plain.clone();
        other[place..place + 4].copy_from_slice(codec);
        let message = decode(&other, &OPTIONS).unwrap_err().to_string();
        assert!(
            message.contains(words) && message.contains("ffmpeg -"),
            "{message}"
        );
    }
    let audible = decode(b"\0\0\0\x18ftypaax \0\0\0\x01aax M4B mp42", &OPTIONS).unwrap_err();
    assert!(
        audible.to_string().contains("-activation_bytes"),
        "{audible}"
    );
    for (bytes, word) in [
        (b"\x89PNG\r\n\x1a\n0000".as_slice(), "a PNG picture"),
        (
            b"<!DOCTYPE html><html><body>404</body></html>",
            "a web page",
        ),
        (b"{\"error\": \"no such recording\"}", "text"),
        (
            b"PK\x03\x04\x14\x00\x00\x00",
            "this is a zip archive, not a recording; unpack it first",
        ),
    ] {
        let message = decode(bytes, &OPTIONS).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    let aac = [
        chunk(b"fmt ", &format(0xff, 1, 24_000, 16), 16),
        chunk(b"data", &[0; 64], 64),
    ];
    let message = decode(&riff(100, &aac), &OPTIONS).unwrap_err().to_string();
    assert!(message.starts_with("AAC in WAV recordings"), "{message}");
}

#[test]
fn a_recording_that_cannot_be_read_is_refused_in_plain_words() {
    let noise: Vec<u8> = (0..5_000_u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let lost = file("aac.m4a");
    let index = lost.windows(4).position(|name| name == b"moov").unwrap();
    for (bytes, words) in [
        (&noise[..], "its first bytes are those of none of them"),
        (&lost[..index - 4], "it ends before its index"),
    ] {
        let message = decode(bytes, &OPTIONS).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
        for jargon in ["unsupported feature", "probe", "moov"] {
            assert!(!message.contains(jargon), "{message}");
        }
    }
}
