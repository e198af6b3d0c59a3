//! Recordings as interrupted recorders, careless editors and downloads leave them: headers that are
//! wrong in one place, and sound that is whole.

mod common;

use common::{CORRELATION_MIN, OPTIONS, SAMPLE_RATE, file, mel_correlation, speech};
use sottovoce_formats::audio::decode;

/// All of the speech is there, and it sounds like itself.
fn assert_is_speech(name: &str, file: &[u8]) {
    let speech = speech();
    let recording = decode(file, &OPTIONS).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        recording.samples.len() as f64 >= 0.97 * speech.len() as f64,
        "{name} has {} of {} samples",
        recording.samples.len(),
        speech.len()
    );
    let correlation = mel_correlation(&speech, &recording.samples);
    assert!(correlation >= CORRELATION_MIN, "{name}: {correlation}");
}

fn refusal(file: &[u8]) -> String {
    decode(file, &OPTIONS).unwrap_err().to_string()
}

fn bytes<const N: usize>(samples: &[f32], coded: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
    (samples.iter())
        .flat_map(|&sample| coded(f64::from(sample)))
        .collect()
}

fn whole(scale: f64) -> impl Fn(f64) -> i32 {
    move |sample| (sample * scale).round() as i32
}

fn little_16(samples: &[f32]) -> Vec<u8> {
    bytes(samples, |sample| {
        (whole(32_767.0)(sample) as i16).to_le_bytes()
    })
}

fn big_16(samples: &[f32]) -> Vec<u8> {
    bytes(samples, |sample| {
        (whole(32_767.0)(sample) as i16).to_be_bytes()
    })
}

/// A chunk of RIFF with its own size.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [name, &(content.len() as u32).to_le_bytes()[..], content].concat()
}

fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let block = channels * bits.div_ceil(8);
    let halves = |value: u16| value.to_le_bytes();
    let mut format = [halves(tag), halves(channels)].concat();
    format.extend(SAMPLE_RATE.to_le_bytes());
    format.extend((SAMPLE_RATE * u32::from(block)).to_le_bytes());
    format.extend([halves(block), halves(bits)].concat());
    format
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let content = [b"WAVE", &chunks.concat()[..]].concat();
    chunk(b"RIFF", &content)
}

fn wav() -> Vec<u8> {
    let data = little_16(&speech());
    riff(&[chunk(b"fmt ", &format(1, 1, 16)), chunk(b"data", &data)])
}

#[test]
fn chunks_of_a_wav_may_be_empty_or_out_of_order() {
    let data = little_16(&speech());
    let format_chunk = chunk(b"fmt ", &format(1, 1, 16));
    for (name, chunks) in [
        (
            "an empty data chunk first",
            vec![
                format_chunk.clone(),
                chunk(b"data", b""),
                chunk(b"data", &data),
            ],
        ),
        (
            "the format last",
            vec![chunk(b"data", &data), format_chunk.clone()],
        ),
        (
            "an extensible format without its extension",
            vec![
                chunk(b"fmt ", &format(0xfffe, 1, 16)),
                chunk(b"data", &data),
            ],
        ),
    ] {
        assert_is_speech(name, &riff(&chunks));
    }
}

#[test]
fn a_chunk_whose_size_stands_elsewhere_hides_neither_format_nor_samples() {
    let (format, data) = (format(1, 1, 16), little_16(&speech()));
    let mut list = chunk(b"LIST", b"INFO");
    list[4..8].fill(0xff);
    let chunks = [list, chunk(b"fmt ", &format), chunk(b"data", &data)];
    let mut file = riff(&chunks);
    file[..4].copy_from_slice(b"RF64");
    assert_is_speech("a list whose size is in a table", &file);
}

#[test]
fn a_wave64_whose_size_was_never_filled_in_is_read_to_its_end() {
    const TAIL: &[u8] = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    let data = little_16(&speech());
    for size in [0, 24, u64::MAX] {
        let mut file = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00".to_vec();
        file.extend([&size.to_le_bytes()[..], b"wave", TAIL].concat());
        file.extend([b"fmt ", TAIL, &40_u64.to_le_bytes()].concat());
        file.extend(format(1, 1, 16));
        file.extend([b"data", TAIL, &size.to_le_bytes()].concat());
        file.extend(&data);
        assert_is_speech("Wave64", &file);
    }
}

