//! Writer of the text format.

use super::WriteError;
use crate::trace::{Event, Reader};
use std::borrow::Cow;
use std::io::Write;

/// Writes the events of `reader` and returns their number.
pub(super) fn write(reader: &mut Reader, mut sink: impl Write) -> Result<u64, WriteError> {
    let mut events = 0;
    while let Some(event) = reader.next() {
        match event? {
            Event::Allocate {
                id,
                bytes,
                tag,
                stream,
            } => {
                let tag = one_line(reader.tags().name(tag));
                write!(sink, "a {id} {bytes} {tag}")?;
                // A tag with this ending would be mistaken for a stream.
                if stream != 0 || tag.contains("stream=") {
                    write!(sink, " stream={stream}")?;
                }
                writeln!(sink)?;
            }
            Event::Free { id } => writeln!(sink, "f {id}")?,
            Event::Marker(text) => writeln!(sink, "m {}", one_line(&text))?,
        }
        events += 1;
    }
    Ok(events)
}

fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) {
        Cow::Owned(text.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    }
}
