//! PyTorch's snapshots: what is read from them, and the results of a replay.

use sottovoce_formats::content;
use sottovoce_formats::pickle::PickleWriter;
use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::pool::PoolConfiguration;
use sottovoce_memory::trace::replay::Replay;
use sottovoce_memory::trace::{Event, Reader, SnapshotSummary, TraceError};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

const DEVICE_BYTES: u64 = 24 << 30;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/snapshots")
        .join(format!("{name}.pickle.gz"))
}

fn summary(name: &str) -> SnapshotSummary {
    let mut reader = Reader::open(&file(name)).unwrap();
    reader.snapshot().unwrap().unwrap().clone()
}

/// Replays under the snapshot's own settings, from the state at the start of the recording.
fn replay(name: &str) -> Replay {
    let mut reader = Reader::open(&file(name)).unwrap();
    let settings = reader.snapshot().unwrap().unwrap().configuration.clone();
    let configuration = PoolConfiguration::parse(&settings).unwrap();
    let beginning = reader.take_beginning(&configuration).unwrap().unwrap();
    let driver = SimulatedDriver::new(DEVICE_BYTES).with_places(&beginning.places);
    let mut replay = Replay::new(Box::new(driver), configuration, None);
    replay.prime(beginning.events);
    let reserved = replay.pool().statistics().reserved_bytes.all.current;
    assert_eq!(reserved, summary(name).start_reserved, "{name} begins with");
    replay.run_events(reader).unwrap();
    replay
}

#[test]
fn a_replay_ends_with_the_reserved_bytes_that_were_recorded() {
    for name in [
        "medium_512_inference",
        "medium_512_training",
        "expandable",
        "expandable_wrapped",
        "newer",
        "protocol_0",
        "settings",
        "streams",
        "streams_wrapped",
        "wrapped",
    ] {
        let recorded = summary(name);
        let report = replay(name).report();
        assert_eq!(
            report.end_reserved, recorded.end_reserved,
            "{name} in the end"
        );
        assert_eq!(
            report.peak_reserved, recorded.peak_reserved,
            "{name} at most"
        );
    }
}

#[test]
fn refused_requests_are_counted() {
    assert_eq!(summary("settings").ooms, 3);
}