#[test]
fn a_wav_behind_a_mark_or_the_head_of_an_answer_is_found() {
    let wav = wav();
    for before in [
        &b"\xef\xbb\xbf"[..],
        b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n\r\n",
        &[0; 512],
    ] {
        assert_is_speech("a WAV behind something else", &[before, &wav].concat());
    }
    // A header within binary data belongs to another container.
    let other = [&[1, 0, 2, 0xff, 7][..], &wav].concat();
    assert!(decode(&other, &OPTIONS).is_err());
}

#[test]
fn widths_that_no_decoder_reads_are_named() {
    let speech = speech();
    for (tag, bits, named) in [
        (3, 16, "floating-point samples of 16 bits"),
        (1, 64, "whole-number samples of 64 bits"),
    ] {
        let data = vec![0; speech.len() * usize::from(bits / 8)];
        let file = riff(&[chunk(b"fmt ", &format(tag, 1, bits)), chunk(b"data", &data)]);
        let refusal = refusal(&file);
        assert!(
            refusal.contains(named) && refusal.contains("ffmpeg"),
            "{refusal}"
        );
    }
}

/// A CAF of plain samples whose data chunk states `size`.
fn caf(flags: u32, sample_bytes: u32, bits: u32, data: &[u8], size: i64) -> Vec<u8> {
    let mut file = b"caff\0\x01\0\0desc".to_vec();
    file.extend(32_i64.to_be_bytes());
    file.extend(f64::from(SAMPLE_RATE).to_be_bytes());
    file.extend(b"lpcm");
    for word in [flags, sample_bytes, 1, 1, bits] {
        file.extend(word.to_be_bytes());
    }
    file.extend(b"data");
    file.extend(size.to_be_bytes());
    file.extend([0; 4]);
    file.extend(data);
    file
}

#[test]
fn a_caf_is_read_whatever_size_its_data_states_and_however_wide_its_samples_are() {
    const FLOAT: u32 = 1;
    const LITTLE: u32 = 2;
    let speech = speech();
    let data = little_16(&speech);
    let right = data.len() as i64 + 4;
    for size in [right, -1, 0, 3 * right] {
        assert_is_speech("a CAF", &caf(LITTLE, 2, 16, &data, size));
    }
    let wide = |sample: f64| whole(2_147_483_000.0)(sample);
    let padded = bytes(&speech, |sample| (wide(sample) & !0xff).to_le_bytes());
    assert_is_speech("24 bits in four bytes", &caf(LITTLE, 4, 24, &padded, -1));
    let eight = bytes(&speech, |sample| (whole(127.0)(sample) as i8).to_be_bytes());
    assert!(decode(&caf(0, 1, 8, &eight, -1), &OPTIONS).is_ok());
    let floats = bytes(&speech, |sample| sample.to_be_bytes());
    assert_is_speech("64-bit floats", &caf(FLOAT, 8, 64, &floats, -1));
    let mut unread = caf(LITTLE, 2, 16, &data, right);
    unread[28..32].copy_from_slice(b"ac-3");
    assert!(
        refusal(&unread).starts_with("Dolby Digital"),
        "{}",
        refusal(&unread)
    );
    assert!(refusal(b"caff\0\x01\0\0").contains("desc"));
    // Packets of IMA: a predictor of two bytes, then 64 samples.
    let mut packets = caf(0, 34, 0, &[0x11; 34 * 375][..], 3_000_000);
    packets[28..32].copy_from_slice(b"ima4");
    let recording = decode(&packets[..packets.len() - 9], &OPTIONS).unwrap();
    assert_eq!(recording.samples.len(), 374 * 64);
}

/// An AIFF with these chunks behind its COMM chunk.
fn aiff(frames: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut common = Vec::new();
    common.extend(1_u16.to_be_bytes());
    common.extend(frames.to_be_bytes());
    common.extend(16_u16.to_be_bytes());
    // 24,000 as an extended number: 1.46 times two to the power of 14.
    common.extend((16_383_u16 + 14).to_be_bytes());
    common.extend((u64::from(SAMPLE_RATE) << (63 - 14)).to_be_bytes());
    let content = [
        b"AIFF",
        &big_chunk(b"COMM", &common, 18)[..],
        &chunks.concat(),
    ]
    .concat();
    big_chunk(b"FORM", &content, content.len() as u32)
}

fn big_chunk(name: &[u8; 4], content: &[u8], size: u32) -> Vec<u8> {
    [name, &size.to_be_bytes()[..], content].concat()
}

