//! What the trace reader accepts and refuses.

use sottovoce_formats::content;
use sottovoce_memory::trace::{Event, Reader, TraceError, TraceErrorKind, TracePosition};
use std::io::Write;
use std::path::Path;

fn read(text: &'static str) -> Result<Vec<Event>, TraceError> {
    Reader::text(text.as_bytes()).collect()
}

#[test]
fn events_come_in_order_with_tags_and_streams() {
    let mut reader = Reader::text(
        &b"# made by hand\nm load all\na 7 512 big mul\r\n\na 8 0 stream=3\nf 7\na 9 1 w stream=12"
            [..],
    );
    let events: Vec<Event> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    let shown: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::Allocate {
                id,
                bytes,
                tag,
                stream,
            } => format!("{id} {bytes} [{}] {stream}", reader.tags().name(*tag)),
            Event::Free { id } => format!("free {id}"),
            Event::Marker(text) => format!("marker {text}"),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "marker load all",
            "7 512 [big mul] 0",
            "8 0 [] 3",
            "free 7",
            "9 1 [w] 12"
        ]
    );
}

#[test]
fn malformed_lines_are_named_by_number() {
    let rows = [
        (
            "a 1 5 x\na 1 6 y\n",
            "line 2: id 1 is allocated again while it is live",
        ),
        ("f 3\n", "line 1: id 3 is freed but not live"),
        ("a 1 5 x\nf 1\nf 1\n", "line 3: id 1 is freed but not live"),
        (
            "a 1 -5 x\n",
            "line 1: `-5` is not a size (bytes from 0 to 2^63 − 1)",
        ),
        (
            "a 1 9223372036854775808 x\n",
            "line 1: `9223372036854775808` is not a size (bytes from 0 to 2^63 − 1)",
        ),
        (
            "a 1\n",
            "line 1: `` is not a size (bytes from 0 to 2^63 − 1)",
        ),
        (
            "a -1 5 x\n",
            "line 1: `-1` is not an id (a number from 0 to 2^64 − 1)",
        ),
        (
            "a 18446744073709551616 5 x\n",
            "line 1: `18446744073709551616` is not an id (a number from 0 to 2^64 − 1)",
        ),
        (
            "a 1 5 x stream=side\n",
            "line 1: `stream=side` is not a stream (stream= and a number from 0 to 2^64 − 1)",
        ),
        (
            "f\n",
            "line 1: `` is not an id (a number from 0 to 2^64 − 1)",
        ),
        (
            "a 1 9223372036854775807 x\na 2 1 x\n",
            "line 2: the live bytes exceed 2^63 − 1",
        ),
        (
            "\u{0}\u{1}binary",
            "line 1: expected `a ID BYTES TAG`, `f ID` or `m TEXT`, found `\\x00\\x01binary`",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(read(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn nothing_follows_an_error() {
    let mut reader = Reader::text(&b"a 1 1 x\nf 2\nf 1\n"[..]);
    assert!(reader.next().unwrap().is_ok());
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn an_id_may_be_reused_after_it_was_freed() {
    assert_eq!(read("a 1 5 x\nf 1\na 1 6 x\n").unwrap().len(), 3);
}

#[test]
fn an_endless_line_is_refused_and_not_collected() {
    let endless = std::io::repeat(b'm');
    let error = Reader::text(endless).next().unwrap().unwrap_err();
    assert!(matches!(error.kind, TraceErrorKind::LineTooLong(_)));
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut encoder = content::compress(Vec::new());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn open(bytes: &[u8]) -> Result<Vec<Event>, TraceError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Reader::open(file.path())?.collect()
}

#[test]
fn gzip_is_detected_by_content_and_its_end_is_checked() {
    let lines: String = (0..5000)
        .map(|id| format!("a {id} {} t\n", id * 31))
        .collect();
    let whole = compressed(lines.as_bytes());
    assert_eq!(open(&whole).unwrap().len(), 5000);
    for cut in [2, 9, 40, whole.len() / 2, whole.len() - 1] {
        let error = open(&whole[..cut]).unwrap_err();
        assert!(
            matches!(error.kind, TraceErrorKind::TruncatedGzip),
            "cut at {cut}: {error}"
        );
    }
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    damaged[middle + 1] ^= 0x55;
    assert!(open(&damaged).is_err());
    // Two gzip members in a row are one trace.
    let two = [compressed(b"a 1 1 x\n"), compressed(b"f 1\n")].concat();
    assert_eq!(open(&two).unwrap().len(), 2);
}

#[test]
fn errors_name_the_file_and_the_line() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&compressed(b"a 1 1 x\nwhat\n")).unwrap();
    let error = Reader::open(file.path())
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert_eq!(error.position, TracePosition::Line(2));
    assert_eq!(error.file.as_deref(), Some(file.path()));
}

#[test]
fn files_that_are_not_traces_are_named() {
    let error = open(b"PK\x03\x04rest").unwrap_err();
    assert!(error.to_string().contains("zip archive"), "{error}");
    let error = open(&compressed(&compressed(b"a 1 1 x\n"))).unwrap_err();
    assert!(error.to_string().contains("gzip within gzip"), "{error}");
    let error = open(b"").unwrap_err();
    assert!(error.to_string().contains("the file is empty"), "{error}");
    assert_eq!(open(b"# nothing happened\n").unwrap(), []);
    assert!(Reader::open(Path::new("/nonexistent/trace")).is_err());
    assert!(Reader::open(Path::new("/")).is_err());
}

#[test]
fn a_trace_with_too_many_streams_is_refused() {
    let text: String = (0..70_000)
        .map(|stream| format!("a {stream} 512 t stream={stream}\n"))
        .collect();
    let error = Reader::text(std::io::Cursor::new(text))
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(error.kind, TraceErrorKind::TooManyStreams(4096)));
}