#[test]
fn blocks_live_before_the_ring_are_reconstructed() {
    let recorded = summary("medium_512_training");
    assert_eq!(recorded.entries, 22332);
    assert_eq!(recorded.start_live_count, 664);
    let events: Vec<Event> = Reader::open(&file("medium_512_training"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let begins = events
        .iter()
        .position(|event| matches!(event, Event::Marker(text) if &**text == "recording"))
        .unwrap();
    let early: u64 = events[..begins]
        .iter()
        .map(|event| match event {
            Event::Allocate { bytes, .. } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(early, recorded.start_live);
}

#[test]
fn tags_name_who_asked() {
    let mut reader = Reader::open(&file("medium_512_training")).unwrap();
    reader.by_ref().for_each(|event| drop(event.unwrap()));
    let tags: Vec<&str> = reader.tags().names().collect();
    assert!(tags.contains(&"forward (model.py:54)"), "{tags:?}");
    assert!(tags.iter().all(|tag| tag.chars().count() < 120), "{tags:?}");
}

/// A handmade snapshot of one device.
fn snapshot(events: &[(&str, i64, i64)]) -> Vec<u8> {
    snapshot_of_devices(&[events])
}

/// A handmade snapshot without segments.
fn snapshot_of_devices(devices: &[&[(&str, i64, i64)]]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = PickleWriter::new(&mut file).unwrap();
    writer.begin_dictionary().unwrap();
    for key in ["segments", "device_traces"] {
        writer.text(key).unwrap();
        writer.begin_list().unwrap();
        for events in devices.iter().filter(|_| key == "device_traces") {
            writer.begin_list().unwrap();
            for &(action, address, bytes) in *events {
                writer.begin_dictionary().unwrap();
                writer.text("action").unwrap();
                writer.text(action).unwrap();
                for (key, value) in [("addr", address), ("size", bytes), ("stream", 0)] {
                    writer.text(key).unwrap();
                    writer.integer(value).unwrap();
                }
                writer.end().unwrap();
            }
            writer.end().unwrap();
        }
        writer.end().unwrap();
    }
    writer.end().unwrap();
    writer.finish().unwrap();
    file
}

fn read(bytes: Vec<u8>) -> Result<Vec<Event>, TraceError> {
    Reader::snapshot_from(move || Ok(Cursor::new(bytes.clone()))).collect()
}

fn shown(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::Allocate { id, bytes, .. } => format!("a {id} {bytes}"),
            Event::Free { id } => format!("f {id}"),
            Event::Marker(text) => format!("m {text}"),
        })
        .collect()
}

#[test]
fn frees_take_effect_when_they_are_completed() {
    let events = read(snapshot(&[
        ("alloc", 100, 7),
        ("free_requested", 100, 7),
        ("alloc", 200, 8),
        ("free_completed", 100, 7),
        ("free_requested", 300, 9),
        ("free_completed", 300, 9),
        ("segment_free", 1000, 10),
        ("segment_free", 2000, 10),
        ("oom", 5, 11),
        ("alloc", 300, 12),
        ("something_new", 0, 0),
    ]))
    .unwrap();
    assert_eq!(
        shown(&events),
        [
            "m (before the recording)",
            "a 0 9",
            "m recording",
            "a 1 7",
            "a 2 8",
            "f 1",
            "f 0",
            "m clear",
            "m oom 11 stream=0",
            "a 3 12"
        ]
    );
}

#[test]
fn requested_frees_count_where_completions_were_not_recorded() {
    let events = read(snapshot(&[
        ("alloc", 100, 7),
        ("free_requested", 100, 7),
        ("alloc", 100, 8),
    ]))
    .unwrap();
    assert_eq!(shown(&events), ["a 0 7", "f 0", "a 1 8"]);
}

#[test]
fn of_several_devices_the_largest_is_read_unless_another_is_chosen() {
    let file = snapshot_of_devices(&[
        &[("alloc", 1, 1), ("alloc", 2, 1), ("alloc", 3, 1)],
        &[],
        &[("alloc", 4, 2), ("segment_free", 8, 1 << 21)],
    ]);
    let reader = || {
        let file = file.clone();
        Reader::snapshot_from(move || Ok(Cursor::new(file.clone())))
    };
    let mut largest = reader();
    let summary = largest.snapshot().unwrap().unwrap().clone();
    assert_eq!((summary.device, summary.devices), (2, vec![0, 2]));
    let events: Vec<Event> = largest.collect::<Result<_, _>>().unwrap();
    assert_eq!(shown(&events), ["a 0 2", "m clear"]);
    let mut chosen = reader();
    chosen.choose_device(0).unwrap();
    assert_eq!(chosen.count(), 3);
    let mut missing = reader();
    missing.choose_device(1).unwrap();
    let error = missing.next().unwrap().unwrap_err().to_string();
    assert_eq!(error, "it says nothing of device 1, only of devices 0, 2");
    let text = Reader::text(&b"a 1 1 x\n"[..]).choose_device(0);
    assert!(text.is_err());
}

#[test]
fn a_failed_request_reveals_the_devices_size_and_is_retried() {
    const MIB: i64 = 1 << 20;
    // 400 MiB held, 100 freed, 200 free: 500 MiB are requested, and the device has 500 in all.
    let bytes = snapshot(&[
        ("segment_alloc", 0x1000_0000, 300 * MIB),
        ("alloc", 0x1000_0000, 300 * MIB),
        ("segment_alloc", 0x8000_0000, 100 * MIB),
        ("alloc", 0x8000_0000, 100 * MIB),
        ("free_completed", 0x8000_0000, 100 * MIB),
        ("segment_free", 0x8000_0000, 100 * MIB),
        ("oom", 200 * MIB, 500 * MIB),
        ("segment_alloc", 0x9000_0000, 100 * MIB),
        ("alloc", 0x9000_0000, 100 * MIB),
    ]);
    // Without final segments the sums begin below zero, so they are needed here.
    let open = move || Ok(Cursor::new(bytes.clone()));
    let mut reader = Reader::snapshot_from(open.clone());
    let summary = reader.snapshot().unwrap().unwrap().clone();
    assert_eq!(summary.ooms, 1);
    let refusal = &summary.refusals[0];
    assert_eq!((refusal.device, refusal.bytes), (0, 500 << 20));
    assert_eq!(refusal.free_bytes, Some(200 << 20));
    assert!(summary.says_device_bytes());
    assert!(summary.known_device_bytes() >= 200 << 20);
    for (device_bytes, let_in) in [(500 << 20, 0), (900 << 20, 1)] {
        let driver = Box::new(SimulatedDriver::new(device_bytes));
        let mut replay = Replay::new(driver, PoolConfiguration::default(), None);
        replay
            .run_events(Reader::snapshot_from(open.clone()))
            .unwrap();
        let report = replay.report();
        assert_eq!(
            (report.ooms, report.let_in),
            (0, let_in),
            "on {device_bytes} bytes"
        );
        assert_eq!(report.let_in + report.refused_again, 1);
    }
}

#[test]
fn files_of_other_tools_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, words) in [
        (
            "trace.json",
            r#"{"schemaVersion": 1, "traceEvents": []}"#,
            "a trace of torch.profiler",
        ),
        (
            "snapshot.json",
            r#" {"segments": [], "device_traces": []}"#,
            "a memory snapshot written as JSON",
        ),
        (
            "timeline.json",
            "[[0, 5, 9], [[1, 2], [3, 4]]]",
            "a memory timeline of torch.profiler",
        ),
        ("other.json", "{\"a\": 1}", "this is JSON"),
        (
            "timeline.html",
            "<html><img src='data:'/></html>",
            "an HTML page",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let error = Reader::open(&path).err().unwrap().to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
        // The same when compressed.
        let path = folder.path().join(format!("{name}.gz"));
        let mut encoder = content::compress(std::fs::File::create(&path).unwrap());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let error = Reader::open(&path).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn errors_of_malformed_snapshots_name_the_problem_and_its_position() {
    let rows: [(Vec<u8>, &str); 7] = [
        (snapshot(&[("alloc", 1, -5)]), "`size` is -5"),
        (snapshot(&[("alloc", -1, 5)]), "`addr` is -1"),
        (b"\x80\x04K\x01.".to_vec(), "it has no list of `segments`"),
        (
            b"\x80\x04}\x8c\x05model](K\x01K\x02es.".to_vec(),
            "it has no list of `segments`",
        ),
        (b"\x80\x04".to_vec(), "byte 2: the file is truncated"),
        (
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.".to_vec(),
            "it names the code `os.system`",
        ),
        (
            b"\x80\x04}\x94(\x8c\x08segments](}\x94(\x8c\x07addressK\x01ueu.".to_vec(),
            "a segment is malformed: `total_size` is missing",
        ),
    ];
    for (bytes, expected) in rows {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_truncated_snapshot_is_an_error_and_not_a_shorter_one() {
    let mut whole = Vec::new();
    std::fs::File::open(file("wrapped"))
        .unwrap()
        .read_to_end(&mut whole)
        .unwrap();
    for cut in [30, whole.len() / 2, whole.len() - 9] {
        let bytes = whole[..cut].to_vec();
        assert!(read(bytes).is_err(), "cut at {cut}");
    }
    let mut plain = Vec::new();
    content::decompress(&whole[..])
        .read_to_end(&mut plain)
        .unwrap();
    let cut = plain.len() / 2;
    assert!(read(plain[..cut].to_vec()).is_err());
    // Compressed or not, the trace is the same.
    let compressed = read(whole).unwrap();
    assert_eq!(compressed, read(plain).unwrap());
}

#[test]
fn a_long_snapshot_is_read_in_bounded_memory() {
    // 200,000 events in memory would take far more than the rest of the document.
    let mut events = Vec::new();
    for round in 0..100_000 {
        events.push(("alloc", 1000 + round % 7, 512 + round));
        events.push(("free_completed", 1000 + round % 7, 512 + round));
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&snapshot(&events)).unwrap();
    let mut count = 0;
    for event in Reader::open(file.path()).unwrap() {
        event.unwrap();
        count += 1;
    }
    assert_eq!(count, 200_000);
}