#[test]
fn sizes_of_an_aiff_are_hints_and_its_padding_may_be_missing() {
    assert_eq!(SAMPLE_RATE, 24_000);
    let speech = speech();
    let sound = [&[0; 8][..], &big_16(&speech)].concat();
    let (frames, right) = (speech.len() as u32, sound.len() as u32);
    for size in [right, 0, u32::MAX, 2_000] {
        assert_is_speech(
            "an AIFF",
            &aiff(frames, &[big_chunk(b"SSND", &sound, size)]),
        );
    }
    let unpadded = big_chunk(b"NAME", b"hello", 5);
    assert_is_speech(
        "an AIFF without padding",
        &aiff(frames, &[unpadded, big_chunk(b"SSND", &sound, right)]),
    );
}

#[test]
fn an_au_is_read_to_its_end_whatever_size_it_states() {
    let sound = big_16(&speech());
    for size in [sound.len() as u32, 0, 1_000, u32::MAX] {
        let mut file = b".snd".to_vec();
        for word in [24, size, 3, SAMPLE_RATE, 1] {
            file.extend(word.to_be_bytes());
        }
        file.extend(&sound);
        assert_is_speech("an AU", &file);
    }
}

#[test]
fn one_channel_of_numbers_is_a_recording() {
    let with_right = |right: f32| {
        let samples: Vec<f32> = (speech().iter()).flat_map(|&left| [left, right]).collect();
        let data = bytes(&samples, |sample| (sample as f32).to_le_bytes());
        riff(&[chunk(b"fmt ", &format(3, 2, 32)), chunk(b"data", &data)])
    };
    for number in [f32::NAN, 1e20] {
        let file = with_right(number);
        assert_is_speech("beside a channel that is no sound", &file);
    }
}

/// Checksum of an Ogg page whose own field is zero.
fn page_checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum: u32, _| {
            if sum >> 31 == 1 {
                sum << 1 ^ 0x04c1_1db7
            } else {
                sum << 1
            }
        })
    })
}

#[test]
fn opus_with_damage_within_is_read_up_to_it() {
    let file = file("surround.opus");
    let last = file.windows(4).rposition(|bytes| bytes == b"OggS").unwrap();
    let (before, page) = file.split_at(last);
    let mut page = page.to_vec();
    // It is no longer the last page.
    page[5] &= !4;
    page[22..26].fill(0);
    let checksum = page_checksum(&page);
    page[22..26].copy_from_slice(&checksum.to_le_bytes());
    let mut damaged = page.clone();
    *damaged.last_mut().unwrap() ^= 0x55;
    let recording = decode(&[before, &page, &damaged, &page].concat(), &OPTIONS).unwrap();
    assert!(recording.samples.len() > SAMPLE_RATE as usize);
}

#[test]
fn an_mp4_whose_data_states_no_size_is_read_to_its_end() {
    let mut file = file("aac.m4a");
    let place = file.windows(4).position(|bytes| bytes == b"mdat").unwrap() - 4;
    let size = u32::from_be_bytes(file[place..place + 4].try_into().unwrap()) as usize;
    // It must be the last box: the index is moved to the front, and its offsets with it.
    let (front, data) = (file[..place].to_vec(), file[place..place + size].to_vec());
    let mut index = file[place + size..].to_vec();
    assert_eq!(&index[4..8], b"moov", "the index is behind the data");
    let table = index.windows(4).position(|bytes| bytes == b"stco").unwrap();
    let count = u32::from_be_bytes(index[table + 8..table + 12].try_into().unwrap()) as usize;
    let moved = index.len() as u32;
    for entry in index[table + 12..][..4 * count].chunks_mut(4) {
        let offset = u32::from_be_bytes(entry.try_into().unwrap()) + moved;
        entry.copy_from_slice(&offset.to_be_bytes());
    }
    file = [front, index, data].concat();
    let place = file.windows(4).position(|bytes| bytes == b"mdat").unwrap() - 4;
    assert_is_speech("an MP4 with its index first", &file);
    file[place..place + 4].fill(0);
    assert_is_speech("an MP4 whose data states no size", &file);
}

#[test]
fn a_flac_behind_pictures_of_megabytes_is_read() {
    let file = file("speech.flac");
    let (head, rest) = file.split_at(42);
    let picture = |kind: u8| {
        let mut block = vec![kind];
        block.extend(&12_000_000_u32.to_be_bytes()[1..]);
        block.extend(std::iter::repeat_n(0xff, 12_000_000));
        block
    };
    let mut open = head.to_vec();
    open[4] &= 0x7f;
    if head[4] & 0x80 != 0 {
        assert_is_speech("a FLAC", &[&open, &picture(0x86)[..], rest].concat());
    } else {
        assert_is_speech("a FLAC", &[&open, &picture(6)[..], rest].concat());
    }
}

