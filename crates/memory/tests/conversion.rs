//! Traces converted to another format keep their meaning.

use proptest::prelude::*;
use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::pool::PoolConfiguration;
use sottovoce_memory::trace::replay::{Replay, ReplayReport};
use sottovoce_memory::trace::{self, Event, Reader, TraceFormat};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Events with ids numbered by birth and tags in full.
fn spelt(mut reader: Reader) -> Vec<String> {
    let mut numbers = HashMap::new();
    let mut lines = Vec::new();
    while let Some(event) = reader.next() {
        lines.push(match event.unwrap() {
            Event::Allocate {
                id,
                bytes,
                tag,
                stream,
            } => {
                let number = numbers.len();
                numbers.insert(id, number);
                format!("a {number} {bytes} {} {stream}", reader.tags().name(tag))
            }
            Event::Free { id } => format!("f {}", numbers[&id]),
            Event::Marker(text) => format!("m {text}"),
        });
    }
    lines
}

fn convert(mut reader: Reader, format: TraceFormat, compressed: bool) -> tempfile::NamedTempFile {
    let mut bytes = Vec::new();
    trace::write(&mut reader, format, compressed, &mut bytes).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile) -> Reader {
    Reader::open(file.path()).unwrap()
}

fn replay(reader: Reader) -> ReplayReport {
    let driver = Box::new(SimulatedDriver::new(1 << 40));
    let mut replay = Replay::new(driver, PoolConfiguration::default(), None);
    replay.run_events(reader).unwrap();
    replay.report()
}

#[test]
fn a_snapshot_converted_from_a_trace_reserves_what_the_trace_does() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/allocator_cases");
    let mut count = 0;
    for entry in std::fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        let is_trace = path
            .extension()
            .is_some_and(|extension| extension == "trace");
        // Some cases use more than a trace can express, such as blocks in use on several streams.
        if !is_trace || Reader::open(&path).unwrap().any(|event| event.is_err()) {
            continue;
        }
        let file = convert(
            Reader::open(&path).unwrap(),
            TraceFormat::Snapshot,
            count % 2 == 0,
        );
        let (direct, through) = (replay(Reader::open(&path).unwrap()), replay(open(&file)));
        assert_eq!(direct.peak_reserved, through.peak_reserved, "{path:?}");
        assert_eq!(direct.peak_requested, through.peak_requested, "{path:?}");
        let recorded = open(&file).snapshot().unwrap().unwrap().clone();
        assert_eq!(recorded.end_reserved, direct.end_reserved, "{path:?}");
        assert_eq!(recorded.end_allocated, direct.end_allocated, "{path:?}");
        assert_eq!(recorded.peak_reserved, direct.peak_reserved, "{path:?}");
        count += 1;
    }
    assert!(count >= 15, "only {count} cases were found");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_trace_survives_conversion_to_text_and_to_a_snapshot(
        steps in prop::collection::vec((0_u8..3, 1_u64..40_000_000, 0_u64..3, "[a-z]{1,3}( [a-z0-9]{1,2})?"), 0..200)
    ) {
        let mut text = String::new();
        let mut live = Vec::new();
        for (number, (kind, bytes, stream, name)) in steps.iter().enumerate() {
            match kind {
                // A snapshot keeps a marker if an allocation follows it directly.
                0 => text += &format!("m {name} {number}\na {number} {bytes} {name} stream={stream}\n"),
                1 => text += &format!("a {number} {bytes} {name} stream={stream}\n"),
                _ if !live.is_empty() => {
                    let id = live.remove(*bytes as usize % live.len());
                    text += &format!("f {id}\n");
                    continue;
                }
                _ => continue,
            }
            live.push(number);
        }
        let reader = || Reader::text(std::io::Cursor::new(text.clone()));
        let expected = spelt(reader());
        let through_text = convert(reader(), TraceFormat::Text, true);
        prop_assert_eq!(&spelt(open(&through_text)), &expected);
        let through_snapshot = convert(reader(), TraceFormat::Snapshot, false);
        prop_assert_eq!(&spelt(open(&through_snapshot)), &expected);
    }
}
