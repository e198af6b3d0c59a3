//! Decoding has bounded memory, whatever a file is and claims.

use sottovoce_formats::audio::{
    AudioError, DecodeOptions, Mix, decode, decode_pieces, pieces_bytes_max, pieces_bytes_max_of,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of the calling thread.
struct Counting;

fn note(change: isize) {
    // A thread that ends no longer has counters.
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add_signed(change));
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's contract is that of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller's contract is that of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize);
        // SAFETY: the caller's contract is that of `realloc`.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        note(-(layout.size() as isize));
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Peak of the bytes that `decode` holds beside the file.
fn most_held(file: &[u8], options: &DecodeOptions) -> (usize, Result<usize, AudioError>) {
    let before = HELD.get();
    MOST.set(before);
    let length = decode(file, options).map(|recording| recording.samples.len());
    (MOST.get() - before, length)
}

/// Peak of the bytes that decoding piece by piece holds beside the file, and the bound stated
/// before.
fn most_held_in_pieces(file: &[u8], mix: Mix) -> (usize, usize) {
    let bound = pieces_bytes_max_of(Cursor::new(file), 16_000);
    let bound = bound.unwrap_or(pieces_bytes_max(16_000));
    assert!(bound <= pieces_bytes_max(16_000));
    let before = HELD.get();
    MOST.set(before);
    let take: &mut dyn FnMut(&[f32]) -> _ = &mut |_| ControlFlow::Continue(());
    let _ = decode_pieces(Cursor::new(file), 16_000, mix, take);
    (MOST.get() - before, bound)
}

fn recording(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    std::fs::read(folder.join(name)).unwrap()
}

/// Ten minutes of stereo noise at 48 kHz with 16 bits.
fn ten_minutes() -> Vec<u8> {
    let size = 600 * 48_000 * 4u32;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    file.extend(48_000u32.to_le_bytes());
    file.extend(192_000u32.to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend(size.to_le_bytes());
    file.extend((0..size / 4).flat_map(|index| index.wrapping_mul(2_654_435_761).to_le_bytes()));
    file
}

/// A box of an MP4.
fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat()
}

#[test]
fn a_long_recording_takes_no_more_memory_than_its_beginning() {
    let file = ten_minutes();
    for seconds in [1, 10, 60] {
        let options = DecodeOptions::first(seconds, 24_000);
        let (held, length) = most_held(&file, &options);
        assert_eq!(length.unwrap(), seconds as usize * 24_000);
        let bound = options.bytes_max(file.len() as u64);
        assert!(held <= bound, "{held} of {bound} bytes");
        // Two tracks of samples, the result that one of them becomes, and the resamplers.
        let needed = 3 * 4 * seconds as usize * 24_000 + (4 << 20);
        assert!(held <= needed, "{seconds} s take {held} bytes");
    }
}

#[test]
fn a_recording_read_piece_by_piece_takes_the_same_memory_whatever_its_length() {
    let file = ten_minutes();
    for mix in [Mix::Mean, Mix::LoudestChannel] {
        let (held, bound) = most_held_in_pieces(&file, mix);
        let second = &file[..44 + 192_000];
        let (held_of_second, bound_of_second) = most_held_in_pieces(second, mix);
        assert_eq!(bound_of_second, bound);
        // Vectors grow to sizes that depend on where the pieces end.
        let apart = held.abs_diff(held_of_second);
        assert!(apart < 32 << 10, "{held} and {held_of_second} bytes");
        assert!(held <= bound && bound < 8 << 20, "{held} of {bound} bytes");
    }
}

#[test]
fn every_container_is_decoded_within_the_bound() {
    let options = DecodeOptions::first(2, 24_000);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::read(&path).unwrap();
        let (held, _) = most_held(&file, &options);
        assert!(held <= options.bytes_max(file.len() as u64));
        assert!(held < 6 << 20, "{} takes {held} bytes", path.display());
        for mix in [Mix::Mean, Mix::LoudestChannel] {
            let (held, bound) = most_held_in_pieces(&file, mix);
            let name = path.display();
            assert!(held <= bound, "{name}: {held} of {bound} bytes");
        }
    }
}

#[test]
fn tables_tags_and_packets_of_any_length_respect_the_bound() {
    let options = DecodeOptions::first(60, 24_000);
    let filler = vec![0x5au8; 40 << 20];

    // An index with ten million entries.
    let mut table = vec![0; 8];
    table.extend(10_000_000u32.to_be_bytes());
    table.extend(&filler);
    let mp4 = recording("aac.m4a");
    let mut samples = boxed(b"stsz", &table);
    samples.extend(boxed(b"stts", &table));
    for name in [b"stbl", b"minf"] {
        samples = boxed(name, &samples);
    }
    // A track of sound.
    let handler = boxed(b"hdlr", b"\0\0\0\0\0\0\0\0soun\0\0\0\0\0\0\0\0\0\0\0\0\0");
    samples = [handler, samples].concat();
    for name in [b"mdia", b"trak", b"moov"] {
        samples = boxed(name, &samples);
    }
    let index = [&mp4[..28], &samples].concat();

    // A block of 40 MB in a cluster, and a tag of that length.
    let webm = recording("opus.webm");
    let cluster = webm
        .windows(4)
        .position(|bytes| bytes == b"\x1f\x43\xb6\x75")
        .unwrap();
    let block = |id: &[u8]| {
        let mut file = webm[..cluster].to_vec();
        file.extend(b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff\xe7\x81\0");
        file.extend(id);
        file.extend([
            0x10 | (filler.len() >> 24) as u8,
            (filler.len() >> 16) as u8,
        ]);
        file.extend([(filler.len() >> 8) as u8, filler.len() as u8]);
        file.extend(b"\x81\0\0\x80");
        file.extend(&filler);
        file
    };

    // A FLAC whose comments have the maximum length.
    let mut flac = b"fLaC".to_vec();
    flac.extend(&recording("speech.flac")[4..42]);
    flac[4] = 0;
    // A vendor name of nearly that length.
    flac.extend(b"\x04\xff\xff\xff\xf0\xff\xff\0");
    flac.extend(&filler);
    let (held, _) = most_held(&flac, &options);
    let bound = options.bytes_max(flac.len() as u64);
    assert!(held <= bound, "comments: {held} bytes");
    let (held, bound) = most_held_in_pieces(&flac, Mix::Mean);
    assert!(held <= bound, "comments in pieces: {held} bytes");

    for (name, file) in [
        ("index", index),
        ("block", block(b"\xa3")),
        ("tags", block(b"\x12\x54\xc3\x67")),
    ] {
        let (held, result) = most_held(&file, &options);
        let bound = options.bytes_max(file.len() as u64);
        assert!(held <= bound, "{name}: {held} of {bound} bytes");
        let is_refused = matches!(result, Err(AudioError::TooLarge { .. }));
        assert!(is_refused, "{name}: {result:?}");
        let (held, bound) = most_held_in_pieces(&file, Mix::Mean);
        assert!(held <= bound, "{name} in pieces: {held} of {bound} bytes");
    }
}