#[test]
fn a_tag_that_ends_beyond_the_file_hides_nothing() {
    let tag = b"ID3\x03\0\0\x7f\x7f\x7f\x7f";
    assert_is_speech(
        "an MP3 behind a wrong tag",
        &[&tag[..], &file("speech.mp3")].concat(),
    );
}

#[test]
fn further_formats_without_a_decoder_are_named() {
    for (beginning, named) in [
        (&b"FORM\0\0\0\x208SVXVHDR"[..], "8SVX"),
        (b".SoX\x1c\0\0\0", "SoX"),
        (
            b"\0\0\0\x10moov\0\0\0\x08cmov",
            "QuickTime with a compressed index",
        ),
        (b"\0\0\0\x10moov\0\0\0\x08mvhd", "a file without sound"),
        (b"\x56\xe1\x20\x00\x11\x90", "LATM"),
        (b"STRM\0\0\0\0", "AST"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "NumPy"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
            "Git LFS",
        ),
    ] {
        let file = [beginning, &[0x80; 64]].concat();
        let refusal = refusal(&file);
        assert!(refusal.contains(named), "{named}: {refusal}");
    }
}

#[test]
fn what_follows_a_recording_does_not_spoil_it() {
    for name in [
        "live.webm",
        "opus.mka",
        "vorbis.webm",
        "aac.m4a",
        "alac.caf",
    ] {
        let file = file(name);
        for after in [
            &file[..],
            &[0xee; 5_000],
            &[0; 5_000],
            b"something behind it",
        ] {
            assert_is_speech(name, &[&file, after].concat());
        }
    }
}

#[test]
fn a_container_that_is_known_is_not_called_unknown() {
    for (name, named) in [
        ("opus.webm", "WebM"),
        ("speech.flac", "FLAC"),
        ("aac.m4a", "index"),
        ("alac.caf", "CAF"),
    ] {
        let mut file = file(name);
        file.truncate(60);
        file[12..].fill(0xff);
        let refusal = refusal(&file);
        assert!(
            refusal.starts_with("the recording is damaged") && refusal.contains(named),
            "{name}: {refusal}"
        );
    }
}

#[test]
fn a_matroska_whose_sound_no_decoder_reads_is_not_called_silent() {
    let mut file = file("opus.mka");
    let place = file
        .windows(6)
        .position(|bytes| bytes == b"A_OPUS")
        .unwrap();
    file[place..place + 6].copy_from_slice(b"A_XXXX");
    let refusal = refusal(&file);
    assert!(refusal.contains("A_XXXX"), "{refusal}");
}

/// A box of an MP4 or a QuickTime file.
fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// How a QuickTime file is laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// With a type, and the index first.
    Typed,
    /// As the oldest files: the data first, and no type.
    Untyped,
    /// One entry of the table of sizes for each frame.
    SizeOfEach,
    /// One byte is stated as a frame's size.
    OneByte,
    /// The offsets have 64 bits.
    Wide,
}

/// A description of version 0 or 1.
fn described(codec: &[u8; 4], version: u16, bits: u16, further: &[u8]) -> Vec<u8> {
    let mut entry = [0, 0, 0, 0, 0, 0, 0, 1].to_vec();
    entry.extend(version.to_be_bytes());
    entry.extend([0; 6]);
    entry.extend([1_u16, bits, 0, 0].map(u16::to_be_bytes).concat());
    entry.extend(words(&[SAMPLE_RATE << 16]));
    if version == 1 {
        let bytes = u32::from(bits) / 8;
        entry.extend(words(&[1, bytes, bytes, bytes]));
    }
    entry.extend(further);
    boxed(codec, &entry)
}

/// A description of version 2, for a codec of any width.
fn linear(bits: u32, flags: u32) -> Vec<u8> {
    let mut entry = [0, 0, 0, 0, 0, 0, 0, 1, 0, 2].to_vec();
    entry.extend([0; 6]);
    entry.extend([3_u16, 16, 0xfffe, 0].map(u16::to_be_bytes).concat());
    entry.extend(words(&[0x1_0000, 72]));
    entry.extend(f64::from(SAMPLE_RATE).to_be_bytes());
    entry.extend(words(&[1, 0x7f00_0000, bits, flags, bits / 8, 1]));
    boxed(b"lpcm", &entry)
}

/// A QuickTime file of one sound track whose chunks of 1,000 frames lie between other data.
fn quicktime(description: &[u8], frame_bytes: usize, data: &[u8], layout: Layout) -> Vec<u8> {
    const CHUNK_FRAMES: usize = 1_000;
    const OTHER: &[u8] = &[0x55; 777];
    let head = match layout {
        Layout::Untyped => boxed(b"wide", b""),
        _ => boxed(b"ftyp", b"qt  \0\0\x02\0qt  "),
    };
    let chunks: Vec<&[u8]> = data.chunks(CHUNK_FRAMES * frame_bytes).collect();
    let frames = (data.len() / frame_bytes) as u32;
    let last = frames - (chunks.len() as u32 - 1) * CHUNK_FRAMES as u32;
    let mut media = Vec::new();
    let mut places = Vec::new();
    for chunk in &chunks {
        media.extend(OTHER);
        places.push(media.len() as u64);
        media.extend(*chunk);
    }
    let index = |data_start: u64| {
        let offset_of = |place: &u64| place + data_start;
        let offsets = match layout {
            Layout::Wide => {
                let offsets = places
                    .iter()
                    .flat_map(|place| offset_of(place).to_be_bytes());
                let offsets: Vec<u8> = offsets.collect();
                boxed(
                    b"co64",
                    &[words(&[0, places.len() as u32]), offsets].concat(),
                )
            }
            _ => {
                let offsets: Vec<u32> =
                    places.iter().map(|place| offset_of(place) as u32).collect();
                boxed(
                    b"stco",
                    &[words(&[0, places.len() as u32]), words(&offsets)].concat(),
                )
            }
        };
        let sizes = match layout {
            Layout::SizeOfEach => {
                let each = vec![frame_bytes as u32; frames as usize];
                [words(&[0, 0, frames]), words(&each)].concat()
            }
            Layout::OneByte => words(&[0, 1, frames]),
            _ => words(&[0, frame_bytes as u32, frames]),
        };
        let runs = [
            0,
            2,
            1,
            CHUNK_FRAMES as u32,
            1,
            chunks.len() as u32,
            last,
            1,
        ];
        let table = [
            boxed(b"stsd", &[words(&[0, 1]), description.to_vec()].concat()),
            boxed(b"stts", &words(&[0, 1, frames, 1])),
            boxed(b"stsc", &words(&runs)),
            boxed(b"stsz", &sizes),
            offsets,
        ];
        let handler = |kind: &[u8; 8]| boxed(b"hdlr", &[&[0; 4], &kind[..], &[0; 13]].concat());
        let media_header = words(&[0, 0, 0, SAMPLE_RATE, frames, 0]);
        let information = [handler(b"dhlralis"), boxed(b"stbl", &table.concat())];
        let media = [
            boxed(b"mdhd", &media_header),
            handler(b"mhlrsoun"),
            boxed(b"minf", &information.concat()),
        ];
        boxed(b"moov", &boxed(b"trak", &boxed(b"mdia", &media.concat())))
    };
    let data_head = head.len() as u64 + 8;
    match layout {
        Layout::Untyped => [head, boxed(b"mdat", &media), index(data_head)].concat(),
        _ => {
            let index_bytes = index(0).len() as u64;
            [head, index(data_head + index_bytes), boxed(b"mdat", &media)].concat()
        }
    }
}

#[test]
fn plain_samples_in_quicktime_and_mp4_are_read_however_they_are_laid_out() {
    let speech = speech();
    let little = |name: &[u8; 4]| boxed(name, &[0, 1]);
    let in_wave = boxed(
        b"wave",
        &[boxed(b"frma", b"in24"), little(b"enda")].concat(),
    );
    let layout_of_mp4 = |bits: u8| boxed(b"pcmC", &[0, 0, 0, 0, 1, bits]);
    let wide = |sample: f64| whole(2_147_483_000.0)(sample);
    let in_24 = |sample: f64| whole(8_388_607.0)(sample);
    let little_24 = bytes(&speech, |sample| {
        let [a, b, c, _] = in_24(sample).to_le_bytes();
        [a, b, c]
    });
    let big_24 = bytes(&speech, |sample| {
        let [_, a, b, c] = in_24(sample).to_be_bytes();
        [a, b, c]
    });
    let big_32 = bytes(&speech, |sample| wide(sample).to_be_bytes());
    let floats = bytes(&speech, |sample| (sample as f32).to_be_bytes());
    let doubles = bytes(&speech, |sample| sample.to_be_bytes());
    for (description, frame_bytes, data) in [
        (described(b"sowt", 0, 16, b""), 2, &little_16(&speech)),
        (described(b"sowt", 1, 16, b""), 2, &little_16(&speech)),
        (described(b"twos", 0, 16, b""), 2, &big_16(&speech)),
        (described(b"in24", 1, 16, b""), 3, &big_24),
        (described(b"in24", 1, 16, &in_wave), 3, &little_24),
        (described(b"in32", 1, 16, b""), 4, &big_32),
        (described(b"fl32", 1, 16, b""), 4, &floats),
        (described(b"fl64", 1, 16, b""), 8, &doubles),
        (described(b"raw ", 0, 16, b""), 2, &big_16(&speech)),
        (linear(24, 0b1110), 3, &big_24),
        (linear(16, 0b1100), 2, &little_16(&speech)),
        (
            linear(32, 0b1001),
            4,
            &bytes(&speech, |sample| (sample as f32).to_le_bytes()),
        ),
        (described(b"ipcm", 0, 16, &layout_of_mp4(24)), 3, &little_24),
    ] {
        for layout in [
            Layout::Typed,
            Layout::Untyped,
            Layout::SizeOfEach,
            Layout::OneByte,
            Layout::Wide,
        ] {
            let file = quicktime(&description, frame_bytes, data, layout);
            let codec = description[4..8].escape_ascii();
            assert_is_speech(&format!("{codec}, {layout:?}"), &file);
        }
    }
}

#[test]
fn companded_samples_in_quicktime_are_read() {
    // Of the AIFF-C, whose samples are the last chunk's.
    let aiff = file("mulaw.aifc");
    let place = aiff.windows(4).position(|bytes| bytes == b"SSND").unwrap();
    let expected = decode(&aiff, &OPTIONS).unwrap().samples;
    let data = &aiff[place + 16..];
    // As long as it is with samples of 24 kHz.
    assert_eq!(data.len(), expected.len());
    for layout in [Layout::Typed, Layout::Untyped] {
        let file = quicktime(&described(b"ulaw", 0, 16, b""), 1, data, layout);
        assert_eq!(decode(&file, &OPTIONS).unwrap().samples, expected);
        let other = quicktime(&described(b"alaw", 0, 16, b""), 1, data, layout);
        assert_eq!(decode(&other, &OPTIONS).unwrap().samples.len(), data.len());
    }
}

#[test]
fn a_rate_that_its_field_is_too_small_for_is_that_of_the_clock() {
    let samples: Vec<f32> = (speech().iter()).flat_map(|&sample| [sample; 4]).collect();
    let mut file = quicktime(
        &described(b"twos", 0, 16, b""),
        2,
        &big_16(&samples),
        Layout::Typed,
    );
    // The clock of the media has four ticks for each that the description states.
    let place = file.windows(4).position(|bytes| bytes == b"mdhd").unwrap();
    let ticks = (4 * SAMPLE_RATE).to_be_bytes();
    file[place + 16..place + 20].copy_from_slice(&ticks);
    let recording = decode(&file, &OPTIONS).unwrap();
    assert_eq!(recording.samples.len(), speech().len());
}

#[test]
fn an_untyped_file_of_compressed_sound_is_read() {
    let mut file = file("aac.m4a");
    assert_eq!(&file[4..8], b"ftyp");
    file[4..8].copy_from_slice(b"free");
    assert_is_speech("AAC in an untyped file", &file);
}

#[test]
fn a_quicktime_file_that_is_cut_anywhere_is_read_as_far_as_it_goes_or_refused() {
    let speech = speech();
    for layout in [Layout::Typed, Layout::Untyped, Layout::SizeOfEach] {
        let description = described(b"twos", 0, 16, b"");
        let file = quicktime(&description, 2, &big_16(&speech), layout);
        for length in (0..file.len().min(4_000)).chain((4_000..file.len()).step_by(997)) {
            let recording = decode(&file[..length], &OPTIONS);
            if let Ok(recording) = recording {
                assert!(recording.samples.len() <= speech.len(), "{length}");
            }
        }
    }
    // The index comes first, so half of the data is half of the speech.
    let file = quicktime(
        &described(b"twos", 0, 16, b""),
        2,
        &big_16(&speech),
        Layout::Typed,
    );
    let half = decode(&file[..file.len() / 2], &OPTIONS).unwrap();
    assert!(
        half.samples.len() > speech.len() / 3,
        "{}",
        half.samples.len()
    );
}
